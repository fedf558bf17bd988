"""Readers of bytes from sockets and files: hypothesis damages the stored corpus; ``tools/dev/fuzz`` does so too."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.tools.dev.fuzz import main as fuzz
from dotsctl.tools.dev.fuzz.mutation import Fuzzer, mutated
from dotsctl.tools.dev.fuzz.targets import JSON_TOKENS, TARGETS, Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[1] / "corpus"
SEEDS = {name: fuzz.seeds_of(name, CORPUS) for name in TARGETS}
MOST_CORPUS_BYTES = 200_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    yield tmp_path


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_input_is_read_or_refused_and_never_another_error(
    name: str, folder: Path, data: st.DataObject
) -> None:
    seed, other = (data.draw(st.sampled_from(SEEDS[name])) for _ in range(2))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    assert isinstance(TARGETS[name].check(mutated(rng, seed, other, TARGETS[name].tokens), folder), str)


@pytest.mark.parametrize("name", TARGETS)
def test_every_piece_that_matters_is_refused_or_read_alone_and_in_a_complete_input(name: str, folder: Path) -> None:
    target = TARGETS[name]
    for token in target.tokens:
        for content in (token, SEEDS[name][0] + token, token + SEEDS[name][0], token * 3):
            assert isinstance(target.check(content, folder), str)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_shows_each_reader_something_that_it_accepts(name: str, folder: Path) -> None:
    answers = {TARGETS[name].check(content, folder) for content in SEEDS[name]}
    assert any("cannot" not in answer and answer not in ("none", "None") for answer in answers), answers


def test_the_corpus_is_small_and_belongs_to_targets() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_CORPUS_BYTES
    assert {path.parent.name for path in files} == set(TARGETS)


def test_the_fuzzer_finds_what_a_reader_does_not_expect_and_keeps_new_answers(tmp_path: Path) -> None:
    def reader(content: bytes, _: Path) -> str:
        if b"null" in content and content.startswith(b"{"):
            raise KeyError("nobody thought of null")
        return "an object" if content.startswith(b"{") else "something else"

    outcome = Fuzzer(Target(reader, JSON_TOKENS), [b"{}", b"[]"], tmp_path).run(messages=20_000, seconds=None)
    assert outcome.finding is not None and b"null" in outcome.finding and "nobody thought" in outcome.trace
    assert outcome.kept == 4, "the corpus, and one input for each answer"


def test_a_reader_that_hangs_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(content: bytes, _: Path) -> str:
        while content == b"\xff":
            pass
        return "read"

    monkeypatch.setattr("dotsctl.tools.dev.fuzz.mutation.HANG_S", 0.3)
    outcome = Fuzzer(Target(reader, (b"\xff",)), [b""], tmp_path).run(messages=50_000, seconds=None)
    assert outcome.finding == b"\xff" and "HangError" in outcome.trace


def test_the_command_reports_the_rate_and_stores_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.environ.get("DOTSCTL_MODELS")
    result = CliRunner().invoke(fuzz.main, ["runtime-facts", "--messages", "200", "--corpus", str(CORPUS)])
    assert result.exit_code == 0 and "runtime-facts: 200 messages in" in result.output, result.output

    def broken(content: bytes, _: Path) -> str:
        raise KeyError("broken")

    monkeypatch.setitem(fuzz.TARGETS, "runtime-facts", Target(broken, JSON_TOKENS))
    result = CliRunner().invoke(fuzz.main, ["runtime-facts", "--messages", "5", "--corpus", str(CORPUS)])
    assert result.exit_code == 1 and "finding-runtime-facts.bin breaks it" in result.output
    assert Path("finding-runtime-facts.bin").read_bytes() == SEEDS["runtime-facts"][0]
    assert os.environ.get("DOTSCTL_MODELS") == before
    result = CliRunner().invoke(fuzz.main, ["codec"])
    assert result.exit_code == 1 and "holds no inputs" in result.output
