"""Short names of models, and publishers under two names."""

from pathlib import Path

import pytest
from dotsctl.client.models.aliases import BUILDS, MODELS, repositories
from dotsctl.client.models.record import read_record
from dotsctl.protocol.errors import UsageError

from tests.fake_hub import FakeHub
from tests.pulling import Listener, refused, run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dots.ocr", ("rednote-hilab/dots.ocr", "dots-studio/dots.ocr")),
        ("dots.mocr-4bit", ("mlx-community/dots.mocr-4bit",)),
        ("Dots.OCR-mxfp8", ("mlx-community/dots.ocr-mxfp8",)),
        ("dots-studio/dots.mocr", ("dots-studio/dots.mocr", "rednote-hilab/dots.mocr")),
        ("rednote-hilab/dots.mocr-svg", ("rednote-hilab/dots.mocr-svg", "dots-studio/dots.mocr-svg")),
        ("mlx-community/dots.ocr-8bit", ("mlx-community/dots.ocr-8bit",)),
        ("somebody/dots.ocr", ("somebody/dots.ocr",)),
    ],
)
def test_a_name_stands_for_these_repositories(name: str, expected: tuple[str, ...]) -> None:
    assert repositories(name) == expected


def test_the_16_builds_of_mlx_community_have_short_names() -> None:
    names = {repositories(f"{model}-{build}")[0] for model in MODELS for build in BUILDS}
    assert len(names) == 16
    assert all(name.startswith("mlx-community/dots.") for name in names)


def test_another_word_is_refused_with_the_short_names() -> None:
    with pytest.raises(UsageError, match=r"is neither .* or dots\.ocr or dots\.mocr, with -bf16 or -4bit"):
        repositories("dots.ocr-3bit")


def test_a_short_name_installs_a_build_under_that_name(remote: FakeHub, pull_home: Path) -> None:
    remote.repo = "mlx-community/dots.mocr-4bit"
    folder = run(repo="dots.mocr-4bit")
    assert folder == pull_home / "dots.mocr-4bit"
    assert (record := read_record(folder)) and record.repo == "mlx-community/dots.mocr-4bit"


@pytest.mark.parametrize("name", ["dots.mocr", "rednote-hilab/dots.mocr", "dots-studio/dots.mocr"])
def test_the_publisher_is_found_under_both_of_its_names(remote: FakeHub, name: str) -> None:
    remote.repo = "dots-studio/dots.mocr"
    folder = run(repo=name)
    assert (record := read_record(folder)) and record.repo == "dots-studio/dots.mocr"
    remote.repo = "rednote-hilab/dots.mocr"
    listener = Listener()
    assert run(listener, repo=name) == folder
    assert "already" in listener.lines[-1]


def test_what_the_publisher_has_under_neither_name_is_named_as_it_was_written(remote: FakeHub) -> None:
    remote.repo = "mlx-community/dots.ocr"
    assert "has no repository rednote-hilab/dots.ocr, or it is private" in refused(repo="dots.ocr")


def test_a_gated_repository_is_not_looked_for_elsewhere(remote: FakeHub) -> None:
    remote.refusal = (403, {"X-Error-Code": "GatedRepo"})
    assert "rednote-hilab/dots.ocr is gated" in refused(repo="dots.ocr")
    assert len(remote.tokens) == 1
