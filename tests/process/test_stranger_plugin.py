"""Encoders of other people: installed beside dotsctl, found by their entry point, harmless when they are broken."""

from collections.abc import Callable

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.messages import PageResult

from tests.process.conftest import Instance, dotsctl

pytestmark = pytest.mark.process
Start = Callable[..., Instance]

PLUGIN = '''\
"""An encoder written against the documented contract alone."""

import hashlib

import numpy as np
from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import PageGeometry

WIDTH = 1024


class DigestEncoder:
    def load(self, model, options, report):
        if unknown := options.keys() - {"rows"}:
            raise UsageError(f"encoder digest has no option {min(unknown)!r}; it has: rows")
        self.rows = int(options.get("rows", "1"))
        report("nothing to load")
        return EncoderSpec(hashlib.sha256(b"fake").hexdigest(), WIDTH, "<f4")

    def encode(self, images):
        return [self.encode_one(image) for image in images]

    def encode_one(self, image):
        content = image.content if image.content is not None else image.pixels.tobytes()
        digest = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        values = np.tile(digest.astype(np.float32), (self.rows, WIDTH // 32))  # (rows, WIDTH)
        size = (28 * self.rows, 28)
        geometry = PageGeometry(source=size, orientation=1, resized=size, scale=(1.0, 1.0))
        return EncodedPage(values, (2, 2 * self.rows), geometry)

    def close(self):
        pass
'''
LATE = PLUGIN.replace('report("nothing to load")', "import missing_library")


def test_pages_go_through_an_encoder_that_dotsctl_has_never_heard_of(
    install: Callable[..., None], start: Start
) -> None:
    install("stranger_plugin", PLUGIN)
    contents = [b"page %d" % n for n in range(5)]
    answers = start("digest:rows=3").read(contents)
    for index, content in enumerate(contents):
        answer = answers[index]
        assert isinstance(answer, PageResult), answer
        assert answer.text == fake_text(content)
        assert (answer.encoder, answer.image_tokens) == ("digest:rows=3", 3)


def test_a_usage_error_of_the_plugin_is_the_users_error(install: Callable[..., None], start: Start) -> None:
    install("stranger_plugin", PLUGIN)
    with pytest.raises(UsageError, match="encoder digest has no option 'colour'"):
        start("digest:colour=blue")


def test_two_distributions_with_one_name_are_refused_and_both_named(install: Callable[..., None], start: Start) -> None:
    install("stranger_plugin", PLUGIN)
    install("other_stranger", PLUGIN)
    with pytest.raises(UsageError, match="uninstall one") as caught:
        start("digest")
    assert "stranger_plugin (stranger_plugin:DigestEncoder)" in str(caught.value)
    assert "other_stranger (other_stranger:DigestEncoder)" in str(caught.value)


def test_a_plugin_that_breaks_at_its_import_breaks_nothing_that_does_not_use_it(
    install: Callable[..., None], start: Start
) -> None:
    install("stranger_plugin", "raise RuntimeError('no licence key')")
    help_ = dotsctl("--help")
    out, err = help_.communicate(timeout=20)
    assert help_.returncode == 0 and "ocr" in out and not err
    answer = start("fake").read([b"page"])[0]
    assert isinstance(answer, PageResult) and answer.text == fake_text(b"page")


@pytest.mark.parametrize(
    ("source", "cls", "error", "words"),
    [
        (
            "raise RuntimeError('no licence key')",
            "X",
            CommandFailedError,
            "raised RuntimeError: no lic.*imported.*repair it",
        ),
        ("class X: (", "X", CommandFailedError, "SyntaxError"),
        ("class X: pass", "Y", CommandFailedError, "AttributeError.*'Y'"),
        ("import missing_library", "X", MissingError, r"'missing_library'.*pip install --force-reinstall dotsctl"),
        ("from os import missing_name", "X", MissingError, "cannot be imported .*missing_name"),
        (
            PLUGIN.replace('report("nothing to load")', "import missing_library"),
            "DigestEncoder",
            MissingError,
            "library",
        ),
    ],
    ids=["raises", "syntax", "no-class", "no-module", "no-name", "late"],
)
def test_a_broken_plugin_is_reported_at_once_when_it_is_chosen(
    install: Callable[..., None], start: Start, source: str, cls: str, error: type[Exception], words: str
) -> None:
    install("stranger_plugin", source, cls=cls)
    with pytest.raises(error, match=words) as caught:
        start("digest")
    assert "'digest'" in str(caught.value)
    assert "\n" not in str(caught.value), "a traceback instead of a reason"
