"""Small samples of what the programs ``chaos`` and ``bench`` of ``dotsctl.tools.dev`` do at length on demand."""

import json
import random
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Command, ToClient
from dotsctl.protocol.messages import PageFailed, PageResult
from dotsctl.tools.dev.bench import control as bench_control
from dotsctl.tools.dev.bench import main as bench
from dotsctl.tools.dev.bench import simulation as bench_simulation
from dotsctl.tools.dev.chaos import everything as chaos_everything
from dotsctl.tools.dev.chaos import swaps
from dotsctl.tools.dev.chaos.everything import kill_everything
from dotsctl.tools.dev.chaos.soak import soak
from dotsctl.tools.dev.chaos.swaps import swap_under_load
from dotsctl.tools.dev.chaos.workers import kill_workers

from tests.conftest import sample

pytestmark = pytest.mark.process


@pytest.mark.timeout(300)
def test_fourteen_random_deaths_lose_double_change_and_condemn_no_page(run_folder: Path) -> None:
    """The gap lets every suspect be cleared, so that no page can be hit alone twice by mere chance."""
    outcome = kill_workers(pages=200, kills=14, seed=4, least_gap=12)
    assert outcome.holds, outcome
    assert outcome.kills == 14
    assert outcome.restarts >= 7, "most deaths are to hit a worker that works"


@pytest.mark.sampled
@pytest.mark.timeout(300)
def test_a_run_that_was_killed_with_all_its_processes_is_completed_by_the_same_command(run_folder: Path) -> None:
    moments = sample(2, of=6)
    outcome = kill_everything(pages=40, moments=moments, seed=1, tell=lambda _: None)
    assert outcome.holds, outcome
    assert outcome.interrupted == moments


def test_six_swaps_under_load_lose_and_double_nothing_and_every_record_names_its_encoder(run_folder: Path) -> None:
    outcome = swap_under_load(6, tell=lambda _: None)
    assert outcome.holds, outcome
    assert outcome.encoders == 7 and outcome.pages >= 600


def test_a_record_that_names_another_encoder_and_a_swap_that_fails_are_noticed(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = swaps._judge
    monkeypatch.setattr(swaps, "_judge", lambda *arguments: original(*arguments) and "fake:encode_ms=7")
    monkeypatch.setattr(swaps, "SWAP_S", 1.0)  # the swapper waits for a page of the first encoder, which is not named
    outcome = swap_under_load(1, tell=lambda _: None)
    assert (outcome.wrong_encoder, outcome.refused, outcome.holds) == (outcome.pages, 1, False)


class Late(random.Random):
    """Chooses a moment long after the end of the run."""

    def random(self) -> float:
        return 60.0


def test_a_second_run_that_decodes_everything_again_is_noticed(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that the experiment finds what it looks for: here results and journal are lost."""
    original = chaos_everything.outputs

    def outputs_that_get_lost(folder: Path) -> dict[str, bytes]:
        written = original(folder)
        shutil.rmtree(folder)  # without their journal, results would be kept as files of others
        folder.mkdir()
        return written

    monkeypatch.setattr(chaos_everything, "outputs", outputs_that_get_lost)
    monkeypatch.setattr(chaos_everything.random, "Random", Late)
    monkeypatch.setattr(chaos_everything, "MOST_TRIES", 1)
    outcome = kill_everything(pages=4, moments=1, seed=1, tell=lambda _: None)
    assert (outcome.decoded_again, outcome.interrupted, outcome.holds) == (4, 0, False)


def test_a_thousand_tiny_pages_leave_memory_and_descriptors_as_they_were(run_folder: Path) -> None:
    """Latency is left to the long run: on a shared machine a short one says nothing about it."""
    outcome = soak(1000, tell=lambda _: None, turns=1)
    assert outcome.failed == 0
    assert max(outcome.memory_ratio.values()) <= 1.05, outcome
    assert all(last <= second for second, last in outcome.descriptors.values()), outcome


@pytest.mark.timing
def test_a_control_message_is_answered_at_once_while_large_pages_flow(run_folder: Path) -> None:
    """Where other programs take the cores only a much slower answer proves anything; ``--check`` holds the 10 ms."""
    outcome = min((bench_control.measure(questions=200, mib=15) for _ in range(2)), key=lambda outcome: outcome.p99_ms)
    assert outcome.p50_ms <= bench_control.LIMIT_MS, outcome
    assert outcome.p99_ms <= 5 * bench_control.LIMIT_MS, outcome


def test_the_bench_plays_schedules_on_several_cores_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_simulation, "CHUNK", 40)
    done = CliRunner().invoke(bench.cli, ["simulate", "--seeds", "104", "--first", "77", "--json"])
    assert done.exit_code == 0, done.output
    reported = json.loads(done.stdout)
    assert reported["schedules"] == 104 and reported["failing"] == []
    assert reported["answered"] == sum(bench_simulation.play(first, 26).answered for first in range(77, 181, 26))


def test_a_broken_promise_is_reported_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Coordinator.take_commands

    def answers_twice(self: Coordinator) -> list[Command]:
        commands = original(self)
        ends = [c for c in commands if isinstance(c, ToClient) and isinstance(c.message, PageResult | PageFailed)]
        return commands + ends

    monkeypatch.setattr(Coordinator, "take_commands", answers_twice)
    outcome = bench_simulation.play(5, 20)
    assert outcome.schedules == 20
    assert any(line.startswith("seed 5: page") and "answered 2 times" in line for line in outcome.failing)
