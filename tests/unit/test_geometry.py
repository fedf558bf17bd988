"""The resize rule and the way of boxes back to the source page."""

import math

import pytest
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import (
    CELL_PX,
    MAX_ASPECT,
    MOST_PIXELS,
    Box,
    PageGeometry,
    PixelLimits,
    fit,
    smart_resize,
)
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

DEFAULT = PixelLimits()
quick = settings(max_examples=200, deadline=None)
sides = st.integers(1, 12_000)
limits = st.tuples(st.integers(784, 400_000), st.integers(0, 11_000_000)).map(
    lambda pair: PixelLimits(pair[0], pair[0] + pair[1])
)
orientations = st.integers(1, 8)


@pytest.mark.parametrize(
    ("width", "height", "resized", "tokens"),
    [
        (1700, 2250, (1708, 2240), 4880),
        (1654, 2339, (1652, 2352), 4956),
        (1700, 2200, (1708, 2212), 4819),
        (1240, 1754, (1232, 1764), 2772),
        (827, 1170, (840, 1176), 1260),
        (595, 842, (588, 840), 630),
        (2339, 3307, (2352, 3304), 9912),
        (2480, 3508, (2492, 3500), 11125),
        (3360, 3360, (3360, 3360), 14400),
    ],
)
def test_common_pages_have_the_sizes_that_the_original_gives(
    width: int, height: int, resized: tuple[int, int], tokens: int
) -> None:
    assert fit((width, height), 1, DEFAULT).resized == resized
    assert resized[0] * resized[1] // CELL_PX**2 == tokens


@pytest.mark.parametrize(("side", "expected"), [(42, 56), (70, 56), (98, 112), (126, 112), (71, 84), (69, 56)])
def test_halves_round_to_the_even_multiple(side: int, expected: int) -> None:
    assert smart_resize(side, 280, DEFAULT) == (expected, 280)


@quick
@given(sides, sides, limits)
@example(10, 1000, DEFAULT)
@example(1, 1, DEFAULT)
@example(3361, 3361, DEFAULT)
@example(1, 200, PixelLimits(784, 784))
def test_resized_sides_are_whole_cells(height: int, width: int, limits: PixelLimits) -> None:
    assume(max(height, width) <= MAX_ASPECT * min(height, width))
    new_height, new_width = smart_resize(height, width, limits)
    assert new_height % CELL_PX == new_width % CELL_PX == 0
    assert min(new_height, new_width) >= CELL_PX


@quick
@given(st.integers(28, 12_000), st.integers(28, 12_000))
def test_pages_of_at_least_one_cell_stay_within_the_models_limits(height: int, width: int) -> None:
    assume(max(height, width) <= 50 * min(height, width))
    new_height, new_width = smart_resize(height, width, DEFAULT)
    assert DEFAULT.min_pixels <= new_height * new_width <= DEFAULT.max_pixels


@quick
@given(sides, sides)
def test_the_largest_page_is_never_exceeded_whatever_the_shape(height: int, width: int) -> None:
    assume(max(height, width) <= MAX_ASPECT * min(height, width))
    new_height, new_width = smart_resize(height, width, DEFAULT)
    assert new_height * new_width <= DEFAULT.max_pixels


@quick
@given(st.integers(100, 3000), st.integers(100, 3000))
def test_a_page_within_the_limits_changes_by_at_most_half_a_cell(height: int, width: int) -> None:
    assume(max(height, width) <= MAX_ASPECT * min(height, width))
    new_height, new_width = smart_resize(height, width, DEFAULT)
    assert abs(new_height - height) <= CELL_PX / 2
    assert abs(new_width - width) <= CELL_PX / 2


def test_an_aspect_ratio_over_200_is_refused_and_200_is_not() -> None:
    assert smart_resize(10, 2000, DEFAULT) == (28, 1988)
    with pytest.raises(PageError, match=r"2001x10 px is more than 200 times"):
        smart_resize(10, 2001, DEFAULT)
    with pytest.raises(PageError, match=r"10x2001 px"):
        smart_resize(2001, 10, DEFAULT)


def test_a_page_without_pixels_is_refused() -> None:
    with pytest.raises(PageError, match="0x5 px has no pixels"):
        smart_resize(5, 0, DEFAULT)


@pytest.mark.parametrize(("fewest", "most"), [(783, 1000), (1000, 999), (-1, 10)])
def test_impossible_pixel_limits_are_refused(fewest: int, most: int) -> None:
    with pytest.raises(ValueError, match="784 <= min <= max"):
        PixelLimits(fewest, most)


@st.composite
def placed_boxes(draw: st.DrawFn) -> tuple[PageGeometry, Box]:
    """A page of any size, orientation and letterbox offset, with a box inside the page as viewers show it."""
    width, height = draw(sides), draw(sides)
    assume(max(height, width) <= MAX_ASPECT * min(height, width))
    plain = fit((width, height), draw(orientations), draw(limits))
    shift = st.floats(-500, 500)
    page = PageGeometry(plain.source, plain.orientation, plain.resized, plain.scale, (draw(shift), draw(shift)))
    share = st.floats(0, 1)
    width, height = page.oriented
    x0, x1 = sorted((draw(share) * width, draw(share) * width))
    y0, y1 = sorted((draw(share) * height, draw(share) * height))
    return page, (x0, y0, x1, y1)


@quick
@given(placed_boxes())
def test_boxes_return_to_the_page_as_they_left_it(placed: tuple[PageGeometry, Box]) -> None:
    page, box = placed
    assert page.box_to_oriented(page.box_from_oriented(box)) == pytest.approx(box, abs=1e-6)


@quick
@given(placed_boxes(), st.tuples(*[st.floats(-20_000, 20_000)] * 4))
def test_any_box_of_the_model_lands_inside_the_page_in_order(placed: tuple[PageGeometry, Box], box: Box) -> None:
    page, _ = placed
    (width, height), (x0, y0, x1, y1) = page.oriented, page.box_to_oriented(box)
    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height


@quick
@given(placed_boxes())
def test_the_whole_page_is_the_whole_resized_page(placed: tuple[PageGeometry, Box]) -> None:
    page, _ = placed
    (dx, dy), (width, height) = page.offset, page.resized
    whole = page.box_from_oriented((0, 0, *page.oriented))
    assert whole == pytest.approx((dx, dy, dx + width, dy + height), abs=1e-6)


def test_a_box_of_a_known_page_is_where_it_should_be() -> None:
    page = fit((100, 200), 6, PixelLimits(784, 784 * 200))  # stored upright, shown turned by 90 degrees: 200x100
    assert page.oriented == (200, 100)
    assert page.resized == (196, 112)
    assert page.box_to_oriented((0, 0, 98, 56)) == pytest.approx((0, 0, 100, 50))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_oriented_size_is_that_of_pillow(orientation: int) -> None:
    stored = Image.new("L", (5, 3))
    stored.getexif()[ExifTags.Base.Orientation] = orientation
    shown = ImageOps.exif_transpose(stored)
    assert PageGeometry((5, 3), orientation, shown.size, (1.0, 1.0)).oriented == shown.size


@pytest.mark.parametrize("orientation", [0, 9, -1])
def test_an_impossible_orientation_is_refused(orientation: int) -> None:
    with pytest.raises(ValueError, match="EXIF orientation must be 1 to 8"):
        PageGeometry((5, 3), orientation, (28, 28), (1.0, 1.0))


@pytest.mark.parametrize(
    "sizes", [((0, 3), (28, 28), (1.0, 1.0)), ((5, 3), (28, 0), (1.0, 1.0)), ((5, 3), (28, 28), (0.0, 1.0))]
)
def test_sizes_that_are_not_positive_are_refused(
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[float, float]],
) -> None:
    source, resized, scale = sizes
    with pytest.raises(ValueError, match="must be positive"):
        PageGeometry(source, 1, resized, scale)


@pytest.mark.parametrize("turned", [5, 6, 7, 8])
def test_turned_pages_are_resized_as_they_are_shown(turned: int) -> None:
    page = fit((1170, 827), turned, DEFAULT)
    assert page.resized == (840, 1176)
    assert page.scale == (840 / 827, 1176 / 1170)
    assert math.prod(page.resized) <= DEFAULT.max_pixels


def test_limits_that_no_page_could_have_are_refused() -> None:
    PixelLimits(3136, MOST_PIXELS)
    with pytest.raises(ValueError, match="50000000"):
        PixelLimits(3136, MOST_PIXELS + 1)
    with pytest.raises(ValueError, match="784"):
        PixelLimits(100_000_000_000, 200_000_000_000)
