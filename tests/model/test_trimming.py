"""Trimmed margins with a real model: fewer errors at no more operations."""

import re

import pytest
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.dev import trimming
from dotsctl.tools.pages.truths import generated_pages
from PIL import Image

pytestmark = pytest.mark.model
pytest.importorskip("mlx.core", reason="MLX is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_trimmed_pages_are_read_with_fewer_errors_and_no_more_operations() -> None:
    pages = [trimming.with_margins(page, 0.4) for page in generated_pages(4, 1_000_000, "full", ("dejavu-sans",))]
    lines = list(trimming.measure(pages, "demo"))
    (whole, most), (trimmed, least) = (
        (float(found[1]), float(found[2]))
        for line in lines
        if (found := re.search(r"([0-9.]+)% of .*, ([0-9.]+) G operations", line))
    )
    assert trimmed < whole
    assert least <= most


def test_a_page_lies_in_the_middle_of_its_sheet() -> None:
    (page,) = generated_pages(1, 1_000_000, "small", ("dejavu-sans",))
    assert isinstance(page.image, Image.Image)
    sheet = trimming.with_margins(page, 0.5).image
    assert isinstance(sheet, Image.Image)
    width, height = page.image.size
    assert sheet.size == (width + 2 * round(width / 2), height + 2 * round(height / 2))
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    corner = (round(width / 2), round(height / 2))
    assert sheet.crop((*corner, corner[0] + width, corner[1] + height)).tobytes() == page.image.tobytes()


def test_a_model_with_larger_pages_than_balanced_quality_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trimming.QUALITY_PIXELS, trimming.Quality.BALANCED, 10_000)
    with pytest.raises(UsageError, match="balanced quality 10000"):
        list(trimming.measure([], "demo"))
