"""Files that a cloud keeps elsewhere until they are read, with a stand-in for it and for the flag of macOS."""

import errno
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dotsctl.client.inputs import downloads, loading
from dotsctl.client.inputs.downloads import MOST_STUCK, SF_DATALESS, Downloads
from dotsctl.client.inputs.sources import InputFile
from dotsctl.protocol.errors import PageError, RenderingStoppedError

from tests.fake_client import FakeClient, call, pictures

WAIT_S = 30.0


class Cloud:
    """Marks files as kept elsewhere, until they were read and the test has let that end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str, free_bytes: int = 1 << 40) -> None:
        self.elsewhere = set(names)
        self.begun: dict[str, threading.Event] = {name: threading.Event() for name in names}
        self.sent: dict[str, threading.Event] = {name: threading.Event() for name in names}
        self.errors: dict[str, OSError] = {}
        self.free_bytes = free_bytes
        self._stat, self._open = Path.stat, downloads.open_input
        monkeypatch.setattr(Path, "stat", lambda path, **options: self._flagged(path, **options))
        monkeypatch.setattr(downloads, "open_input", self._opened)
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=self.free_bytes))

    def _flagged(self, path: Path, **options: Any) -> Any:
        found = self._stat(path, **options)
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**values, st_flags=SF_DATALESS if path.name in self.elsewhere else 0x20)

    def _opened(self, path: Path) -> Any:
        cloud = self

        class Stream(io.BytesIO):
            """Waits at the first read, as the system lets a process wait."""

            def read(self, size: int | None = -1) -> bytes:
                cloud.begun[path.name].set()
                assert cloud.sent[path.name].wait(WAIT_S), "the test did not let the download end"
                if path.name in cloud.errors:
                    raise cloud.errors[path.name]
                cloud.elsewhere.discard(path.name)
                return super().read(size)

        return Stream(path.read_bytes())

    @property
    def names_begun(self) -> set[str]:
        return {name for name, event in self.begun.items() if event.is_set()}

    def send(self, *names: str) -> None:
        for name in names:
            self.sent[name].set()


@pytest.fixture
def make_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cloud]]:
    made: list[Cloud] = []

    def make(*names: str, free_bytes: int = 1 << 40) -> Cloud:
        made.append(Cloud(monkeypatch, *names, free_bytes=free_bytes))
        return made[-1]

    yield make
    for cloud in made:
        cloud.send(*cloud.sent)  # no thread outlives its test
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(WAIT_S)


def files(folder: Path, **sizes: int) -> list[Path]:
    paths = [folder / name for name in sizes]
    for path, size in zip(paths, sizes.values(), strict=True):
        path.write_bytes(b"x" * size)
    return paths


def fetching(fetch: Callable[[Path], None], path: Path) -> "Future[None]":
    """Fetch in a thread of its own."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            outcome.set_result(fetch(path))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def test_the_two_files_that_follow_are_downloaded_ahead_and_no_more(
    make_cloud: Callable[..., Cloud], tmp_path: Path
) -> None:
    cloud, found = make_cloud(*"abcde"), Downloads()
    paths = files(tmp_path, a=1, b=2, c=3, d=4, e=5)
    assert found.expect([*paths, tmp_path / "missing"]) == [1, 2, 3, 4, 5]
    first = fetching(found.fetch, paths[0])
    for name in "abc":
        assert cloud.begun[name].wait(WAIT_S)
    cloud.send("a", "c")
    first.result(WAIT_S)
    assert cloud.names_begun == set("abc")
    second = fetching(found.fetch, paths[1])
    assert cloud.begun["d"].wait(WAIT_S)
    assert not second.done(), "b was begun, and is waited for"
    cloud.send("b")
    second.result(WAIT_S)
    assert cloud.names_begun == set("abcd")


def test_files_are_downloaded_ahead_while_the_disk_has_room_for_them(
    make_cloud: Callable[..., Cloud], tmp_path: Path
) -> None:
    cloud, found = make_cloud(*"abc", free_bytes=1_000_000), Downloads()
    paths = files(tmp_path, a=600_000, b=500_000, c=100_000)
    found.expect(paths)
    first = fetching(found.fetch, paths[0])
    assert cloud.begun["a"].wait(WAIT_S)
    cloud.send("a")
    first.result(WAIT_S)
    assert cloud.names_begun == {"a"}, "a and b are more than there is room for, and c may not take the room of b"
    cloud.free_bytes = 400_000
    with pytest.raises(PageError, match=r"cannot be downloaded: it has 0.5 MB, the disk has 0.4 MB free") as raised:
        found.fetch(paths[1])
    assert "make room" in raised.value.remedy and cloud.names_begun == {"a"}
    cloud.send("c")
    found.fetch(paths[2])


def test_a_page_is_opened_when_its_file_is_here_so_its_time_begins_after_the_download(
    make_cloud: Callable[..., Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(str(tmp_path / "a.png"))
    cloud = make_cloud("a.png")
    opened = threading.Event()
    contents = loading.RenderDocument.contents

    def noted(document: Any, dpi: int = 0) -> Any:
        opened.set()
        return contents(document, dpi)

    monkeypatch.setattr(loading.RenderDocument, "contents", noted)
    document = InputFile("a.png", tmp_path / "a.png", tmp_path)
    pages = fetching(lambda _: [page.load() for page in document.pages()] and None, tmp_path)
    assert cloud.begun["a.png"].wait(WAIT_S)
    assert not opened.is_set()
    cloud.send("a.png")
    pages.result(WAIT_S)
    assert opened.is_set()
    loading.RENDERER.close()


@pytest.mark.parametrize("number", [errno.EDEADLK, errno.ETIMEDOUT])
def test_a_file_that_is_not_sent_is_one_failed_page_and_is_requested_once(
    client: type[FakeClient], make_cloud: Callable[..., Cloud], number: int
) -> None:
    pictures("in/a.png", "in/b.png", "in/c.png")
    cloud = make_cloud("a.png", "b.png")
    cloud.send("a.png", "b.png")
    cloud.errors["b.png"] = OSError(number, os.strerror(number))
    result = call("ocr", "in", "-o", "out/")
    assert result.exit_code == 1
    assert {path.name for path in Path("out").glob("*.md")} == {"a.md", "c.md"}
    reason = "was not downloaded" if number == errno.EDEADLK else os.strerror(number)
    assert result.stderr.count("b.png:1:") == 1 and reason in result.stderr


def test_a_download_past_its_deadline_fails_its_page_and_three_of_them_end_the_attempts(
    make_cloud: Callable[..., Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"f{number}" for number in range(MOST_STUCK + 1)]
    cloud, found = make_cloud(*names), Downloads()
    paths = files(tmp_path, **dict.fromkeys(names, 1))
    start_s = time.monotonic()
    monkeypatch.setattr(downloads.time, "monotonic", iter(range(int(start_s), 1 << 40, 61)).__next__)
    for path in paths[:-1]:
        with pytest.raises(PageError, match="was not downloaded within 60 s"):
            found.fetch(path)
    with pytest.raises(PageError, match=f"was not downloaded, as {MOST_STUCK} before it"):
        found.fetch(paths[-1])
    assert cloud.names_begun == set(names[:-1])
    cloud.send(*names)
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(WAIT_S)
    found.fetch(paths[-1])  # the cloud answers again


def test_the_first_signal_ends_the_wait_for_a_download(make_cloud: Callable[..., Cloud], tmp_path: Path) -> None:
    cloud, found = make_cloud("a"), Downloads()
    (path,) = files(tmp_path, a=1)
    previous = signal.signal(signal.SIGUSR1, lambda *_: found.stop())
    try:
        threading.Thread(target=_signal_when, args=(cloud.begun["a"],), daemon=True).start()
        with pytest.raises(RenderingStoppedError):
            found.fetch(path)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    cloud.send("a")
    found.resume()
    found.fetch(path)


def _signal_when(event: threading.Event) -> None:
    if event.wait(WAIT_S):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
