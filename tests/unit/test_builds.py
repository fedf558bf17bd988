"""Which build of dots.mocr fits which machine, computed from shapes alone."""

import json

import pytest
from click.testing import CliRunner
from dotsctl.client.cli.available import available
from dotsctl.client.cli.main import cli
from dotsctl.client.models.aliases import BUILDS
from dotsctl.client.models.builds import Fit, best, builds, fit
from dotsctl.client.models.pull import memory_line
from dotsctl.protocol.machine.memory import MemoryLimit, metal_working_set_bytes

GIB = 1 << 30


def mac(gib: int) -> MemoryLimit:
    return MemoryLimit(gib * GIB, metal_working_set_bytes(gib * GIB))


def test_sizes_are_those_of_the_published_repositories() -> None:
    sizes = {each.name: each.download_bytes for each in builds()}
    assert len(sizes) == 1 + len(BUILDS)
    assert sizes["dots.mocr"] == sizes["dots.mocr-bf16"] == 2 * (1_262_091_264 + 1_777_088_000)
    tokenizer_and_json = 20_000_000
    published = 3_538_447_417  # mlx-community/dots.mocr-4bit@708b576, all files
    assert published - tokenizer_and_json < sizes["dots.mocr-4bit"] < published


def test_memory_is_more_than_the_weights() -> None:
    for each in builds():
        assert each.download_bytes < each.least_bytes(2) < each.download_bytes + GIB


@pytest.mark.parametrize(
    ("gib", "expected"),
    [(4, None), (8, "dots.mocr-4bit"), (16, "dots.mocr-8bit"), (24, "dots.mocr"), (64, "dots.mocr")],
)
def test_each_mac_gets_the_largest_build_that_leaves_room(gib: int, expected: str | None) -> None:
    chosen = best(builds(), mac(gib), 2)
    assert (chosen.name if chosen else None) == expected


def test_what_does_not_fit_is_said() -> None:
    found = {each.name: fit(each, mac(8), 2) for each in builds()}
    assert found["dots.mocr"] is Fit.NONE and found["dots.mocr-4bit"] is Fit.TIGHT
    assert {fit(each, mac(24), 2) for each in builds()} == {Fit.GOOD}


def test_the_table_marks_the_best_and_names_the_command() -> None:
    lines = available(False, mac(16), 2).splitlines()
    (marked,) = (line for line in lines if line.startswith("*"))
    assert marked.split()[1:4] == ["dots.mocr-8bit", "4.41", "GB"]
    assert "this machine: of 16.0 GiB a model may use 10.7 GiB; dotsctl pull dots.mocr-8bit" in lines
    assert "no build fits this machine" in available(False, mac(4), 2)


def test_the_command_prints_json_for_programs() -> None:
    outcome = CliRunner().invoke(cli, ["ls", "--available", "--json"])
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert found["usable_bytes"] > 0 and len(found["builds"]) == 1 + len(BUILDS)
    assert sum(each["best"] for each in found["builds"]) <= 1


def test_pull_states_the_memory_that_a_model_takes_and_warns_where_it_does_not_fit() -> None:
    facts = builds()[0].facts
    assert memory_line(facts, MemoryLimit(64 * GIB)).startswith("memory: ")
    line = memory_line(facts, MemoryLimit(4 * GIB))
    assert line.startswith("warning: memory: ") and "this machine has 4.0 GiB for a model" in line
    assert "dotsctl ls --available" in line
