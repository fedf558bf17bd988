"""The quality of a page from the command line to the encoder, and what a runtime learns about its own speed."""

import json
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.machine.measured_costs import Cost, Decoding, recall, remember
from dotsctl.protocol.model.directory import fingerprint

from tests.process.conftest import START_S, dotsctl
from tests.process.test_library import picture, stored
from tests.unit.test_page_time import dots_ocr

pytestmark = pytest.mark.process
ENCODER = "fake:side_px=2000"
BALANCED_PATCHES, FULL_PATCHES = 90 * 90, 142 * 142


@pytest.fixture
def model(run_folder: Path, tmp_path: Path) -> Path:
    """The configuration of dots.ocr; fakes need no weights."""
    (tmp_path / "model").mkdir()
    return dots_ocr(tmp_path / "model")


def make_slow(model: Path) -> None:
    """Remember that a page at full quality takes much longer than half a minute, and one at balanced less."""
    remember(
        fingerprint(model),
        this_machine(),
        [Cost(ENCODER, FULL_PATCHES, 60.0, True), Cost(ENCODER, BALANCED_PATCHES, 12.0, True)],
        [Decoding("fake", 100.0, 800.0)],
    )


def test_a_runtime_remembers_what_its_pages_cost(model: Path) -> None:
    name = f"{ENCODER},encode_ms=20"
    decoder = "fake:decode_ms=200"
    with Client(model=str(model), encoder=name, decoder=decoder, timeout_s=START_S, private=True) as client:
        assert len(list(client.ocr([stored(picture(colour)) for colour in range(6)], quality="balanced"))) == 6
        assert {page.quality for page in client.ocr([stored(picture(9))], quality="full")} == {"full"}
    found = recall(fingerprint(model), this_machine())
    loaded = found.of_encoder(name, decoder_busy=True)
    assert set(loaded) == {BALANCED_PATCHES}
    assert 0.02 <= loaded[BALANCED_PATCHES] < 2
    assert set(found.of_encoder(name, decoder_busy=False)) >= {FULL_PATCHES}
    decoding = found.of_decoder(decoder)
    assert decoding is not None
    assert decoding.tokens_a_page == 8
    assert 4 < decoding.tokens_per_s <= 41  # 8 tokens in 0.2 s at best


def test_fakes_without_a_model_leave_no_figures(run_folder: Path) -> None:
    with Client(encoder="fake", decoder="fake", timeout_s=START_S, private=True) as client:
        assert len(list(client.ocr([stored(picture(1))]))) == 1
    assert not list((run_folder.parent / "home").rglob("costs/*.json"))


def test_a_slow_machine_reads_at_balanced_quality_and_reports_it_once(model: Path) -> None:
    make_slow(model)
    lines: list[str] = []
    with Client(model=str(model), encoder=ENCODER, decoder="fake", timeout_s=START_S, private=True) as client:
        contents = [stored(picture(colour, (2000, 2000))) for colour in range(3)]
        pages = list(client.ocr(contents, on_notice=lines.append))
        (full,) = client.ocr(contents[:1], quality="full", on_notice=lines.append)
        (small,) = client.ocr([stored(picture(1, (900, 900)))], on_notice=lines.append)
        asked: list[str] = []
        assert client.ask("What is it?", contents[:1], on_notice=asked.append).quality == "balanced"
    assert {(page.quality, page.input_width) for page in pages} == {("balanced", 1260)}
    assert (full.quality, full.input_width) == ("full", 1988)
    assert small.quality == "full"
    assert lines == [
        "pages of 2000x2000 px: about 60 s at full size, 12 s at balanced: reading at balanced quality; "
        "--quality full changes that"
    ]
    assert asked == lines


def test_a_second_run_reads_nothing_again_because_the_machine_turned_out_slower(model: Path, tmp_path: Path) -> None:
    picture(1, (2000, 2000)).save(tmp_path / "a.png")
    command = ("ocr", str(tmp_path / "a.png"), "-o", str(tmp_path / "out") + "/", "-f", "json", "--model", str(model))
    fakes = ("--encoder", ENCODER, "--decoder", "fake")

    def run(*more: str) -> tuple[str, str]:
        process = dotsctl(*command, *fakes, *more)
        _, err = process.communicate(timeout=START_S)
        assert process.returncode == 0, err
        return json.loads((tmp_path / "out" / "a.json").read_text())["quality"], err

    assert run()[0] == "full"
    make_slow(model)
    quality, err = run()
    assert quality == "full" and "1 skipped" in err
    quality, err = run("--force")
    assert quality == "balanced" and "about 60 s at full size, 12 s at balanced" in err
    quality, err = run("--quality", "full")
    assert quality == "full" and "skipped" not in err and "about" not in err
    quality, err = run("-q", "--force")
    assert (quality, err) == ("balanced", "")
