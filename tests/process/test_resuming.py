"""``dotsctl ocr`` after a crash of everything, and after Ctrl-C: the same command resumes where it was."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text

from tests.conftest import Gate, processes_in, wait_gone
from tests.process.conftest import START_S, dotsctl
from tests.process.test_library import picture, stored

pytestmark = pytest.mark.process
NUM_PAGES = 8
FRAMES = [picture(10 * number) for number in range(NUM_PAGES)]
EXPECTED = [fake_text(frame.tobytes()) for frame in FRAMES]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.tiff"
    path.write_bytes(stored(*FRAMES, kind="TIFF"))
    return path


def ocr(scan: Path, output: str, decoder: str) -> "subprocess.Popen[str]":
    return dotsctl("ocr", str(scan), "-v", "-o", output, "-f", "txt", "--encoder", "fake", "--decoder", decoder)


def lines_until(process: "subprocess.Popen[str]", pattern: str, count: int) -> None:
    """Read standard error until so many lines match."""
    assert process.stderr is not None
    seen = []
    while count:
        line = process.stderr.readline()
        assert line, seen
        seen.append(line)
        count -= bool(re.search(pattern, line))


@pytest.mark.parametrize("target", ["out/", "all.txt"])
def test_after_a_kill_of_everything_the_same_command_reads_only_what_is_missing(
    run_folder: Path, tmp_path: Path, scan: Path, target: str
) -> None:
    output, decoder = f"{tmp_path}/{target}", "fake:decode_ms=150"
    victim = ocr(scan, output, decoder)
    lines_until(victim, r": ok, \d+ tokens", 3)
    processes = processes_in(run_folder)
    for pid in (victim.pid, *processes):
        os.kill(pid, signal.SIGKILL)
    assert all(wait_gone(pid, 5.0) for pid in processes)
    _, rest = victim.communicate()
    reported = 3 + len(re.findall(r": ok, \d+ tokens", rest))
    assert not list(tmp_path.rglob("*.txt")), "a document is there when it is complete"

    process = ocr(scan, output, decoder)
    out, err = process.communicate(timeout=START_S)
    assert (process.returncode, out) == (0, ""), err
    resumed = len(re.findall(r": resumed from an interrupted run", err))
    assert resumed in (reported - 1, reported), "the last one was reported just before it was noted"
    assert f"{NUM_PAGES - resumed} pages read, {resumed} resumed from an interrupted run" in err
    (written,) = tmp_path.rglob("*.txt")
    assert written.read_text().split("\n\n") == [*EXPECTED[:-1], EXPECTED[-1] + "\n"]
    hidden = {path.name for path in tmp_path.rglob(".*")}
    assert hidden <= {".dotsctl-journal.jsonl"}
    for ruin in run_folder.glob("p-*"):  # nobody was left to remove it
        shutil.rmtree(ruin)


def test_ctrl_c_finishes_the_pages_in_work_and_the_same_command_resumes(
    run_folder: Path, tmp_path: Path, scan: Path, gates: list[Gate]
) -> None:
    decoder = f"fake:gate={gates[0].path}"
    process = ocr(scan, f"{tmp_path}/out/", decoder)
    gates[0].wait_entered()
    process.send_signal(signal.SIGINT)
    lines_until(process, "press Ctrl-C again to stop now", 1)
    gates[0].remove()
    gates[0].open()
    out, err = process.communicate(timeout=START_S)
    assert (process.returncode, out) == (130, ""), err
    (reported,) = re.findall(r"interrupted after (\d) pages?;", err)
    assert 1 <= int(reported) < NUM_PAGES
    written = (tmp_path / "out/scan.txt").read_text()
    assert written.count("failed: E_CANCELLED") == NUM_PAGES - int(reported)

    process = ocr(scan, f"{tmp_path}/out/", decoder)
    _, err = process.communicate(timeout=START_S)
    assert process.returncode == 0, err
    assert f"{NUM_PAGES - int(reported)} pages read, {reported} resumed from an interrupted run" in err
    assert (tmp_path / "out/scan.txt").read_text().split() == " ".join(EXPECTED).split()


def test_a_second_ctrl_c_ends_the_page_that_hangs(
    run_folder: Path, tmp_path: Path, scan: Path, gates: list[Gate]
) -> None:
    process = ocr(scan, f"{tmp_path}/out/", f"fake:gate={gates[0].path}")
    gates[0].wait_entered()
    gates[0].remove()
    process.send_signal(signal.SIGINT)
    lines_until(process, "press Ctrl-C again to stop now", 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=START_S)
    assert (process.returncode, out) == (130, "") and "interrupted after 0 pages" in err
    assert processes_in(run_folder) == []
