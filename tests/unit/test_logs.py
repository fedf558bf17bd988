"""Logs that are cut while a process writes to them, and what follows them meanwhile."""

import logging
import os
from pathlib import Path

import pytest
from dotsctl.client.cli import log_follow
from dotsctl.client.cli.log_follow import FollowedLog, follow
from dotsctl.client.cli.status import last_lines
from dotsctl.client.connection.log_files import cut_off, remove_log
from dotsctl.client.runtime.log_rotation import RETRY_S, LogRotation, rotate_file
from dotsctl.protocol.endpoints import InstanceLock, create, instance_directory, log_directory


class Writer:
    """A process's standard error: opened for appending once, never again."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.written: list[bytes] = []

    def write(self, count: int) -> None:
        for _ in range(count):
            line = b"2026-01-01 line %d" % len(self.written)
            self.written.append(line)
            os.write(self._fd, line + b"\n")

    def write_part(self, text: bytes) -> None:
        os.write(self._fd, text)

    def close(self) -> None:
        os.close(self._fd)


def test_a_log_that_is_cut_while_it_is_written_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "encoder.1.log"
    writer = Writer(path)
    rotation = LogRotation(tmp_path, limit_bytes=1000, kept_files=100)
    for now in range(20):
        writer.write(30)
        rotation.rotate(float(now))
    writer.close()
    pieces = [*cut_off(path), path]
    assert len(pieces) > 10
    assert b"".join(piece.read_bytes() for piece in pieces).splitlines() == writer.written


def test_a_log_below_the_limit_stays_and_only_three_files_of_a_large_one_are_kept(tmp_path: Path) -> None:
    small, large = Writer(tmp_path / "runtime.log"), Writer(tmp_path / "decoder.7.log")
    small.write(2)
    rotation = LogRotation(tmp_path, limit_bytes=200)
    for now in range(6):
        large.write(20)
        rotation.rotate(float(now))
    small.close(), large.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        "runtime.log", "decoder.7.log", "decoder.7.log.1", "decoder.7.log.2",
    }  # fmt: skip
    assert (tmp_path / "decoder.7.log.2").read_bytes().startswith(large.written[80])
    assert (tmp_path / "decoder.7.log.1").read_bytes().startswith(large.written[100])


def test_a_log_that_cannot_be_copied_is_kept_and_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "encoder.1.log"
    path.write_bytes(b"x" * 300)
    (tmp_path / "encoder.1.log.1").mkdir()  # cannot be opened as a file; renamed to .2 only once
    (tmp_path / "encoder.1.log.2").mkdir()
    (tmp_path / "encoder.1.log.2" / "full").touch()
    rotation = LogRotation(tmp_path, limit_bytes=200)
    with caplog.at_level(logging.WARNING):
        rotation.rotate(0.0)
        rotation.rotate(RETRY_S - 1)
    assert len(caplog.messages) == 1
    assert path.stat().st_size == 300
    (tmp_path / "encoder.1.log.2" / "full").unlink()
    rotation.rotate(RETRY_S)
    assert (path.stat().st_size, (tmp_path / "encoder.1.log.1").stat().st_size) == (0, 300)


def test_a_log_goes_with_what_was_cut_off_it(tmp_path: Path) -> None:
    for name in ("encoder.1.log", "encoder.1.log.1", "encoder.1.log.12", "encoder.11.log", "encoder.1.log.old"):
        (tmp_path / name).touch()
    assert [path.name for path in cut_off(tmp_path / "encoder.1.log")] == ["encoder.1.log.12", "encoder.1.log.1"]
    remove_log(tmp_path / "encoder.1.log")
    assert {path.name for path in tmp_path.iterdir()} == {"encoder.11.log", "encoder.1.log.old"}


def test_the_last_lines_reach_into_what_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "encoder.1.log"
    writer = Writer(path)
    writer.write(5)
    rotate_file(path, 3)
    writer.write(2)
    writer.close()
    assert last_lines(path, 4).encode().splitlines() == writer.written[3:]


@pytest.mark.parametrize("between", [0, 1, 2, 3])
def test_a_follower_sees_every_line_once_however_often_the_log_is_cut_between_two_looks(
    tmp_path: Path, between: int
) -> None:
    path = tmp_path / "encoder.1.log"
    writer = Writer(path)
    writer.write(3)
    log = FollowedLog(path)
    seen = log.new_lines()
    for _ in range(5):
        for _ in range(between):
            writer.write(10)
            rotate_file(path, 5)
        writer.write(10)
        seen += log.new_lines()
    writer.close()
    assert seen == writer.written


def test_a_follower_sees_the_cut_of_a_log_whose_lines_are_all_alike(tmp_path: Path) -> None:
    path = tmp_path / "encoder.1.log"
    path.write_bytes(b"the same\n" * 1000)
    log = FollowedLog(path)
    seen = len(log.new_lines())
    with path.open("ab") as writer:
        writer.write(b"the same\n" * 10)
        writer.flush()
        rotate_file(path, 3)
        writer.write(b"the same\n" * 100)
    assert seen + len(log.new_lines()) == 1110


def test_a_copy_that_fails_half_way_is_removed_and_the_log_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "encoder.1.log"
    path.write_bytes(b"x" * 300)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dotsctl.client.runtime.log_rotation.os.ftruncate", full)
    with pytest.raises(OSError, match="No space left"):
        rotate_file(path, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.1.log"]
    assert path.stat().st_size == 300


def test_a_follower_states_where_lines_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "encoder.1.log"
    writer = Writer(path)
    writer.write(3)
    log = FollowedLog(path)
    log.new_lines()
    for _ in range(5):
        writer.write(10)
        rotate_file(path, 3)
    seen = log.new_lines()
    writer.close()
    assert b"lines are missing" in b"".join(seen)
    assert [line for line in seen if line.startswith(b"2026")] == writer.written[33:]


def test_a_line_is_shown_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "encoder.1.log"
    writer = Writer(path)
    log = FollowedLog(path)
    writer.write_part(b"one\ntw")
    assert log.new_lines() == [b"one"]
    rotate_file(path, 3)
    writer.write_part(b"o\nthree")
    assert log.new_lines() == [b"two"]
    assert log.last_piece() == [b"three"]
    writer.close()


def test_following_begins_with_the_last_lines_takes_new_logs_in_and_ends_with_the_runtime(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = instance_directory("test")
    create(directory)
    folder = log_directory(directory, private=False)
    folder.mkdir(parents=True)
    (folder / "encoder.1.log").write_text("old 7\nold 8\n")
    (folder / "decoder.1.log").write_text("not asked for\n")
    lock = InstanceLock(directory)
    steps = [
        lambda: (folder / "encoder.1.log").write_text("old 7\nold 8\nnew\n"),
        lambda: (folder / "encoder.2.log").write_text("restarted\n"),
        lambda: ((folder / "encoder.2.log").write_text("restarted\ngoodb"), lock.release()),
    ]
    monkeypatch.setattr(log_follow.select, "select", lambda *_: steps.pop(0)())
    seen: list[tuple[str, bytes]] = []
    follow(directory, "encoder", 1, lambda role, line: seen.append((role, line)))
    assert seen == [("encoder", line) for line in (b"old 8", b"new", b"restarted", b"goodb")]
    assert steps == []
