import io

import numpy as np
import pytest
from dotsctl.encoder_worker.blank import is_blank
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

A4_200_DPI = (1654, 2339)


def noisy(size: tuple[int, int], paper: tuple[int, int, int], sigma: float, seed: int = 0) -> Image.Image:
    """Paper as a scanner sees it."""
    noise = np.random.default_rng(seed).normal(0, sigma, (size[1], size[0], 3))
    return Image.fromarray((np.array(paper) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("paper", [(255, 255, 255), (238, 232, 214), (20, 20, 24)])
@pytest.mark.parametrize("size", [A4_200_DPI, (300, 200), (1, 1)])
def test_paper_of_any_colour_is_blank(paper: tuple[int, int, int], size: tuple[int, int]) -> None:
    assert is_blank(Image.new("RGB", size, paper))


def test_scanner_noise_and_dust_are_blank() -> None:
    page = noisy(A4_200_DPI, (244, 243, 238), 4)
    draw = ImageDraw.Draw(page)
    for x, y in np.random.default_rng(1).integers(10, 1600, (8, 2)):
        draw.point((int(x), int(y)), (120, 120, 120))
    assert is_blank(page)


def test_jpeg_keeps_a_blank_page_blank() -> None:
    stream = io.BytesIO()
    noisy((1240, 1754), (250, 250, 250), 3).save(stream, "JPEG", quality=40)
    assert is_blank(Image.open(stream).convert("RGB"))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1640), st.integers(0, 2315), st.sampled_from("17ilt."), st.sampled_from([(0, 0, 0), (190, 0, 0)]))
def test_a_single_small_character_is_not_blank(x: int, y: int, character: str, ink: tuple[int, int, int]) -> None:
    page = Image.new("RGB", A4_200_DPI, "white")
    size = 28 if character != "." else 90  # 10 pt; a full stop alone must be large
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(character)
    place = (min(x, 1654 - int(right)) - left, min(y, 2339 - int(bottom)) - top)
    ImageDraw.Draw(page).text(place, character, ink, font)
    assert not is_blank(page)


def test_a_faint_pencil_line_is_not_blank() -> None:
    page = noisy((1240, 1754), (255, 255, 255), 2)
    ImageDraw.Draw(page).line((300, 900, 500, 905), (215, 215, 215), 2)
    assert not is_blank(page)


def test_light_yellow_print_on_white_is_not_blank() -> None:
    page = Image.new("RGB", (1240, 1754), "white")
    ImageDraw.Draw(page).text((500, 800), "Yellow", (255, 255, 150), ImageFont.load_default(30))
    assert not is_blank(page)
