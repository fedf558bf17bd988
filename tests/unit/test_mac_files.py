"""Files as a Mac has them: kept in a cloud, or refused by the privacy protection; with stand-ins for macOS."""

import errno
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dotsctl.client.inputs.downloads import SF_DATALESS
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.render import child, opening
from dotsctl.protocol.render.exchange import PAGES, RenderRequest
from dotsctl.protocol.render.memory import AddressSpace

from tests.fake_client import FakeClient, call, pictures

SETTINGS = "System Settings > Privacy & Security > Files and Folders"


def answer(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every opening of a file end with an error of the system."""

    def refuse(path: Path) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(opening, "open_regular", refuse)


def test_a_file_that_the_privacy_protection_refuses_names_the_settings_and_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    answer(monkeypatch, errno.EPERM)
    with pytest.raises(PageError, match="macOS does not let this program read the file") as raised:
        opening.open_input(tmp_path / "a.png")
    assert SETTINGS in raised.value.remedy and sys.executable in raised.value.remedy


@pytest.mark.parametrize(("platform", "number"), [("darwin", errno.EACCES), ("linux", errno.EPERM)])
def test_other_refusals_are_those_of_permissions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, number: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    answer(monkeypatch, number)
    with pytest.raises(PageError, match="you may not read this file: change its permissions"):
        opening.open_input(tmp_path / "a.png")


def test_a_folder_that_the_privacy_protection_refuses_names_the_settings_and_the_others_are_read(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("a.png", "Documents/b.png")
    list_folder = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("Documents"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr("dotsctl.protocol.render.opening.sys", SimpleNamespace(platform="darwin", executable="PYTHON"))
    result = call("ocr", "a.png", "Documents", "-o", "out/")
    assert result.exit_code == 1 and Path("out/a.md").exists()
    assert f"Documents:1: the folder cannot be listed: {os.strerror(errno.EPERM)}" in result.stderr
    assert f"allow the folder in {SETTINGS}, for your terminal or for PYTHON" in result.stderr


@pytest.mark.parametrize("fails", ["open", "read"])
def test_a_file_that_its_cloud_does_not_send_reports_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"not here")

    class Elsewhere:
        def __init__(self) -> None:
            self._file = path.open("rb")

        def fileno(self) -> int:
            return self._file.fileno()

        def read(self, _: int) -> bytes:
            raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))

        def close(self) -> None:
            self._file.close()

    if fails == "open":
        answer(monkeypatch, errno.EDEADLK)
    else:
        monkeypatch.setattr(child, "open_input", lambda _: Elsewhere())
    limits = resource.getrlimit(resource.RLIMIT_AS)
    try:
        found, _ = child.Renderer(AddressSpace()).answer(RenderRequest(PAGES, path=str(path)), b"")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)  # what runs in this process later needs its memory
    assert found.problem == "the file is in iCloud or another cloud, and was not downloaded"
    assert "Download Now" in found.remedy


def test_inputs_that_a_cloud_keeps_are_counted_at_the_start(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("in/a.png", "in/b.png", "in/c.png")
    stat = Path.stat

    def stat_of_a_mac(path: Path, **options: Any) -> Any:
        found = stat(path, **options)
        names = [name for name in dir(found) if name.startswith("st_")]
        flags = SF_DATALESS if path.name in ("a.png", "c.png") else 0x20
        return SimpleNamespace(**{name: getattr(found, name) for name in names} | {"st_flags": flags})

    monkeypatch.setattr(Path, "stat", stat_of_a_mac)
    size = sum(os.path.getsize(f"in/{name}.png") for name in "ac")  # noqa: PTH202 - without the stand-in
    result = call("ocr", "in", "-o", "out/")
    assert (result.exit_code, result.stderr.count("iCloud")) == (0, 1)
    words = f"2 of 3 inputs are in iCloud or another cloud: they are downloaded when they are read ({size} B)"
    assert words in result.stderr
    monkeypatch.undo()
