"""Several runs into one folder at once: they share the work, whatever happens to one of them.

CI has a few runs and pages; ``python -P -m dotsctl.tools.dev.longrun shared-folder`` has five runs and 300 pages.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fake_client import FakeClient, pictures

MANY = int(os.environ.get("DOTSCTL_TEST_EXAMPLES", "1"))
PAGES = 30 * MANY
PROGRAM = """
import sys, time
import dotsctl.client.api
from dotsctl.client.cli.main import main
from dotsctl.client.outputs import runs
from tests.fake_client import FakeClient

runs.BEAT_S, runs.DEAD_AFTER_S = 0.1, 1.5
shift_s, clock = float(sys.argv[1]), time.time
time.time = lambda: clock() + shift_s


class Stepping(FakeClient):
    '''Tells of each page that it has read, and continues with it on request.'''

    def ocr(self, inputs, **options):
        for page in super().ocr(inputs, **options):
            print(page.source, flush=True)
            sys.stdin.readline()
            yield page


dotsctl.client.api.Client = Stepping
sys.argv = ["dotsctl", "ocr", "in", "-o", "out"]
main()
"""


class Run:
    """A run that waits after each page."""

    def __init__(self, shift_s: float = 0.0) -> None:
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(shift_s)],
            env=os.environ | {"PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.read: list[str] = []

    def step(self) -> None:
        """Wait until it has read a page."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it has read no page"
        self.read.append(line.strip())

    def go(self, pages: int = 1) -> None:
        """Let it continue with pages."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n" * pages)
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait for its end; returns the last line on standard error."""
        out, err = self.process.communicate(timeout=300)
        self.read += out.split()
        assert self.process.returncode == 0, err
        return err.splitlines()[-1]


def committed() -> Counter[str]:
    """How often each output was written, by the journal."""
    lines = Path("out/.dotsctl-journal.jsonl").read_text().splitlines()
    return Counter(entry["output"] for entry in map(json.loads, lines) if entry["finished"])


def check(runs: list[Run], most_again: int) -> None:
    names = [f"{number:03}" for number in range(PAGES)]
    assert committed() == {f"{name}.md": 1 for name in names}
    assert {name: Path(f"out/{name}.md").read_text() for name in names} == {
        name: f"text of {name}.png\n" for name in names
    }
    assert sorted(path.name for path in Path("out").iterdir() if path.name.startswith(".")) == [
        ".dotsctl-journal.jsonl"
    ]
    read = Counter(name for run in runs for name in run.read)
    assert len(read) == PAGES and sum(read.values()) <= PAGES + most_again


@pytest.mark.parametrize("number", [2, 5])
def test_runs_into_one_folder_share_the_pages(client: type[FakeClient], number: int) -> None:
    pictures(*(f"in/{number:03}.png" for number in range(PAGES)))
    runs = [Run(shift_s) for shift_s in (0, 3600, -3600, 0, 86400)[:number]]
    for run in runs:
        run.step()
    for run in runs:
        run.go(PAGES)
    ends = [run.end() for run in runs]
    check(runs, most_again=0)
    pages = [len(run.read) for run in runs]
    assert sum(pages) == PAGES and all(pages), "each page once, and each run has read some"
    for end, own in zip(ends, pages, strict=True):
        elsewhere = f", {PAGES - own} pages read by another run" if own < PAGES - 1 else ", 1 page read by another run"
        assert end == f"{own} page{'s' * (own != 1)} read{elsewhere}"


def test_what_a_killed_and_a_stopped_run_had_is_read_by_the_others_and_written_once(client: type[FakeClient]) -> None:
    pictures(*(f"in/{number:03}.png" for number in range(PAGES)))
    killed, stopped, *others = runs = [Run(shift_s) for shift_s in (0, 3600, -3600, 0, 0)[: 5 if MANY > 1 else 3]]
    for run in runs:
        run.step()
    for run in (killed, stopped):
        run.go()
        run.step()  # the second page, which it claims and does not write
    killed.process.send_signal(signal.SIGKILL)
    killed.process.communicate()
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        for run in others:
            run.go(PAGES)
        ends = [run.end() for run in others]
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    assert all("read by another run" in end for end in ends)
    before = committed()
    stopped.go(PAGES)
    assert stopped.end() == f"2 pages read, {PAGES - 2} pages read by another run"
    assert committed() == before, "what it had read was another's by then"
    check(runs, most_again=2)
