"""``-o`` with everything that may lie at its place: a link, a FIFO, a device, a descriptor, a socket, a full disk."""

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fake_client import FakeClient, call, pictures

TEXT = "text of a.png\n"
ERROR = "dotsctl: cannot write {}. Results written so far are kept\nWhat to do: {}choose another path with -o\n"


def names() -> list[str]:
    """Everything in the current folder."""
    return sorted(path.name for path in Path().iterdir())


def node(name: str, minor: int) -> None:
    """A character device in the current folder: 3 is that of /dev/null, 7 that of /dev/full."""
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        Path(name).write_bytes(b"")
    except OSError:
        pytest.skip("devices cannot be made here, or not be used")


# --- one target of each kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_the_target_of_a_link_is_written(client: type[FakeClient], exists: bool) -> None:
    pictures("a.png")
    Path("link.md").symlink_to("target.md")
    if exists:
        Path("target.md").write_text("old")
        Path("target.md").chmod(0o600)
    assert call("ocr", "a.png", "-o", "link.md", *["--overwrite"] * exists).exit_code == 0
    assert Path("link.md").is_symlink() and Path("target.md").read_text() == TEXT
    assert not exists or stat.S_IMODE(Path("target.md").stat().st_mode) == 0o600


def test_a_fifo_gets_the_text_and_stays(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    os.mkfifo("pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    assert call("ocr", "a.png", "b.png", "-o", "pipe", "-f", "txt").exit_code == 0
    reader.join(30)
    assert found == [b"==> a.png <==\ntext of a.png\n\n==> b.png <==\ntext of b.png\n"]
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode) and names() == ["a.png", "b.png", "pipe"]


def test_a_device_is_written_through_and_stays(client: type[FakeClient]) -> None:
    pictures("a.png")
    node("null", 3)
    assert call("ocr", "a.png", "-o", "null").exit_code == 0
    assert stat.S_ISCHR(Path("null").stat().st_mode) and names() == ["a.png", "null"]


def test_a_device_that_is_full_is_an_error_and_stays(client: type[FakeClient]) -> None:
    pictures("a.png")
    node("full", 7)
    result = call("ocr", "a.png", "-o", "full")
    assert (result.exit_code, result.stderr) == (
        5,
        ERROR.format("full: No space left on device", "free some space, or "),
    )
    assert stat.S_ISCHR(Path("full").stat().st_mode) and names() == ["a.png", "full"]


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "{}/link"])
def test_an_open_descriptor_is_written_where_it_stands(client: type[FakeClient], form: str) -> None:
    """As ``/dev/stdout`` is, which a shell has opened: what stands in its file already is not lost."""
    pictures("a.png")
    with Path("log").open("w+b") as log:
        log.write(b"before\n")
        log.flush()
        target = form.format(log.fileno())
        if form == "{}/link":
            Path("link").symlink_to(f"/dev/fd/{log.fileno()}")
            target = "link"
        assert call("ocr", "a.png", "-o", target).exit_code == 0
        log.write(b"after\n")
    assert Path("log").read_text() == f"before\n{TEXT}after\n"


def test_standard_output_by_a_name_is_written_through(client: type[FakeClient]) -> None:
    """By a link of our own, so that no mistake can replace ``/dev/stdout``, which is a link to the same place."""
    Path("stdout").symlink_to("/dev/fd/1")
    program = (
        "import os; from pathlib import Path; from dotsctl.client.files.part_file import write_atomically\n"
        "os.write(1, b'before '); write_atomically(Path('stdout'), b'text '); os.write(1, b'after')"
    )
    with Path("out").open("wb") as out:
        subprocess.run([sys.executable, "-P", "-c", program], stdout=out, check=True, timeout=60)
    assert Path("out").read_text() == "before text after" and Path("stdout").is_symlink()


def test_a_socket_is_refused_and_stays(client: type[FakeClient]) -> None:
    pictures("a.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        result = call("ocr", "a.png", "-o", "socket")
    assert (result.exit_code, result.stderr) == (5, ERROR.format("socket: it is a socket", ""))
    assert stat.S_ISSOCK(Path("socket").stat().st_mode)
    assert client.created == [], "it is reported before a model is loaded"


def test_pictures_cannot_lie_beside_a_stream(client: type[FakeClient]) -> None:
    pictures("a.png")
    os.mkfifo("pipe")
    result = call("ocr", "a.png", "-o", "pipe", "--images", "files")
    assert result.exit_code == 2 and "--images files needs an output folder or file" in result.stderr


# --- disks that take nothing -----------------------------------------------------------------------------------------

PROGRAM = """
import os, sys
from pathlib import Path
import dotsctl.client.api
from dotsctl.client.cli.main import main
from tests.fake_client import FakeClient
dotsctl.client.api.Client = FakeClient
before = sorted(os.listdir("disk"))
sys.argv = ["dotsctl", "ocr", *sys.argv[1:]]
try:
    main()
finally:
    assert sorted(name for name in os.listdir("disk") if "journal" not in name) == before, os.listdir("disk")
    assert Path("disk/old.md").read_text() == "old"
"""
FULL = "cat /dev/zero > disk/filler 2>/dev/null"
READ_ONLY = "mount -o remount,ro disk"


@pytest.mark.parametrize("target", ["disk/old.md", "disk/new.md", "disk/"])
@pytest.mark.parametrize(("state", "reason"), [(FULL, "No space left on device"), (READ_ONLY, "Read-only file system")])
def test_a_disk_that_takes_nothing_is_one_line_and_earlier_results_stay(
    client: type[FakeClient], target: str, state: str, reason: str
) -> None:
    pictures("a.png")
    Path("disk").mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("this system has no unshare")
    alone = ["unshare", "-rm", "sh", "-c"]
    mount = "mount -t tmpfs -o size=64k none disk"
    if subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    script = f'{mount} && printf old > disk/old.md && {{ {state}; :; }} && exec "$@"'
    root = str(Path(__file__).parents[2])
    command = [*alone, script, "sh", sys.executable, "-P", "-c", PROGRAM, "a.png", "-o", target, "--overwrite"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"PYTHONPATH": root}
    )
    assert done.returncode == 5, done.stderr
    problem, remedy = done.stderr.splitlines()
    assert reason in problem and "cannot write disk" in problem and "choose another path with -o" in remedy


# --- what it costs ---------------------------------------------------------------------------------------------------


class Counted:
    """Flushes and hashes of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushes, self.hashes = 0, Counter[str]()
        digest = hashlib.file_digest

        def hashed(stream: Any, kind: Any) -> Any:
            found = os.fstat(stream.fileno())
            self.hashes.update(path.name for path in Path().glob("*.png") if os.path.samestat(path.stat(), found))
            return digest(stream, kind)

        monkeypatch.setattr(os, "fsync", self._flush)
        monkeypatch.setattr("dotsctl.client.inputs.sources.hashlib.file_digest", hashed)

    def _flush(self, _: int) -> None:
        self.flushes += 1

    def run(self, *words: str) -> int:
        """Flushes of a call."""
        self.flushes = 0
        assert call("ocr", *words).exit_code == 0
        return self.flushes


def test_a_picture_costs_a_flush_for_its_kept_page_its_text_its_name_and_the_journal(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("a.png", "b.png", "c.png", "d.png", "e.png")
    counted = Counted(monkeypatch)
    assert counted.run("a.png", "-o", "out/") == 5 + 2, "the new folder and its new journal have names, too"
    assert counted.run("b.png", "-o", "out/") == 5
    assert counted.run("b.png", "c.png", "d.png", "-o", "out/") == 2 * 5
    assert counted.run("a.png", "b.png", "-o", "out/") == 0, "all is done"
    assert counted.run("e.png", "-o", "e.md") == 2 + 2, "and its journal line, in a new journal"
    client.failing["e.png"] = "E_OOM"
    counted.flushes = 0
    assert call("ocr", "e.png", "-o", "out/").exit_code == 1
    assert counted.flushes == 1, "nothing was written but the journal"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which file is flushed")
def test_a_power_cut_finds_no_name_without_its_text_and_its_journal_line(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("a.png", "b.png")
    assert call("ocr", "a.png", "-o", "out/").exit_code == 0
    journal, steps = Path("out/.dotsctl-journal.jsonl"), []

    def flushed(descriptor: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        kind = file.suffix or file.name
        steps.append((kind, Path("out/b.md").exists(), len(journal.read_text().splitlines())))

    monkeypatch.setattr(os, "fsync", flushed)
    assert call("ocr", "b.png", "-o", "out/").exit_code == 0
    kept = [(".pages", False, 1), ("out", False, 1)]
    assert steps == [*kept, (".part", False, 1), (".jsonl", False, 2), ("out", True, 2)]


def test_a_page_of_several_is_kept_with_one_flush(client: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    pictures("a.png")
    frames = [Image.new("RGB", (40, 30), (colour, 0, 0)) for colour in range(4)]
    frames[0].save("b.tif", save_all=True, append_images=frames[1:])
    assert call("ocr", "a.png", "-o", "out/").exit_code == 0
    counted = Counted(monkeypatch)
    assert counted.run("b.tif", "-o", "out/") == 4 + 1 + 3, "its pages, the name of their file, and the document"


def test_every_input_is_hashed_once(client: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    from dotsctl.protocol.model.directory import find_model, fingerprint

    client.fingerprint = fingerprint(find_model("small")[1])  # as the runtime would say
    pictures("a.png", "b.png")
    counted = Counted(monkeypatch)
    for _ in ("first run", "second run"):
        counted.hashes.clear()
        counted.run("a.png", "b.png", "-o", "out/")
        assert {name: counted.hashes[name] for name in ("a.png", "b.png")} == {"a.png": 1, "b.png": 1}


def test_an_input_that_changes_is_hashed_again(client: type[FakeClient]) -> None:
    import io

    from dotsctl.client.inputs.sources import expand

    pictures("a.png")
    (document,) = expand(["a.png"], io.BytesIO())
    before = document.digest()
    assert document.digest() == before
    Path("a.png").write_bytes(b"another scan")
    assert document.digest() == hashlib.sha256(b"another scan").hexdigest()
