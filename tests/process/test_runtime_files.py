"""The folder, lock, sockets and logs of a runtime, removed while it runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.swap import swap_encoder
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.endpoints import instance_directory, lock_holder
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.parts import Role
from PIL import Image

from tests.conftest import Gate, processes_in, wait_gone
from tests.decoding import text_of_files
from tests.process.conftest import NAME, START_S, Instance, dotsctl
from tests.process.test_endings import finish, wait_for_line, wait_for_text

pytestmark = pytest.mark.process
Named = Callable[..., Instance]
FAKES = ("--encoder", "fake", "--decoder", "fake")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.png"
    Image.new("RGB", (56, 56), "white").save(path)
    return path


@pytest.mark.parametrize("lost", ["", "lock", "c.sock", "w.*.sock", "d.1.sock"])
def test_a_runtime_that_loses_its_files_reads_its_pages_and_ends(
    run_folder: Path, page: Path, gates: list[Gate], lost: str
) -> None:
    up = dotsctl("up", "--name", NAME, "--encoder", "fake", "--decoder", f"fake:gate={gates[0].path}")
    wait_for_line(up, "ready")
    client = dotsctl("ocr", str(page), "--name", NAME)
    gates[0].wait_entered()
    gates[0].remove()
    processes, log = processes_in(run_folder), launch.log_files(NAME)["runtime"]
    folder = run_folder / NAME
    if lost:
        (found,) = folder.glob(lost)
        found.unlink()
    else:
        shutil.rmtree(folder)
    wait_for_text(log, "the runtime ends because its")
    gates[0].open()
    code, out, err = finish(client)
    assert (code, out.strip()) == (0, text_of_files(page.read_bytes())), err
    code, _, err = finish(up)
    assert code == 7 and "was removed" in err and "dotsctl up" in err, err
    assert all(wait_gone(process, 2.0) for process in processes)
    assert lock_holder(instance_directory(NAME)) is None


def test_two_runtimes_of_a_name_never_serve_at_the_same_time(run_folder: Path, page: Path, gates: list[Gate]) -> None:
    """The first one has a page in hand when the second one starts in its place, and leaves all files to it."""
    first = dotsctl("up", "--name", NAME, "--encoder", "fake", "--decoder", f"fake:gate={gates[0].path}")
    wait_for_line(first, "ready")
    client = dotsctl("ocr", str(page), "--name", NAME)
    gates[0].wait_entered()
    gates[0].remove()
    (run_folder / NAME / "lock").unlink()
    second = dotsctl("up", "--name", NAME, *FAKES)
    wait_for_line(second, "ready")
    wait_for_text(launch.log_files(NAME)["runtime"], "was removed or replaced")
    gates[0].open()
    code, out, err = finish(client)
    assert (code, out.strip()) == (0, text_of_files(page.read_bytes())), err
    assert finish(first)[0] == 7
    facts = json.loads((run_folder / NAME / "runtime.json").read_text())
    assert lock_holder(instance_directory(NAME)) == facts["pid"]
    code, out, err = finish(dotsctl("ocr", str(page), "--name", NAME))
    assert (code, out.strip()) == (0, text_of_files(page.read_bytes())), err
    launch.stop(NAME, now=True, timeout_s=10)
    assert finish(second)[0] == 0


def test_a_log_folder_that_was_removed_is_made_again(named: Named) -> None:
    instance = named()
    (folder,) = {path.parent for path in launch.log_files(NAME).values()}
    shutil.rmtree(folder)
    instance.kill(Role.ENCODER)
    answer = instance.read([b"page"])[0]
    assert isinstance(answer, PageResult)
    assert (folder / "encoder.2.log").is_file()
    instance.wait_status(lambda _: (folder / "runtime.log").is_file(), "the runtime's own log")
    wait_for_text(folder / "runtime.log", "a new one was created")


def test_workers_continue_without_a_log_where_none_can_be_written(named: Named) -> None:
    instance = named()
    logs = launch.log_files(NAME)
    folder = logs["runtime"].parent
    kept = folder.rename(folder.with_name("moved"))
    folder.write_text("in the way")
    for number in (2, 3):
        instance.kill(Role.ENCODER)
        instance.wait_status(lambda status, epoch=number: status.workers[0].epoch == epoch, "the next encoder")  # type: ignore[misc]
        assert isinstance(instance.read([b"page"], job=f"job {number}")[0], PageResult)
    assert (kept / "runtime.log").read_text().count("without a log") == 1
    folder.unlink()


def test_facts_that_cannot_be_written_after_the_start_are_a_warning(named: Named, run_folder: Path) -> None:
    """As on a full disk: R15."""
    instance = named()
    facts = run_folder / NAME / "runtime.json"
    facts.unlink()
    facts.mkdir()
    assert swap_encoder(NAME, PluginChoice.parse("fake:encode_ms=1"), START_S) == "fake:encode_ms=1"
    assert isinstance(instance.read([b"page"])[0], PageResult)
    wait_for_text(launch.log_files(NAME)["runtime"], "runtime.json cannot be written")
    facts.rmdir()


def test_a_name_that_does_not_run_is_an_error_and_no_private_runtime(run_folder: Path, page: Path) -> None:
    for output in ([], ["-o", f"{page.parent / 'texts'}/"]):
        code, out, err = finish(dotsctl("ocr", str(page), "--name", "absent", *FAKES, *output))
        assert (code, out) == (6, "")
        assert "the runtime 'absent' is not running" in err and "dotsctl up -d --name absent" in err
    assert list(run_folder.glob("*")) == []
