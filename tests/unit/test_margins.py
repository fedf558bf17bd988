"""White margins: what is trimmed, what never is, and that boxes on a trimmed page are exact."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.bucket_patches import prepare
from dotsctl.encoder_worker.image import DEVIATION, MEAN, Patches, patchify
from dotsctl.encoder_worker.margins import find_window
from dotsctl.encoder_worker.opening import window_of
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.geometry import PixelLimits, fit
from dotsctl.protocol.model.buckets import place
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageOps

from tests.decoding import decode_image

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1; x1 and y1 are the first pixels outside."""
quick = settings(max_examples=120, deadline=None)


def paper(width: int = 800, height: int = 1100, level: int = 250) -> Image.Image:
    return Image.new("RGB", (width, height), (level, level, level))


def with_ink(page: Image.Image, *rectangles: Rectangle, level: int = 0) -> Image.Image:
    draw = ImageDraw.Draw(page)
    for x0, y0, x1, y1 in rectangles:
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), (level, level, level))
    return page


def with_noise(page: Image.Image, deviation: float, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, deviation, (page.height, page.width, 3))
    return Image.fromarray(np.clip(np.asarray(page) + noise, 0, 255).astype(np.uint8))


def dark_border(page: Image.Image) -> Image.Image:
    return with_ink(page, (0, 0, 6, page.height))


def grey(page: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(page) * 0.8).astype(np.uint8))


def shadow(page: Image.Image) -> Image.Image:
    """A photograph of a page: light at its left, dark at its right."""
    falling = np.linspace(1.0, 0.6, page.width)[None, :, None]
    return Image.fromarray((np.asarray(page) * falling).astype(np.uint8))


def test_white_margins_go_and_a_small_margin_stays() -> None:
    assert find_window(with_ink(paper(), (200, 300, 600, 800))) == (184, 284, 616, 816)


def test_scanner_noise_is_no_ink() -> None:
    page = with_ink(paper(), (200, 300, 600, 800))
    assert find_window(with_noise(page, 6.0)) == find_window(page)


def test_a_page_number_far_below_the_text_is_kept() -> None:
    found = find_window(with_ink(paper(), (200, 300, 600, 500), (398, 1060, 402, 1068)))
    assert found is not None and found[3] >= 1068


def test_pale_print_is_ink() -> None:
    found = find_window(with_ink(with_ink(paper(), (300, 300, 500, 500)), (300, 900, 340, 903), level=215))
    assert found is not None and found[3] >= 903


@pytest.mark.parametrize("damage", [dark_border, grey, shadow])
def test_an_edge_that_is_not_clearly_white_is_not_trimmed(damage: Callable[[Image.Image], Image.Image]) -> None:
    found = find_window(damage(with_ink(paper(), (200, 300, 600, 800))))
    assert found is None or (damage is dark_border and found[0] == 0)


def test_a_page_without_ink_and_one_without_margins_are_not_trimmed() -> None:
    assert find_window(paper()) is None
    assert find_window(with_ink(paper(), (8, 8, 792, 1092))) is None


def test_only_a_page_that_requests_it_is_trimmed() -> None:
    page = with_ink(paper(), (200, 300, 600, 800))
    trimmed, kept = (PageImage(None, np.asarray(page), None, trim_margins=trim) for trim in (True, False))
    assert window_of(trimmed, page) == find_window(page)
    assert window_of(kept, page) is None


@st.composite
def rectangles(draw: st.DrawFn, width: int, height: int, least: int) -> Rectangle:
    """A rectangle of at least ``least`` pixels in each direction within a page."""
    x0, y0 = draw(st.integers(0, width - least)), draw(st.integers(0, height - least))
    return x0, y0, draw(st.integers(x0 + least, width)), draw(st.integers(y0 + least, height))


@quick
@given(st.data(), st.integers(60, 900), st.integers(60, 900), st.integers(0, 150), st.integers(0, 99))
def test_ink_is_never_cut(data: st.DataObject, width: int, height: int, level: int, seed: int) -> None:
    marks = data.draw(st.lists(rectangles(width, height, 3), min_size=1, max_size=4))
    page = with_noise(with_ink(paper(width, height), *marks, level=level), 3.0, seed)
    found = find_window(page)
    assert found == find_window(page)
    x0, y0, x1, y1 = found or (0, 0, width, height)
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    for left, top, right, bottom in marks:
        assert x0 <= left and y0 <= top and right <= x1 and bottom <= y1


def pixels_of(patches: Patches) -> NDArray[np.float64]:
    """(height, width) brightness, 0 to 1, of what the tower is given."""
    rows, columns = patches.grid
    blocks = patches.values.reshape(rows // 2, columns // 2, 2, 2, 3, 14, 14)
    upright = blocks.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * 14, columns * 14, 3)  # (height, width, 3)
    return (upright.astype(np.float64) * DEVIATION + MEAN).mean(axis=2)


def turned(page: Image.Image, orientation: int) -> bytes:
    """The page as a file whose EXIF orientation says how it is to be turned."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    page.save(stream, "PNG", exif=exif)
    return stream.getvalue()


def shown_box(box: Rectangle, size: tuple[int, int], orientation: int) -> Rectangle | None:
    """A box of the stored page where Pillow shows it."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(mask).getbbox()


@quick
@given(st.data(), st.integers(150, 700), st.integers(150, 700), st.integers(1, 8), st.booleans(), st.booleans())
def test_a_box_drawn_on_the_page_maps_to_itself(
    data: st.DataObject, width: int, height: int, orientation: int, in_bucket: bool, trim: bool
) -> None:
    box = data.draw(rectangles(width, height, 24))
    image, source, orientation = decode_image(turned(with_ink(paper(width, height), box), orientation))
    window = find_window(image) if trim else None
    limits = PixelLimits(3136, 200_000)
    if in_bucket:
        patches = prepare(image, place(source, orientation, limits, (336, 440, 960), window))
    else:
        patches = patchify(image, source, orientation, limits, window)
    rows, columns = np.nonzero(pixels_of(patches) < 0.5)  # the middle between ink and paper
    geometry = patches.geometry
    drawn = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    found = geometry.box_to_oriented(drawn)
    rounding = max(1 / side for side in geometry.scale)  # a pixel of the resized page, in pixels of the page
    assert found == pytest.approx(shown_box(box, (width, height), orientation), abs=rounding)


@quick
@given(st.data(), st.integers(100, 3000), st.integers(100, 3000), st.integers(1, 8))
def test_a_box_given_in_pixels_of_the_page_lies_in_the_trimmed_page_where_it_is_drawn(
    data: st.DataObject, width: int, height: int, orientation: int
) -> None:
    oriented = (height, width) if orientation >= 5 else (width, height)
    window = data.draw(rectangles(*oriented, 30))
    if max(window[2] - window[0], window[3] - window[1]) > 50 * min(window[2] - window[0], window[3] - window[1]):
        return
    x0, y0, x1, y1 = window
    for geometry in (
        fit((width, height), orientation, PixelLimits(), window),
        place((width, height), orientation, PixelLimits(), (960, 4032), window).geometry,
    ):
        inside = geometry.box_from_oriented((x0, y0, x1, y1))
        assert inside[:2] == pytest.approx((0, 0), abs=1e-6)
        assert all(value <= side + 1e-6 for value, side in zip(inside[2:], geometry.resized, strict=True))
        assert geometry.box_to_oriented(inside) == pytest.approx((x0, y0, x1, y1), abs=1e-6)
        outside = (0.0, 0.0, float(oriented[0]), float(oriented[1]))
        assert geometry.box_to_oriented(geometry.box_from_oriented(outside)) == pytest.approx(outside, abs=1e-6)
