"""Claims of runs in one folder: one owner at a time, whatever becomes of runs."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from dotsctl.client.outputs import runs
from dotsctl.client.outputs.journal import Entry, Journal
from dotsctl.client.outputs.runs import RUNS_NAME, Runs


@contextmanager
def run(folder: Path) -> Iterator[Runs]:
    one = Runs(folder)
    one.start()
    try:
        yield one
    finally:
        one.stop()


class Clock:
    """Stands for the monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(runs.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(runs, "BEAT_S", 1e6)  # no lease is kept up
    return Clock(monkeypatch)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next run one of another machine."""
    monkeypatch.setattr(runs, "MACHINE", "0" * 16)


def test_one_run_at_a_time_has_a_claim(tmp_path: Path) -> None:
    with run(tmp_path) as one, run(tmp_path) as two:
        assert one.claim("a.md") and one.claim("a.md") and not two.claim("a.md") and two.claim("b.md")
        assert one.holds("a.md") and not two.holds("a.md")
        two.release("a.md")
        assert one.holds("a.md"), "only its owner lets others have it"
        one.release("a.md")
        assert two.claim("a.md") and not one.holds("a.md")
    assert not (tmp_path / RUNS_NAME).exists()


def test_the_claim_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from dotsctl.client.outputs.runs import Runs\n"
        "run = Runs(Path(sys.argv[1])); run.start(); assert run.claim('a.md'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program, str(tmp_path)], check=False).returncode == 9
    with run(tmp_path) as one:
        assert one.claim("a.md")


def test_the_claim_of_a_silent_machine_is_taken_over_after_a_minute_and_its_owner_sees_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with run(tmp_path) as here:
        with monkeypatch.context() as patch:
            elsewhere(patch)
            asleep = Runs(tmp_path)
        asleep.start()
        assert asleep.claim("a.md") and not here.claim("a.md")
        clock.now_s += 59
        assert not here.claim("a.md")
        asleep._beat()
        clock.now_s += 2
        assert not here.claim("a.md"), "it was seen to live"
        clock.now_s += 61
        assert here.claim("a.md")
        assert not asleep.holds("a.md") and not asleep.claim("a.md"), "the other one is alive"
        here.release("a.md")
        assert not asleep.holds("a.md"), "what it had claimed was another's meanwhile"
        asleep.stop()


def test_a_claim_that_a_killed_run_did_not_fill_stops_nobody(tmp_path: Path, clock: Clock) -> None:
    with run(tmp_path) as one:
        one._path("a.md", 1).touch()
        assert one.claim("a.md")
        one.release("a.md")
        with run(tmp_path) as two:
            one._path("a.md", 1).touch()
            assert not two.claim("a.md"), "the other one may be filling it"
            clock.now_s += 61
            assert two.claim("a.md")


class Taker(Runs):
    """Makes its claim at the same moment as the others."""

    barrier: ClassVar[threading.Barrier]

    def _make(self, what: str, number: int) -> bool:
        self.barrier.wait(10)
        return super()._make(what, number)


def test_of_many_that_take_a_claim_over_one_gets_it(tmp_path: Path) -> None:
    abandoned = Runs(tmp_path)
    abandoned.start()
    assert abandoned.claim("a.md")
    runs._remove(abandoned._lease(abandoned.name))
    takers = [Taker(tmp_path) for _ in range(4)]
    Taker.barrier = threading.Barrier(len(takers))
    for taker in takers:
        taker.start()
    got: list[bool] = []
    threads = [threading.Thread(target=lambda each=each: got.append(each.claim("a.md"))) for each in takers]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(got) == [False, False, False, True]
    assert [taker.holds("a.md") for taker in takers].count(True) == 1 and not abandoned.holds("a.md")
    for taker in [*takers, abandoned]:
        taker.stop()


def test_lines_of_runs_beside_each_other_are_one_journal_in_their_order(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    for journal in (first, second):
        journal.probe()
    first.append(Entry("a.md", "/a.png", "d", "first", True))
    second.refresh()
    second.append(Entry("a.md", "/a.png", "d", "second", True))
    second.append(Entry("b.md", "/b.png", "d", "second", True))
    third = Journal(tmp_path)
    assert third.entry("a.md") == second.entry("a.md") and third.number_at_start == 3
    for journal in (second, first):
        journal.close()
    assert [path.name for path in tmp_path.iterdir()] == [".dotsctl-journal.jsonl"]
    folded = Journal(tmp_path)
    assert (folded.entry("a.md"), folded.entry("b.md")) == (second.entry("a.md"), second.entry("b.md"))


def test_the_journal_of_a_killed_run_is_read_and_folded_by_the_next_one(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from dotsctl.client.outputs.journal import Entry, Journal\n"
        "one, two = Journal(Path(sys.argv[1])), Journal(Path(sys.argv[1]))\n"
        "one.probe(); two.probe(); two.append(Entry('a.md', '/a.png', 'd', 'key', True)); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program, str(tmp_path)], check=False).returncode == 9
    journal = Journal(tmp_path)
    assert journal.entry("a.md") is not None
    journal.probe()
    journal.close()
    assert sorted(os.listdir(tmp_path)) == [".dotsctl-journal.jsonl"]  # noqa: PTH208
    assert Journal(tmp_path).entry("a.md") == journal.entry("a.md")
