"""One bad thing ends one thing: names, inputs that go, places that cannot be written, pipes and closed streams."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dotsctl.client.cli.main import ignore_relative_folders
from dotsctl.client.results.cell import Cell
from dotsctl.protocol.model.file_names import path_shown, shown
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_client import FakeClient, call, pictures

NAME = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name and b"/" not in name)
HARD = st.lists(st.sampled_from([b"\\", b"x", b"ff", b"\xff", b"\\xff", b"\xc3\xbc", b"a"]), min_size=1, max_size=6)


@given(NAME | HARD.map(b"".join))
def test_every_name_has_a_text_of_its_own(name: bytes) -> None:
    text = shown(os.fsdecode(name))
    text.encode()  # no halves of characters
    assert os.fsencode(path_shown(text)) == os.fsencode(Path(os.fsdecode(name)))


def test_a_text_that_no_name_of_ours_has_is_a_path_too() -> None:
    assert path_shown("a\\b") == Path("a\\b") and shown("a\\b") == "a\\b"
    assert shown("a\\xff") == "a\\\\xff" and shown(os.fsdecode(b"a\xff")) == "a\\xff"


# --- names -----------------------------------------------------------------------------------------------------------


def files(folder: str) -> list[bytes]:
    return sorted(os.fsencode(path.name) for path in Path(folder).iterdir() if not path.name.startswith("."))


def test_names_that_are_no_text_are_read_and_done_once(client: type[FakeClient]) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""), Cell((0, 0, 9, 9), "Text", "words"))
    pictures("in/ok.png")
    for name in (b"in/bad\xff.png", b"in/bad\\xff.png"):
        Path(os.fsdecode(name)).write_bytes(Path("in/ok.png").read_bytes())
    for expected in ("3 pages read\n", "0 pages read, 3 skipped (already done; --force reads them again)\n"):
        result = call("ocr", "in", "-o", "out", "--task", "layout")
        assert (result.exit_code, result.stderr) == (0, expected)
    assert files("out") == [b"bad\\xff", b"bad\\xff.md", b"bad\xff", b"bad\xff.md", b"ok", b"ok.md"]
    text = Path(os.fsdecode(b"out/bad\xff.md")).read_text()
    assert "(bad%FF/images/page-0001-01.png)" in text, "links have the bytes of the name"
    for target in ("all.jsonl", "all.html"):
        assert call("ocr", "in", "-o", target, "--task", "layout").exit_code == 0


@pytest.mark.parametrize("format_", ["md", "jsonl", "html", "overlay"])
def test_a_result_name_that_is_too_long_is_cut_with_a_digest(client: type[FakeClient], format_: str) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""),)
    names = ["a", "q" * 251, "q" * 250 + "r", "ü" * 125]
    pictures(*(f"in/{name}.png" for name in names))
    for expected in ("4 pages read\n", "0 pages read, 4 skipped (already done; --force reads them again)\n"):
        result = call("ocr", "in", "-o", "out", "-f", format_, "--task", "layout")
        assert (result.exit_code, result.stderr) == (0, expected)
    results = [name for name in files("out") if Path(os.fsdecode(b"out/" + name)).is_file()]
    assert len(results) == 4 and all(len(name) <= 255 for name in results)


def test_a_folder_among_the_inputs_takes_the_name_that_another_input_would_have(client: type[FakeClient]) -> None:
    pictures("in/a.png", "in/a.txt/b.png")
    for expected in ("2 pages read", "0 pages read, 2 skipped"):
        assert call("ocr", "in", "-o", "out", "-f", "txt").stderr.startswith(expected)
    assert sorted(str(path) for path in Path("out").rglob("*.txt")) == ["out/a.png.txt", "out/a.txt", "out/a.txt/b.txt"]


# --- inputs and places -----------------------------------------------------------------------------------------------


def removing(client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Remove an input after it was read."""
    read = client.ocr

    def ocr(self: FakeClient, inputs: object, **options: object) -> object:
        for page in read(self, inputs, **options):  # type: ignore[arg-type]
            if page.source == name:
                Path(name).unlink()
            yield page

    monkeypatch.setattr(client, "ocr", ocr)


@pytest.mark.parametrize("format_", ["md", "html", "overlay"])
def test_an_input_that_vanishes_costs_its_own_result(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""),)
    pictures("a.png", "b.png", "c.png")
    removing(client, monkeypatch, "b.png")
    result = call("ocr", "a.png", "b.png", "c.png", "-o", "out", "-f", format_, "--task", "layout")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "3 pages read, 1 result not written")
    assert "b.png: page 1 was read, but its pixels cannot be loaded again (there is no such file)" in result.stderr
    assert len([path for path in Path("out").iterdir() if path.is_file() and path.name[0] != "."]) == 2


@pytest.mark.parametrize("target", ["all.md", "all.html"])
def test_an_input_that_vanishes_is_a_failed_page_of_one_file(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""), Cell((0, 0, 9, 9), "Text", "words"))
    pictures("a.png", "b.png", "c.png")
    removing(client, monkeypatch, "b.png")
    result = call("ocr", "a.png", "b.png", "c.png", "-o", target, "--task", "layout")
    assert result.exit_code == 1 and "1 result not written" in result.stderr
    text = Path(target).read_text()
    assert "a.png" in text and "c.png" in text
    assert target == "all.md" or "page 1 was read, but its pixels cannot be loaded again" in text


def test_a_folder_that_may_not_be_written_any_more_ends_the_run(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rights of root, which may write anywhere: the folder refuses by a stand-in."""
    from dotsctl.client.outputs.journal import Journal
    from dotsctl.protocol.model.files import AtomicFile

    pictures("a.png", "b.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    probe, probes = Journal.probe, []

    def probed(self: Journal) -> None:
        probes.append(self)
        if len(probes) > 1:
            from dotsctl.client.files.part_file import output_error

            raise output_error(self.folder, PermissionError(13, "Permission denied"))
        probe(self)

    monkeypatch.setattr(AtomicFile, "write", refuse)
    monkeypatch.setattr(Journal, "probe", probed)
    result = call("ocr", "a.png", "b.png", "-o", "out")
    assert result.exit_code == 5 and "cannot write out: Permission denied" in result.stderr


# --- pipes -----------------------------------------------------------------------------------------------------------


def test_a_pipe_that_is_named_is_read_to_its_end(client: type[FakeClient]) -> None:
    pictures("a.png")
    os.mkfifo("pipe.png")
    writer = threading.Thread(target=lambda: Path("pipe.png").write_bytes(Path("a.png").read_bytes()), daemon=True)
    writer.start()
    result = call("ocr", "pipe.png", "-o", "out/")
    writer.join(30)
    assert (result.exit_code, Path("out/stdin.md").read_text()) == (0, "text of pipe.png\n")


def test_a_descriptor_of_another_program_is_read(client: type[FakeClient]) -> None:
    pictures("a.png")
    reading, writing = os.pipe()
    os.write(writing, Path("a.png").read_bytes())
    os.close(writing)
    result = call("ocr", f"/dev/fd/{reading}")
    os.close(reading)
    assert (result.exit_code, result.stdout) == (0, f"text of {reading}\n")


def test_a_device_without_an_end_is_an_error(client: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dotsctl.client.inputs.sources.MAX_FILE_BYTES", 1 << 20)
    result = call("ocr", "/dev/zero")
    assert result.exit_code == 4 and "more than 1 MiB" in result.stderr


def test_standard_input_without_an_end_is_an_error_with_the_limit(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dotsctl.client.inputs.sources.MAX_FILE_BYTES", 1 << 20)
    result = call("ocr", "-", stdin=bytes(3 << 20))
    assert result.exit_code == 4
    assert result.stderr.count("more than 1 MiB: save it to a file and name the file") == 1


def test_a_pipe_in_a_folder_is_named_and_never_waited_for(client: type[FakeClient]) -> None:
    pictures("in/a.png")
    os.mkfifo("in/x.png")
    Path("in/y.png").symlink_to("/dev/zero")
    result = call("ocr", "in", "-o", "out")
    assert result.exit_code == 1 and Path("out/a.md").exists()
    assert result.stderr.count("this is not a regular file") == 2


def test_overlays_beside_scans_are_not_read_by_a_glob(client: type[FakeClient]) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Text", "words"),)
    pictures("g/a.png")
    for expected in ("1 page read", "0 pages read, 1 skipped"):
        assert call("ocr", "g/*.png", "-o", "g/", "-f", "overlay", "--task", "layout").stderr.startswith(expected)
    assert call("ocr", "g/*.overlay.png").exit_code == 0, "unless the pattern is about them"


# --- streams and folders that are not there --------------------------------------------------------------------------

PROGRAM = """
import sys
import dotsctl.client.api
from dotsctl.client.cli.main import main
from tests.fake_client import FakeClient
dotsctl.client.api.Client = FakeClient
sys.argv = ["dotsctl", *sys.argv[1:]]
main()
"""


def shell(script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "-c", script, "sh", sys.executable, "-P", "-c", PROGRAM, *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("script", "words", "code", "out"),
    [
        ('"$@" <&-', ["ocr", "a.png"], 0, "text of a.png\n"),
        ('"$@" <&-', ["ocr", "-"], 4, ""),
        ('"$@" >&-', ["ocr", "a.png", "-o", "a.md"], 0, ""),
        ('"$@" >&-', ["ocr", "a.png"], 5, ""),
        ('"$@" 2>&-', ["ocr", "missing.png"], 4, ""),
        ('"$@" <&- 2>&-', ["ocr", "a.png"], 0, "text of a.png\n"),
        ('"$@" <&- >&- 2>&-', ["ocr", "a.png", "-o", "a.md"], 0, ""),
    ],
)
def test_closed_streams_are_no_reason_to_fail(
    client: type[FakeClient], script: str, words: list[str], code: int, out: str
) -> None:
    pictures("a.png")
    done = shell(script, *words)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert "Traceback" not in done.stderr
    assert "-o" not in words or Path("a.md").read_text() == "text of a.png\n"


@pytest.mark.parametrize("name", ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"])
def test_a_relative_folder_of_the_user_is_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("XDG_DATA_DIRS", "kept:kept")
    ignore_relative_folders()
    assert name not in os.environ and os.environ["XDG_DATA_DIRS"] == "kept:kept"


@pytest.mark.parametrize(("name", "code"), [("{}/a.png", 0), ("a.png", 2), ("-", 2)])
def test_a_current_folder_that_was_removed_is_one_line(client: type[FakeClient], name: str, code: int) -> None:
    pictures("a.png")
    done = shell('mkdir gone && cd gone && rmdir ../gone && "$@" </dev/null', "ocr", name.format(Path.cwd()))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 0 or "the current folder cannot be used" in done.stderr
