import io

import numpy as np
import pytest
from dotsctl.encoder_worker.blank import BLANK_SHARE, CHECKED_PX, INK_LEVELS, is_blank
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

A4_200_DPI = (1654, 2339)


def noisy(size: tuple[int, int], paper: tuple[int, int, int], sigma: float, seed: int = 0) -> Image.Image:
    """Paper as a scanner sees it."""
    noise = np.random.default_rng(seed).normal(0, sigma, (size[1], size[0], 3))
    return Image.fromarray((np.array(paper) + noise).clip(0, 255).astype(np.uint8))


def by_definition(image: Image.Image) -> bool:
    """The verdict as it is defined, computed slowly: the share of pixels that differ from the median paper."""
    factor = max(1, max(image.size) // CHECKED_PX)
    pixels = np.asarray(image.reduce(factor) if factor > 1 else image, np.int16)  # (height, width, 3)
    paper = np.median(pixels[::4, ::4].reshape(-1, 3), axis=0)
    ink = np.abs(pixels - paper.astype(np.int16)).max(axis=2) >= INK_LEVELS  # (height, width)
    return bool(ink.mean() < BLANK_SHARE)


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


@pytest.mark.parametrize("ink", [229, 200])
def test_faint_text_on_noisy_paper_is_not_blank(ink: int) -> None:
    page = noisy(A4_200_DPI, (255, 255, 255), 2)
    ImageDraw.Draw(page).text((200, 300), "seen through the paper", (ink,) * 3, ImageFont.load_default(40))
    assert not is_blank(page)


@pytest.mark.parametrize("paper", [(120, 130, 140), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize(("difference", "is_ink"), [(23, False), (24, True)])
def test_ink_begins_at_a_difference_of_24_levels_in_one_channel(
    paper: tuple[int, int, int], difference: int, is_ink: bool
) -> None:
    for channel in range(3):
        pixels = np.full((60, 60, 3), paper, np.uint8)
        pixels[30, 30, channel] = abs(paper[channel] - difference)
        assert is_blank(Image.fromarray(pixels)) is not is_ink


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)) | st.just((1300, 40)) | st.just((40, 3700)),
    paper=st.tuples(*[st.integers(0, 255)] * 3),
    difference=st.integers(-30, 30),
    spots=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_the_verdict_is_that_of_the_definition(
    size: tuple[int, int], paper: tuple[int, int, int], difference: int, spots: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), paper, np.int16) + rng.integers(-1, 2, (size[1], size[0], 3))
    for _ in range(spots):
        y, x, channel = rng.integers(0, [size[1], size[0], 3])
        pixels[y : y + 3, x : x + 3, channel] += difference
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    assert is_blank(image) == by_definition(image)
