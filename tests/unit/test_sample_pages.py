"""The sample pages under ``client/sample_pages`` are what their program draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.dev.sample_pages import SAMPLES, SamplePage, draw
from PIL import Image

PAGES = Path(__file__).parents[2] / "client" / "sample_pages"
NAMES = [sample.name for sample in SAMPLES]
pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_there_is_a_picture_and_a_text_for_each_sample() -> None:
    assert {path.name for path in PAGES.iterdir()} == {f"{name}{end}" for name in NAMES for end in (".png", ".txt")}


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_the_stored_text_is_the_drawn_text(sample: SamplePage) -> None:
    text = (PAGES / f"{sample.name}.txt").read_text(encoding="utf-8")
    assert text == sample.truth + "\n"
    assert 4 <= len(sample.text.splitlines()) <= 10
    assert text.isascii()


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_the_stored_picture_is_what_is_drawn(sample: SamplePage) -> None:
    with Image.open(PAGES / f"{sample.name}.png") as stored:
        assert (stored.mode, stored.size) == ("RGB", sample.page_px)
        difference = np.abs(np.asarray(stored, int) - np.asarray(draw(sample), int))
    assert difference.mean() < 2  # another version of the font renderer may smooth a little differently


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_a_sample_is_no_larger_than_the_model_can_read(sample: SamplePage) -> None:
    assert sample.page_px[0] <= 14 * 28
    assert sample.page_px[1] <= 20 * 28


@pytest.mark.parametrize("page_px", [(100, 224), (364, 100)])
def test_text_that_does_not_fit_is_refused(page_px: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="letter: the text needs"):
        draw(replace(SAMPLES[0], page_px=page_px))
