"""Which bucket and grid a page goes to, what that costs of its resolution, and where its boxes end up."""

import random
from statistics import median

import pytest
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.geometry import PixelLimits, fit
from dotsctl.protocol.model.buckets import (
    MAX_FUNCTIONS,
    MAX_STRETCH,
    PATCH_PX,
    TOLERATED_LOSS,
    Placement,
    check_buckets,
    grids,
    place,
    standard_buckets,
)
from dotsctl.protocol.parts import QUALITY_PIXELS, Quality
from dotsctl.tools.dev.bucket_search import coverage, draw_pages
from hypothesis import given, settings
from hypothesis import strategies as st

REAL = PixelLimits()
DEMO = PixelLimits(3136, 219_520)
A4_INCHES = (8.27, 11.69)

sides = st.integers(20, 8000)
bucket_sets = st.lists(st.sampled_from([4, 60, 96, 352, 960, 2016, 4032, 5760]), min_size=1, max_size=4, unique=True)


def page_sizes(count: int) -> list[tuple[int, int]]:
    """Sizes of 0.1 to 15 million pixels, from 2.3 times as high as wide to 2.3 times as wide as high."""
    rng, sizes = random.Random(0), []
    for _ in range(count):
        aspect, pixels = 2 ** rng.uniform(-1.2, 1.2), 10 ** rng.uniform(5, 7.2)
        sizes.append((round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5)))
    return sizes


def dpi_of_a4(pixels: float) -> float:
    return float((pixels / (A4_INCHES[0] * A4_INCHES[1])) ** 0.5)


def test_1000_page_sizes_lose_at_most_11_dpi_of_an_a4_page_and_mostly_none() -> None:
    buckets = standard_buckets(REAL)
    largest = max(buckets) * PATCH_PX**2
    limits = PixelLimits(REAL.min_pixels, largest)  # the resize rule with the same pixels, without buckets
    best_dpi = dpi_of_a4(largest)
    found = [(size, place(size, 1, limits, buckets)) for size in page_sizes(1000)]
    lost_dpi = [placement.loss * best_dpi for _, placement in found]
    of_large = [placement.loss * best_dpi for (width, height), placement in found if width * height > largest]
    assert 131 < best_dpi < 133
    assert max(lost_dpi) < 11, max(lost_dpi)
    assert median(lost_dpi) == 0
    assert len(of_large) > 300 and median(of_large) < 4, (len(of_large), median(of_large))


@pytest.mark.parametrize("dpi", [72, 100, 150, 200, 300, 600])
def test_an_a4_scan_keeps_the_resolution_of_its_bucket(dpi: int) -> None:
    placement = place((round(A4_INCHES[0] * dpi), round(A4_INCHES[1] * dpi)), 1, REAL, standard_buckets(REAL))
    horizontal, vertical = (dpi * scale for scale in placement.geometry.scale)
    assert min(horizontal, vertical) > min(0.97 * dpi, 125)
    assert max(horizontal, vertical) / min(horizontal, vertical) < 1.05


@pytest.mark.parametrize("size", [(308, 280), (364, 224), (330, 190)])
def test_a_page_whose_own_grid_is_a_bucket_is_prepared_as_without_buckets(size: tuple[int, int]) -> None:
    placement = place(size, 1, DEMO, standard_buckets(DEMO))
    assert placement.geometry == fit(size, 1, DEMO)
    assert placement.content == placement.geometry.resized
    assert placement.loss == 0


PAPERS_MM = {"A4": (210, 297), "Letter": (215.9, 279.4), "Legal": (215.9, 355.6), "3:4": (210, 280)}
BALANCED = PixelLimits(REAL.min_pixels, QUALITY_PIXELS[Quality.BALANCED] or 0)


@pytest.mark.parametrize("paper", PAPERS_MM)
@pytest.mark.parametrize("lying", [False, True])
@pytest.mark.parametrize("trimmed", [0.0, 0.03, 0.06, 0.1])
def test_at_balanced_quality_a_page_of_usual_paper_loses_nothing_in_its_bucket(
    paper: str, lying: bool, trimmed: float
) -> None:
    width, height = (round(side / 25.4 * 200) for side in PAPERS_MM[paper])
    if lying:
        width, height = height, width
    cut = round(trimmed * min(width, height))
    window = (cut, cut, width - cut, height - cut) if trimmed else None
    placement = place((width, height), 1, BALANCED, standard_buckets(REAL), window)
    assert (placement.loss, placement.bucket) == (0, 8640)


def test_at_balanced_quality_nearly_all_pages_that_people_have_fit_a_bucket() -> None:
    pages, buckets = list(draw_pages(1000, seed=7)), standard_buckets(REAL)
    of_scans = [page for page in pages if page.kind in ("A4", "Letter", "A5")]
    assert len(of_scans) > 500
    assert coverage(of_scans, Quality.BALANCED, buckets) == 1
    assert coverage(pages, Quality.BALANCED, buckets) > 0.97
    assert coverage(pages, Quality.FAST, buckets) > 0.97
    assert 0.15 < coverage(pages, Quality.FULL, buckets) < 0.25  # the large ones are for a GPU


def test_a_page_is_lost_notably_without_the_bucket_of_balanced_quality() -> None:
    pages = list(draw_pages(200, seed=7))
    assert coverage(pages, Quality.BALANCED, (960, 2016, 4032, 5760)) < 0.3


@given(st.integers(0, 2**32))
def test_the_same_seed_draws_the_same_pages_with_windows_inside_them(seed: int) -> None:
    pages = list(draw_pages(20, seed))
    assert pages == list(draw_pages(20, seed))
    for page in pages:
        x0, y0, x1, y1 = page.window
        assert 0 <= x0 < x1 <= page.size[0] and 0 <= y0 < y1 <= page.size[1]


def check(placement: Placement, source: tuple[int, int], limits: PixelLimits) -> None:
    """What holds of every placement."""
    plain, geometry, (rows, columns) = fit(source, 1, limits), placement.geometry, placement.grid
    assert rows % 2 == columns % 2 == 0
    assert geometry.resized == (columns * PATCH_PX, rows * PATCH_PX)
    assert 0 <= placement.loss < 1
    for axis in range(2):
        assert 1 <= placement.content[axis] <= min(geometry.resized[axis], plain.resized[axis])
        assert geometry.scale[axis] == placement.content[axis] / source[axis]


@settings(max_examples=150, deadline=None)
@given(sides, sides, bucket_sets)
def test_content_lies_on_its_grid_and_is_never_larger_than_the_resize_rule_makes_it(
    width: int, height: int, buckets: list[int]
) -> None:
    if max(width, height) > 200 * min(width, height):
        return
    placement = place((width, height), 1, REAL, buckets)
    assert placement.bucket in buckets
    check(placement, (width, height), REAL)


@settings(max_examples=150, deadline=None)
@given(sides, sides, st.integers(1, 8), bucket_sets, st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_comes_back_within_one_pixel(
    width: int, height: int, orientation: int, buckets: list[int], corners: tuple[float, float, float, float]
) -> None:
    if max(width, height) > 200 * min(width, height):
        return
    geometry = place((width, height), orientation, REAL, buckets).geometry
    shown_width, shown_height = geometry.oriented
    x0, x1 = sorted(corner * shown_width for corner in corners[:2])
    y0, y1 = sorted(corner * shown_height for corner in corners[2:])
    resized = geometry.box_from_oriented((x0, y0, x1, y1))
    assert all(-1e-6 <= value <= side + 1e-6 for value, side in zip(resized, geometry.resized * 2, strict=True))
    assert geometry.box_to_oriented(resized) == pytest.approx((x0, y0, x1, y1), abs=1e-6 * max(width, height))


def test_boxes_in_whole_pixels_of_the_model_are_within_one_pixel_of_it() -> None:
    for width, height in page_sizes(200):
        geometry = place((width, height), 1, REAL, (960, 4032)).geometry
        box = (0.13 * width, 0.21 * height, 0.74 * width, 0.93 * height)
        rounded = tuple(float(round(value)) for value in geometry.box_from_oriented(box))
        found = geometry.box_to_oriented(rounded)  # type: ignore[arg-type]
        for axis, (value, expected) in enumerate(zip(found, box, strict=True)):
            assert abs(value - expected) * geometry.scale[axis % 2] <= 1


def test_the_smallest_bucket_without_a_notable_loss_is_taken() -> None:
    assert place((400, 400), 1, REAL, (960, 2016, 4032)).bucket == 960
    assert place((600, 600), 1, REAL, (960, 2016, 4032)).bucket == 2016
    assert place((5000, 5000), 1, REAL, (960, 2016, 4032)).bucket == 4032
    for size in page_sizes(300):
        chosen = place(size, 1, REAL, (960, 2016, 4032))
        each = {bucket: place(size, 1, REAL, (bucket,)).loss for bucket in (960, 2016, 4032)}
        assert chosen.loss <= max(TOLERATED_LOSS, min(each.values()))
        assert all(each[bucket] > TOLERATED_LOSS for bucket in each if bucket < chosen.bucket)


def test_a_lower_pixel_limit_leads_to_a_smaller_bucket() -> None:
    assert place((1654, 2339), 1, PixelLimits(3136, 180_000), (960, 2016, 4032)).bucket == 960


def test_a_shrunk_page_is_stretched_by_at_most_three_percent() -> None:
    for size in page_sizes(300):
        placement = place(size, 1, REAL, (2016,))
        plain = fit(size, 1, REAL)
        ratio = [content / wanted for content, wanted in zip(placement.content, plain.resized, strict=True)]
        rounding = 1 / min(placement.content)
        assert max(ratio) / min(ratio) <= MAX_STRETCH + 2 * rounding


def test_a_turned_page_is_placed_as_viewers_show_it() -> None:
    upright, turned = place((1654, 2339), 1, REAL, (4032,)), place((2339, 1654), 6, REAL, (4032,))
    assert turned.grid == upright.grid
    assert turned.content == upright.content
    assert turned.geometry.source == (2339, 1654)


@pytest.mark.parametrize(
    ("buckets", "problem"),
    [
        ((), "once"),
        ((96, 96), "once"),
        ((98,), "multiple of 4"),
        ((0,), "multiple of 4"),
        ((-4,), "multiple of 4"),
        ((20_000,), "11000"),
        ((4 * 2503,), "two even sides"),
    ],
)
def test_buckets_that_no_program_can_have_are_refused(buckets: tuple[int, ...], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_buckets(buckets)


def test_buckets_are_kept_in_ascending_order() -> None:
    assert check_buckets([4032, 960]) == (960, 4032)


def test_standard_buckets_are_few_and_none_is_larger_than_the_models_pages() -> None:
    assert standard_buckets(REAL) == (960, 5040, 5760, 8640)
    assert standard_buckets(PixelLimits(784, 439_040)) == (416, 440, 960, 2016)
    assert standard_buckets(DEMO) == (336, 416, 440, 960)
    assert standard_buckets(PixelLimits(784, 20_000)) == (100,)
    assert all(len(standard_buckets(limits)) <= MAX_FUNCTIONS for limits in (REAL, DEMO))
    for bucket in (*standard_buckets(REAL), *standard_buckets(DEMO)):
        assert len(list(grids(bucket))) >= 4


def test_a_page_that_is_too_long_is_refused() -> None:
    with pytest.raises(PageError, match="cut it into pages"):
        place((10, 4000), 1, REAL, (960,))
