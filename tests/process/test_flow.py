"""Overlap and memory of the pipeline, with the benchmark's own measurement."""

from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.tools.bench import pipeline as bench_pipeline
from dotsctl.tools.bench import transport as bench_transport
from dotsctl.tools.bench.pipeline import Memory, read_pages

pytestmark = pytest.mark.process


@pytest.mark.timing
def test_encoding_and_decoding_overlap(run_folder: Path) -> None:
    """Other tests use the processors meanwhile, so the best of three runs counts."""
    runs = (bench_pipeline.measure(pages=16, embed_mib=10, encode_ms=60, decode_ms=60) for _ in range(3))
    outcome = next((run for run in runs if run.wall_s < 0.75 * run.serial_s), None)
    assert outcome is not None, "in three runs the halves did not overlap"
    assert outcome.wall_s > 0.99 * outcome.ideal_s, "faster than the fakes are: the clock is wrong"
    assert min(outcome.busy.values()) > 0.6


@pytest.mark.timing
def test_pages_are_prepared_while_earlier_ones_are_encoded(run_folder: Path) -> None:
    """Only the first page, with 40 ms of about two seconds, finds the encoder without work."""
    runs = (bench_pipeline.measure(32, 1, encode_ms=60, decode_ms=30, prepare_ms=40) for _ in range(3))
    assert any(0.01 < outcome.unprepared < 0.05 for outcome in runs), "in three runs the encoder waited for pages"


@pytest.mark.timeout(300)
def test_many_pages_keep_to_the_credits_and_leave_memory_flat(run_folder: Path) -> None:
    """One array of 10 MiB more or less in flight is noise of up to 5 %, a leak is there in every run: so two tries."""
    drift = many_pages()
    if max(drift.values()) > 1.05:
        drift = many_pages()
    assert max(drift.values()) <= 1.05, drift


def many_pages() -> dict[str, float]:
    pages = 1000  # of fewer, one array more in flight is a fifth of the encoder's memory
    with Client(encoder="fake:embed_mib=10", decoder="fake", private=True) as client:
        memory = Memory(client)
        read_pages(client, pages, memory)
        counters = client.status().counters
    assert counters["done"] == pages
    assert counters["max_outstanding"] == 2
    assert counters["max_outstanding_bytes"] <= 2 * 10 * 2**20
    return memory.drift()


@pytest.mark.timing
def test_a_transfer_costs_little_more_than_the_bare_socket(run_folder: Path) -> None:
    """Guards against a much slower way alone: one more copy is lost in the noise. ``--check`` holds the 1.3."""
    outcome = min((bench_transport.measure(10, 15) for _ in range(3)), key=lambda outcome: outcome.ratio)
    assert outcome.ratio < 1.6, outcome
