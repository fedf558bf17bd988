import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

HELP_CPU_S = 0.1
HEAVY = {"numpy", "zmq", "msgpack", "mlx", "PIL", "rich", "platformdirs"}
CHILD_TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def folder(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pictures(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (len(name), 0, 0)).save(name)


# --- ocr in a process of its own -------------------------------------------------------------------------------------

FAKE_PROGRAM = """
import sys, types
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.client.results.page import Page
class Client:
    model_name, fingerprint, encoder, decoder, tasks = "demo", "f", "mlx", "mlx", ("text",)
    def __init__(self, **_): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def ocr(self, inputs, **_):
        for number, page in enumerate(inputs):
            yield Page(page.source, page.path, 1, 1, "ok", "text " * 10_000)
            {between}
api = types.ModuleType("dotsctl.client.api")
api.Client = Client
mlx = PluginChoice("mlx")
settings.runtime_config = lambda choices, name: RuntimeConfig(name, "demo", "", mlx, mlx)
sys.modules["dotsctl.client.api"] = api
from dotsctl.client.cli.main import main
main()
"""


@contextlib.contextmanager
def child(between: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    program = FAKE_PROGRAM.replace("{between}", between)
    command = [sys.executable, "-P", "-c", program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_closed_pipe_ends_silently_with_141() -> None:
    pictures(*[f"{number}.png" for number in range(20)])
    with child("pass", "ocr", ".") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(CHILD_TIMEOUT_S) == 141
        assert process.stderr.read() == b""


def test_a_full_disk_behind_stdout_is_exit_5() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    pictures("a.png")
    command = [sys.executable, "-P", "-c", FAKE_PROGRAM.replace("{between}", "pass"), "ocr", "a.png"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=CHILD_TIMEOUT_S)
    assert (done.returncode, done.stderr) == (5, b"dotsctl: cannot write to standard output: No space left on device\n")


IN_WORK = """
            if number == 0:
                sys.stderr.write("waiting\\n"); sys.stderr.flush()
                sys.stdin.readline()
"""
"""A page is in work until a line comes; the one behind it is not begun."""


@contextlib.contextmanager
def reading(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command with a page in work."""
    pictures("a.png", "b.png")
    program = FAKE_PROGRAM.replace("            {between}", IN_WORK)
    command = [sys.executable, "-P", "-c", program, "ocr", "a.png", "b.png", "-o", "out", "-f", "txt", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        try:
            assert process.stderr is not None and process.stderr.readline() == b"waiting\n"
            yield process
        finally:
            process.kill()


def after(process: "subprocess.Popen[bytes]", text: bytes) -> None:
    """Read standard error until the text comes."""
    assert process.stderr is not None
    seen = b""
    while text not in seen:
        piece = process.stderr.read(1)
        assert piece, seen
        seen += piece


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_finishes_the_pages_in_work_and_the_same_command_resumes(number: signal.Signals) -> None:
    with reading() as process:
        process.send_signal(number)
        after(process, b"stopping after the pages in progress; press Ctrl-C again to stop now")
        assert process.poll() is None
        out, err = process.communicate(b"\n", CHILD_TIMEOUT_S)
        assert (process.returncode, out) == (128 + number, b""), err
        assert b"interrupted after 1 page;" in err and b"Traceback" not in err
    assert [path.name for path in Path("out").iterdir() if path.suffix == ".txt"] == ["a.txt"]
    assert [path.name for path in Path("out").glob(".*")] == [".dotsctl-journal.jsonl"]
    with child("pass", "ocr", "a.png", "b.png", "-o", "out", "-f", "txt") as process:
        _, err = process.communicate(timeout=CHILD_TIMEOUT_S)
        assert b"1 page read, 1 skipped" in err


def test_the_second_ctrl_c_stops_now_and_keeps_what_is_done() -> None:
    with reading() as process:
        process.send_signal(signal.SIGINT)
        after(process, b"to stop now")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=CHILD_TIMEOUT_S)
        assert (process.returncode, out) == (130, b""), err
        assert b"Traceback" not in err
    assert Path("out/a.txt").exists()
    assert [path.name for path in Path("out").glob(".*")] == [".dotsctl-journal.jsonl"]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    program = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from dotsctl.client.cli.interruption import Interruption\n"
        "with Interruption(quiet=True) as one, one.reading():\n"
        "    signal.raise_signal(signal.SIGINT)\n    assert not one.is_requested\n"
        "    signal.raise_signal(signal.SIGTERM)\n    assert one.is_requested\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    )
    subprocess.run([sys.executable, "-P", "-c", program], timeout=CHILD_TIMEOUT_S, check=True)


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.timing
@pytest.mark.parametrize(
    "arguments", [["--help"], ["ocr", "--help"], ["up", "--help"], ["pull", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy_and_answers_at_once(arguments: list[str]) -> None:
    program = (
        "import atexit, os, sys\n"
        f"heavy = lambda: ' '.join({HEAVY} & set(sys.modules))\n"
        "atexit.register(lambda: sys.stderr.write(f'{heavy()}|{sum(os.times()[:2])}'))\n"
        "from dotsctl.client.cli.main import main\n"
        "main()"
    )
    cpu_s = []
    for _ in range(5):
        command = [sys.executable, "-P", "-c", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S)
        heavy, seconds = done.stderr.split("|")
        assert (done.returncode, heavy) == (0, "")
        cpu_s.append(float(seconds))
        if min(cpu_s) <= HELP_CPU_S:
            return
    raise AssertionError(f"{arguments} took {min(cpu_s):.3f} s of CPU at best, more than {HELP_CPU_S} s")


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-P", "-m", "dotsctl", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=True)
    assert done.stdout.startswith("dotsctl ")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: ours and the program's."""
    ours, theirs = os.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def shown_on(ours: int) -> str:
    """All that was written to the terminal; one read returns at most 4 KiB of it."""
    os.set_blocking(ours, False)
    shown = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(ours, 1 << 16):
            shown += piece
    return shown.decode()


def test_a_terminal_gets_a_bar_and_stdout_stays_clean() -> None:
    pictures("a.png", "b.png")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-P", "-c", FAKE_PROGRAM.replace("{between}", "pass"), "ocr", "a.png", "b.png"]
    with terminal() as (ours, theirs):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=CHILD_TIMEOUT_S, check=True
        )
        shown = shown_on(ours)
    assert "2 of 2 pages" in shown
    assert "2 pages read" in shown
    assert done.stdout.startswith(b"==> a.png <==\ntext text")
    assert b"\x1b" not in done.stdout


def test_results_and_bar_share_a_terminal_without_mixing() -> None:
    pictures("a.png")
    program = FAKE_PROGRAM.replace("{between}", "pass").replace("10_000", "1")
    with terminal() as (ours, theirs):
        command = [sys.executable, "-P", "-c", program, "ocr", "a.png"]
        environment = {**os.environ, "TERM": "xterm"}
        subprocess.run(command, stdout=theirs, stderr=theirs, env=environment, timeout=CHILD_TIMEOUT_S, check=True)
        shown = shown_on(ours)
    before, text, _ = shown.partition("text \r\n")
    assert text
    assert before.endswith("\x1b[2K")  # the bar's line was erased just before


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_sequences_in_names_and_answers_do_not_reach_a_terminal(stream: str) -> None:
    name = "\x1b]0;title\x07red\x1b[31m.png"
    pictures(name, "b.png")
    program = FAKE_PROGRAM.replace("{between}", "pass").replace('"text " * 10_000', '"\\x1b[2Jtext\\tof\\x9b31m page "')
    program = program.replace('1, 1, "ok"', '1, 1, "partial"')
    with terminal() as (ours, theirs):
        command = [sys.executable, "-P", "-c", program, "ocr", name, "b.png"]
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: theirs}
        environment = {**os.environ, "TERM": "dumb"}
        done = subprocess.run(command, **streams, env=environment, timeout=CHILD_TIMEOUT_S, check=True)
        shown = shown_on(ours)
    assert "\\x1b]0;title\\x07red\\x1b[31m.png" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}
    if stream == "stdout":
        assert "\\x1b[2Jtext\tof\\x9b31m page" in shown
    else:
        assert b"\x1b[2Jtext\tof\xc2\x9b31m page" in done.stdout  # a file or a program gets the answer as it is


def test_standard_input_that_is_the_terminal_is_a_usage_error() -> None:
    with terminal() as (_, theirs):
        command = [sys.executable, "-P", "-m", "dotsctl", "ocr", "-"]
        done = subprocess.run(command, stdin=theirs, capture_output=True, timeout=CHILD_TIMEOUT_S)
    assert done.returncode == 2
    assert b"pipe a file into the command" in done.stderr
