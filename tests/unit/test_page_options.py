"""Options of a page: what a quality means, and which values are refused."""

import pytest
from dotsctl.client.page_options import page_options
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.parts import PageOptions, Quality


def options(**chosen: object) -> PageOptions:
    fixed = {"task": None, "prompt": None, "max_tokens": None, "max_pixels": None, "hint": "", "box": None}
    return page_options("demo", ("text", "ground"), **{**fixed, "check_blank": True, "quality": None, **chosen})


@pytest.mark.parametrize(
    ("quality", "max_pixels", "limit"),
    [
        ("full", None, None),
        ("full", 500_000, 500_000),
        ("balanced", None, 1_600_000),
        ("balanced", 500_000, 500_000),
        ("fast", None, 1_000_000),
        ("fast", 1_200_000, 1_000_000),
    ],
)
def test_a_quality_limits_pixels_and_max_pixels_lowers_them_further(
    quality: str, max_pixels: int | None, limit: int | None
) -> None:
    assert options(quality=quality, max_pixels=max_pixels).pixel_limit == limit


def test_margins_are_trimmed_below_full_quality_and_never_where_a_box_is_read() -> None:
    assert [options(quality=str(quality)).trims_margins for quality in Quality] == [False, True, True]
    assert not options(quality="fast", box=(1.0, 2.0, 3.0, 4.0)).trims_margins


def test_an_unknown_quality_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="unknown quality 'best': choose one of full, balanced, fast"):
        options(quality="best")
