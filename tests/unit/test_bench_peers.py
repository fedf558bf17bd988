"""``dotsctl bench peers``, without models: pages, counts, reports, and mlx-vlm as a stand-in."""

import sys
from pathlib import Path

import pytest
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.tools.bench.peers import counted, mlx_vlm
from dotsctl.tools.bench.peers.report import PeerComparison
from dotsctl.tools.bench.peers.run import Run, unequal
from dotsctl.tools.bench.peers.workload import Workload
from dotsctl.tools.random_checkpoint.shape import PRESETS
from PIL import Image

STAND_IN = Path(__file__).resolve().parents[1] / "mlx_vlm_stand_in"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python that finds the stand-in."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={STAND_IN} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def run(side: str, wall_s: float, cpu_s: float, tokens: int = 640) -> Run:
    return Run(side, 1, 16, wall_s, cpu_s, 10**9, 10, tokens)


def test_pages_have_the_size_that_was_asked_and_differ(tmp_path: Path) -> None:
    workload = Workload.parse("448x616:64", 3)
    files = workload.write(tmp_path)
    assert workload.patches == 1408 and workload.name == "448x616:64"
    for file in files:
        with Image.open(file) as page:
            assert page.size == (448, 616)
    assert len({file.read_bytes() for file in files}) == 3


@pytest.mark.parametrize("text", ["450x616:64", "448x616", "448x616:0", "0x0:5", "ax28:4", ""])
def test_sizes_that_a_side_would_resize_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Workload.parse(text, 1)


def test_runs_of_different_length_are_not_compared() -> None:
    assert unequal([run("dotsctl", 1, 1), run("mlx-vlm batch", 1, 1)]) == ""
    assert unequal([run("dotsctl", 1, 1), run("mlx-vlm batch", 1, 1, 639)]) == (
        "639 tokens with mlx-vlm batch, 640 with dotsctl"
    )


def test_the_verdict_compares_with_the_fastest_peer() -> None:
    runs = (run("dotsctl", 9.0, 8.0), run("mlx-vlm batch", 10.0, 16.0), run("mlx-vlm server", 20.0, 4.0))
    compared = PeerComparison(Workload(448, 616, 64, 10), runs)
    assert compared.verdict() == (
        "448x616:64: dotsctl takes 0.90 times the time of mlx-vlm batch, the fastest way to use mlx-vlm, and 0.50 "
        "times its processor time."
    )
    assert compared.table().splitlines()[-1].split()[-2:] == ["0.45", "2.00"]


def test_a_page_of_dots_ocr_at_200_dpi_needs_150_teraflop_in_the_tower() -> None:
    page = counted.count(PRESETS["full"].vision, PRESETS["full"].text, 16, 19_824, 1000)
    assert page.tower == pytest.approx(1.5e14, rel=0.01)
    assert page.bytes_read(1) > 10 * page.bytes_read(16) / 1.5
    assert page.bytes_read(1, 4.0) == pytest.approx(page.bytes_read(1) / 4)


@pytest.mark.parametrize("way", [mlx_vlm.BATCH, mlx_vlm.SEQUENTIAL])
def test_the_program_reads_every_page_in_the_other_environment(python: Path, tmp_path: Path, way: str) -> None:
    files = Workload.parse("56x56:5", 4).write(tmp_path)
    found = mlx_vlm.read(python, way, tmp_path, files, 5, 1)
    assert (found.tokens, found.pages, found.side) == (20, 4, f"mlx-vlm {way}")
    assert found.wall_s > 0 and found.peak_bytes > 1 << 20
    assert len(found.first_token_s) == (4 if way == mlx_vlm.SEQUENTIAL else 0)


def test_the_server_is_read_by_each_number_of_clients_and_ended(python: Path, tmp_path: Path) -> None:
    files = Workload.parse("56x56:5", 6).write(tmp_path)
    runs = mlx_vlm.serve(python, tmp_path, files, 5, [1, 3], 1)
    assert [(each.clients, each.tokens) for each in runs] == [(1, 30), (3, 30)]


def test_a_server_that_does_not_start_is_named_with_its_last_line(python: Path, tmp_path: Path) -> None:
    (tmp_path / "unfit").touch()
    with pytest.raises(CommandFailedError, match="the server of mlx-vlm failed: this model is not supported"):
        mlx_vlm.serve(python, tmp_path, [tmp_path / "page.png"], 5, [1], 1)
