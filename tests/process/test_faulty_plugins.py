"""Ways for a plugin to be wrong: one line names plugin and fault, and nothing is started that would fail again."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ErrorCode, MissingError, UsageError
from dotsctl.protocol.messages import PageFailed, PageResult
from dotsctl.protocol.parts import Role

from tests.process.conftest import Instance, dotsctl

pytestmark = pytest.mark.process
Start = Callable[..., Instance]

ENCODER = """\
import hashlib, os, sys, threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.worker.plugin_options import option
from dotsctl.protocol.worker.plugins import PluginDescription


@dataclass(frozen=True)
class DigestOptions:
    rows: int = option(1, "rows of a page", minimum=1)


class DigestEncoder:
    description = PluginDescription(options=DigestOptions, needs_model=False, reads_pages=False)

    def __init__(self):
        with Path(STARTS).open("a") as starts:
            starts.write("start\\n")
        # constructor

    def load(self, model, options, report):
        self.rows = options.rows
        spec = EncoderSpec(hashlib.sha256(b"fake").hexdigest(), 1024, "<f4")
        # load
        return spec

    def encode(self, images):
        content, rows = images[0].content, self.rows
        is_warm_up = content is None
        content = images[0].pixels.tobytes() if is_warm_up else content
        digest = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        values = np.tile(digest.astype(np.float32), (rows, 32))
        size = (28 * rows, 28)
        geometry, grid = PageGeometry(size, 1, size, (1.0, 1.0)), (2, 2 * rows)
        is_bad = b"bad" in content
        # encode
        return [EncodedPage(values, grid, geometry)]

    def close(self):
        pass
"""
PAGE_FAULTS = {
    "raise": ("raise RuntimeError('cannot find GPU')", r"raised RuntimeError: cannot find GPU"),
    "exit": ("sys.exit(3)", r"called sys.exit\(3\)"),
    "nan": ("values[0, 0] = np.nan", "1 of 1024 embedding values are not finite"),
    "dtype": ("values = values.astype('f8')", "embeddings are float64, announced as '<f4'"),
    "rows": ("values = values[:0]", r"embeddings have shape \(0, 1024\), not \(1, 1024\)"),
    "grid": ("grid = (2, 3)", "grid 2x3 is not made of blocks of 2x2 patches"),
    "geometry": ("geometry = None", "geometry is None, not a PageGeometry"),
    "no-list": ("return None", "encode returned None, not a list of EncodedPage"),
    "array": ("return [values]", "encode returned a list of ndarray, not a list of EncodedPage"),
    "too-many": ("return 2 * [EncodedPage(values, grid, geometry)]", "encode returned 2 pages for 1 images"),
}


@pytest.fixture
def plugin(install: Callable[..., None], tmp_path: Path) -> Callable[..., Path]:
    """Install a plugin with a fault, and return the file that gets a line for each time it is started."""

    def make(place: str = "", fault: str = "", source: str = ENCODER, **where: str) -> Path:
        starts = tmp_path / "starts"
        indent = source[: source.index(f"# {place}")].rpartition("\n")[2] if place else ""
        lines = textwrap.indent(fault, indent).lstrip()
        install("faulty", f"STARTS = {str(starts)!r}\n{source.replace(f'# {place}', lines)}", **where)
        return starts

    return make


def reported(start: Start, *plugins: str, **limits: object) -> DotsctlError:
    """The error that ends the runtime; in one line, and naming the plugin."""
    with pytest.raises(DotsctlError) as caught:
        start(*plugins, **limits)
    assert "digest" in str(caught.value) and "\n" not in str(caught.value)
    return caught.value


def num_starts(starts: Path) -> int:
    return len(starts.read_text().splitlines()) if starts.exists() else 0


@pytest.mark.parametrize(
    ("place", "fault", "words"),
    [
        ("constructor", "raise KeyError('x')", r"raised KeyError: 'x' in its constructor \(__init__.py:\d+\)"),
        ("load", "raise RuntimeError('cannot find GPU')", r"raised RuntimeError: cannot find GPU in load \(__init__"),
        ("load", "raise OSError('two\\nlines')", "raised OSError: two lines in load"),
        ("load", "raise MemoryError", "raised MemoryError in load"),
        ("load", "sys.exit(3)", r"called sys.exit\(3\) in load"),
        ("load", "os._exit(3)", "the encoder worker ended itself with exit code 3 while loading"),
        ("load", "return None", "fails on load: load returned None, not an EncoderSpec"),
        ("load", "return EncoderSpec('x', 1024, 'float32')", "has dtype 'float32', not one of <f2, <f4, bf16"),
        ("encode", "os._exit(3)", "the encoder worker ended itself with exit code 3 while loading"),
    ],
)
def test_a_fault_in_load_ends_the_runtime_at_once(
    plugin: Callable[..., Path], start: Start, place: str, fault: str, words: str
) -> None:
    starts = plugin(place, fault)
    error = reported(start, "digest")
    assert isinstance(error, CommandFailedError)
    with pytest.raises(CommandFailedError, match=words):
        raise error
    assert num_starts(starts) == 1


@pytest.mark.parametrize(("fault", "words"), PAGE_FAULTS.values(), ids=PAGE_FAULTS)
def test_a_fault_on_the_warm_up_page_ends_the_runtime_at_once(
    plugin: Callable[..., Path], start: Start, fault: str, words: str
) -> None:
    starts = plugin("encode", fault)
    with pytest.raises(CommandFailedError, match=rf"encoder 'digest' .*{words}"):
        raise reported(start, "digest")
    assert num_starts(starts) == 1


@pytest.mark.parametrize(("fault", "words"), PAGE_FAULTS.values(), ids=PAGE_FAULTS)
def test_a_fault_on_a_page_fails_this_page_alone(
    plugin: Callable[..., Path], start: Start, fault: str, words: str
) -> None:
    starts = plugin("encode", f"if is_bad:\n    {fault}")
    answers = start("digest").read([b"good", b"bad", b"fine"])
    failed = answers.pop(1)
    assert isinstance(failed, PageFailed) and failed.code in (ErrorCode.INTERNAL, ErrorCode.BAD_EMBED)
    with pytest.raises(RuntimeError, match=rf"^encoder 'digest'.*{words}"):
        raise RuntimeError(failed.message)
    assert "\n" not in failed.message
    assert {n: answer.text for n, answer in answers.items() if isinstance(answer, PageResult)} == {
        0: fake_text(b"good"),
        2: fake_text(b"fine"),
    }
    assert num_starts(starts) == 1


@pytest.mark.parametrize("condition", ["", "if is_warm_up:\n    "], ids=["load", "warm-up"])
def test_a_hang_before_the_first_page_ends_the_runtime_after_the_load_limit(
    plugin: Callable[..., Path], start: Start, condition: str
) -> None:
    starts = plugin("encode" if condition else "load", f"{condition}threading.Event().wait()")
    error = reported(start, "digest", load_timeout_s=5.0)
    assert "digest: the encoder worker made no progress for 5 s while loading, at " in str(error)
    assert num_starts(starts) <= 1, "on a busy machine it may be ended before the plugin is made"


@pytest.mark.parametrize(("fault", "how"), [("os._exit(3)", "exit code 3"), ("threading.Event().wait()", "SIGKILL")])
def test_a_page_on_which_the_plugin_ends_its_process_or_hangs_names_the_plugin(
    plugin: Callable[..., Path], start: Start, fault: str, how: str
) -> None:
    plugin("encode", f"if is_bad:\n    {fault}")
    answers = start("digest:rows=2", stall_timeout_s=0.5).read([b"good", b"bad"])
    failed = answers[1]
    assert isinstance(failed, PageFailed) and failed.code is ErrorCode.POISON
    assert "the encoder digest:rows=2 died 2 times while working on this page alone" in failed.message
    assert how in failed.message and isinstance(answers[0], PageResult)


def test_what_a_plugin_prints_goes_into_its_log_and_harms_nothing(plugin: Callable[..., Path], start: Start) -> None:
    plugin("encode", "print('hello from the plugin', flush=True)")
    instance = start("digest")
    answer = instance.read([b"page"])[0]
    assert isinstance(answer, PageResult) and answer.text == fake_text(b"page")
    log = next(worker.log for worker in instance.status().workers if worker.role is Role.ENCODER)
    assert "hello from the plugin" in Path(log).read_text()


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("digest:row=2", "encoder digest has no option 'row': write rows; 'dotsctl plugins' explains"),
        (
            "digest:rows=many",
            "encoder digest: rows='many' is not a whole number, at least 1: correct it",
        ),
        ("digest:rows=0", "encoder digest: rows='0' is not a whole number, at least 1"),
    ],
)
def test_a_wrong_option_is_reported_with_its_limits(
    plugin: Callable[..., Path], start: Start, chosen: str, words: str
) -> None:
    starts = plugin()
    error = reported(start, chosen)
    assert isinstance(error, UsageError) and words in str(error)
    assert num_starts(starts) == 0


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (
            "raise RuntimeError('no licence')",
            CommandFailedError,
            "raised RuntimeError: no licence when it is imported",
        ),
        ("import sys\nsys.exit(3)", CommandFailedError, r"called sys.exit\(3\) when it is imported"),
        ("import missing_library", MissingError, "needs the module 'missing_library', which is not installed"),
        ("DigestEncoder = 7", CommandFailedError, "is a int, not a class"),
        ("def DigestEncoder(): pass", CommandFailedError, "is a function, not a class"),
        ("class DigestEncoder:\n    def load(self): pass", CommandFailedError, "has no method encode"),
        (
            ENCODER.replace("class DigestEncoder:", "class DigestEncoder:\n    prepare = None"),
            CommandFailedError,
            "prepare is no method",
        ),
        (ENCODER.replace("PluginDescription(", "dict("), CommandFailedError, "description is a dict, not a Plugin"),
    ],
    ids=["raises", "exits", "module", "value", "function", "method", "preparation", "description"],
)
def test_what_is_no_plugin_is_reported_at_once(
    plugin: Callable[..., Path], start: Start, source: str, error: type[Exception], words: str
) -> None:
    plugin(source=source)
    with pytest.raises(error, match=rf"encoder 'digest'.*{words}"):
        raise reported(start, "digest")


DECODER = """\
import hashlib, os, sys
from pathlib import Path

from dotsctl.decoder_worker.plugin import DecoderSpec, Finish, Piece
from dotsctl.protocol.parts import FinishReason


class DigestDecoder:
    def load(self, model, options, report):
        with Path(STARTS).open("a") as starts:
            starts.write("start\\n")
        self.running = []
        # load
        return DecoderSpec(hashlib.sha256(b"fake").hexdigest(), 1024, 1, ("text",))

    def has_room(self, prompt):
        return not self.running

    def admit(self, prompt):
        is_bad = list(prompt.embeddings[0, :32]) == list(hashlib.sha256(b"bad").digest())
        # admit
        self.running.append((prompt.page_id, is_bad))

    def step(self):
        page_id, is_bad = self.running[0]
        # step
        self.running.clear()
        return [Piece(page_id, "text", 1, Finish(FinishReason.STOP, "text", 1, 1))]

    def cancel(self, page_id):
        self.running.clear()

    def close(self):
        pass
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise RuntimeError('cannot find GPU')", r"raised RuntimeError: cannot find GPU in load \(__init__"),
        ("return None", "fails on load: it returned None, not a DecoderSpec"),
        ("return DecoderSpec('x', 1024, 0, ('text',))", "DecoderSpec has capacity 0, not a positive whole number"),
        ("os._exit(3)", "the decoder worker ended itself with exit code 3 while loading"),
    ],
)
def test_a_decoder_with_a_fault_in_load_ends_the_runtime_at_once(
    plugin: Callable[..., Path], start: Start, fault: str, words: str
) -> None:
    starts = plugin("load", fault, DECODER, cls="DigestDecoder", group="dotsctl.decoders")
    with pytest.raises(CommandFailedError, match=words):
        raise reported(start, "fake", "digest")
    assert num_starts(starts) == 1


@pytest.mark.parametrize(
    ("place", "fault", "words"),
    [
        ("admit", "raise ValueError('odd page')", "raised ValueError: odd page in admit"),
        ("step", "raise ValueError('odd page')", "raised ValueError: odd page"),
        ("step", "sys.exit(3)", r"called sys.exit\(3\)"),
        ("step", "return None", "step returned None, not a list of Piece"),
        ("step", "return [Piece(99, '', 1)]", "step returned a piece of page 99, which does not run"),
        ("step", "return [Piece(page_id, b'', 1)]", "step returned text b''"),
        ("step", "return [Piece(page_id, '', 1, 'end')]", "step returned finish 'end', not a Finish"),
    ],
)
def test_a_decoder_with_a_fault_on_a_page_fails_this_page_alone(
    plugin: Callable[..., Path], start: Start, place: str, fault: str, words: str
) -> None:
    starts = plugin(place, f"if is_bad:\n    {fault}", DECODER, cls="DigestDecoder", group="dotsctl.decoders")
    answers = start("fake", "digest").read([b"good", b"bad", b"fine"])
    failed = answers.pop(1)
    assert isinstance(failed, PageFailed) and failed.code is ErrorCode.INTERNAL
    with pytest.raises(RuntimeError, match=rf"^decoder 'digest' .*{words}"):
        raise RuntimeError(failed.message)
    assert all(isinstance(answer, PageResult) and answer.text == "text" for answer in answers.values())
    assert num_starts(starts) == 1


def test_the_command_line_ends_with_the_line_and_an_exit_code(
    plugin: Callable[..., Path], run_folder: Path, tmp_path: Path
) -> None:
    starts = plugin("load", "raise RuntimeError('cannot find GPU')")
    process = dotsctl("up", "--encoder", "digest", "--decoder", "fake")
    out, err = process.communicate(timeout=40)
    assert process.returncode == 7 and not out
    (line,) = [line for line in err.splitlines() if "digest" in line and "RuntimeError" in line]
    assert "encoder 'digest' raised RuntimeError: cannot find GPU in load" in line
    assert "Traceback" not in err
    assert num_starts(starts) == 1
