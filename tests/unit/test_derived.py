import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from dotsctl.client.files.folders import staged
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.tools import derived


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder that is to be made, in one that is not there either."""
    return tmp_path / "fingerprint" / "decoder"


def make(target: Path, text: str) -> None:
    with staged(target) as partial:
        (partial / "weights").write_text(text)


def test_a_folder_appears_when_it_is_complete(target: Path) -> None:
    with staged(target) as partial:
        (partial / "weights").write_text("new")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["decoder"]
    assert (target / "weights").read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), MemoryError(), CommandFailedError("full")])
def test_an_interrupted_folder_leaves_nothing(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), staged(target) as partial:
        (partial / "weights").write_text("half")
        raise error
    assert not target.parent.exists()


def test_an_interrupted_folder_leaves_the_old_one_as_it_is(target: Path) -> None:
    make(target, "old")
    with pytest.raises(KeyboardInterrupt), staged(target) as partial:
        (partial / "weights").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in target.parent.iterdir()] == ["decoder"]
    assert (target / "weights").read_text() == "old"


def test_a_new_folder_replaces_the_old_one(target: Path) -> None:
    make(target, "old")
    make(target, "new")
    assert [path.name for path in target.parent.iterdir()] == ["decoder"]
    assert (target / "weights").read_text() == "new"


def test_a_new_folder_that_cannot_be_renamed_gives_its_place_back_to_the_old_one(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(target, "old")
    rename = Path.rename

    def refuse_new(path: Path, other: Path) -> Path:
        if other == target and not path.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(CommandFailedError, match="Input/output error"):
        make(target, "new")
    assert [path.name for path in target.parent.iterdir()] == ["decoder"]
    assert (target / "weights").read_text() == "old"


def test_what_a_killed_process_left_is_removed_and_what_another_one_makes_stays(target: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)
    for owner in (gone.pid, os.getppid()):
        (target.parent / f".decoder.{owner}").mkdir(parents=True)
    (target.parent / f".decoder.{gone.pid}.old").mkdir()
    make(target, "new")
    assert {path.name for path in target.parent.iterdir()} == {"decoder", f".decoder.{os.getppid()}"}


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandFailedError, match=r"cannot write .*/file/fingerprint: Not a directory"):
        make(tmp_path / "file" / "fingerprint" / "decoder", "new")


def test_a_full_disk_while_writing_is_reported_and_leaves_nothing(target: Path) -> None:
    with pytest.raises(CommandFailedError, match="No space left on device"), staged(target):
        raise OSError(28, "No space left on device")
    assert not target.parent.exists()


def test_too_little_room_is_refused_with_the_numbers(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(folder: Path) -> SimpleNamespace:
        assert folder == target.parent.parent  # the next folder above that exists
        return SimpleNamespace(free=900_000_000)

    monkeypatch.setattr("shutil.disk_usage", usage)
    derived.require_space(target, 800_000_000, "the decoder")
    with pytest.raises(CommandFailedError) as refused:
        derived.require_space(target, 1_900_000_000, "the decoder of m")
    assert "the decoder of m takes 1.90 GB" in str(refused.value)
    assert "900 MB free: free 1.07 GB more, or set DOTSCTL_MODELS" in str(refused.value)


def test_a_replaced_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.json"
    derived.write_synced(path, "old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CommandFailedError, match="Input/output error"):
        derived.write_synced(path, "new and longer")
    assert path.read_text() == '"old"\n'
    assert list(tmp_path.iterdir()) == [path]
