"""Files on the disk: replaced as a whole, with their mode, through links, and flushed as far as the system can."""

import errno
import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotsctl.client.files.part_file import PartFile, write_atomically
from dotsctl.protocol.errors import OutputError
from dotsctl.protocol.model import files
from dotsctl.protocol.model.files import flush, read_cache, read_file, replacing, write_cache, write_file


@dataclass(frozen=True)
class Facts:
    name: str
    seconds: float = 0.0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def parts_in(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o444])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.md"
    path.touch()
    path.chmod(mode)
    write_atomically(path, b"new")
    assert (mode_of(path), path.read_bytes()) == (mode, b"new")


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_part_of_a_secret_file_is_open_to_its_owner_alone(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.md"
    path.touch()
    path.chmod(mode)
    file = PartFile(path)
    file.write(b"confidential")
    assert [mode_of(part) for part in parts_in(tmp_path)] == [0o600]
    file.discard()
    assert parts_in(tmp_path) == []


def test_a_group_that_cannot_be_kept_gets_no_more_than_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.md"
    path.touch()
    path.chmod(0o640)
    status = os.fstat

    def of_another_group(descriptor: int) -> os.stat_result:
        values = list(status(descriptor))
        values[stat.ST_GID] += 1
        return os.stat_result(values)

    monkeypatch.setattr(files.os, "fchown", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not yours")))
    monkeypatch.setattr(files.os, "fstat", of_another_group)
    write_file(path, b"new")
    assert mode_of(path) == 0o600


def test_the_owner_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.md"
    path.touch()
    try:
        os.chown(path, 12345, 23456)
    except PermissionError:
        pytest.skip("only root may give files away")
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    target, link = tmp_path / "far" / "target.md", tmp_path / "link.md"
    link.symlink_to("far/target.md")
    if exists:
        target.parent.mkdir()
        target.write_text("old")
    write_atomically(link, b"new")
    assert link.is_symlink() and target.read_text() == "new"
    assert parts_in(tmp_path) == parts_in(tmp_path / "far") == []


def test_a_circle_of_links_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/a: Too many levels of symbolic links"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").is_symlink() and parts_in(tmp_path) == []


def test_a_cache_never_replaces_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cache")
    with pytest.raises(OSError, match="Not a regular file"):
        write_file(tmp_path / "cache", b"new")
    write_cache(tmp_path / "cache", Facts("a"))
    assert stat.S_ISFIFO((tmp_path / "cache").stat().st_mode)


def test_a_library_that_writes_to_a_path_replaces_the_file_only_when_it_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_text("old")
    path.chmod(0o600)
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and parts_in(tmp_path) == []
    with replacing(path) as part:
        part.write_text("new")
    assert (path.read_text(), mode_of(path)) == ("new", 0o600)


# --- flushing --------------------------------------------------------------------------------------------------------


class Mac:
    """macOS's ways to flush, and what was asked of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusal: int | None) -> None:
        self.asked: list[str] = []
        self._refusal = refusal
        monkeypatch.setattr(files.sys, "platform", "darwin")
        monkeypatch.setattr(fcntl, "fcntl", self._fcntl)
        monkeypatch.setattr(os, "fsync", lambda _: self.asked.append("fsync"))

    def _fcntl(self, descriptor: int, command: int) -> None:
        assert command == 51, "F_FULLFSYNC in sys/fcntl.h of macOS"
        self.asked.append("full")
        if self._refusal is not None:
            raise OSError(self._refusal, os.strerror(self._refusal))


def test_macos_flushes_the_cache_of_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Mac(monkeypatch, None)
    write_file(tmp_path / "a", b"text")
    assert mac.asked == ["full", "full"], "the file, and its name in the folder"


@pytest.mark.parametrize("refusal", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_volume_that_cannot_do_that_is_flushed_as_far_as_it_can(
    monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    mac = Mac(monkeypatch, refusal)
    flush(0)
    assert mac.asked == ["full", "fsync"]


def test_a_flush_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Mac(monkeypatch, errno.EIO)
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/a: Input/output error"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text() == "old" and parts_in(tmp_path) == []


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text() == "new"


# --- caches ----------------------------------------------------------------------------------------------------------


def test_a_cache_comes_back_with_its_types_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "facts.json"
    assert read_cache(Facts, path) is None
    write_cache(path, Facts("a", 1.5))
    assert read_cache(Facts, path) == Facts("a", 1.5)
    for content in (
        b"",
        b"null",
        b'{"name": 1}',
        b'{"name": "a", "seconds": "fast"}',
        b'{"name": "a", "more": 1}',
        b"\xff",
    ):
        path.write_bytes(content)
        assert read_cache(Facts, path) is None


def test_a_cache_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("a damaged cache is only absent"))
    write_cache(tmp_path / "new" / "facts.json", Facts("a"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["facts.json"]


def test_what_never_ends_or_waits_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in ("fifo", "folder", "link", "socket", "absent"):
            with pytest.raises(OSError):
                read_file(tmp_path / name)
    with pytest.raises(OSError, match="Not a regular file"):
        read_file(Path("/dev/zero"))
    (tmp_path / "file").write_bytes(b"content")
    assert read_file(tmp_path / "file") == b"content"
