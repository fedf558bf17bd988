"""Which answers make a page be read again, and how large."""

import json
from dataclasses import replace

import pytest
from dotsctl.client.jobs.reread import options_to_reread, reason_to_reread
from dotsctl.protocol.geometry import PageGeometry, PixelLimits, fit
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.parts import QUALITY_PIXELS, FinishReason, PageOptions, Quality

LIMITS = PixelLimits()
OPTIONS = PageOptions("layout", None, None, None, quality=Quality.BALANCED)
CELL = {"bbox": [1, 2, 30, 40], "category": "Text", "text": "words"}
WHOLE = json.dumps([CELL, CELL])
LARGE, SMALL = (2480, 3508), (600, 800)


def result(
    text: str = WHOLE, reason: FinishReason = FinishReason.STOP, size: tuple[int, int] = LARGE, limit: int | None = None
) -> PageResult:
    """An answer to a page that was read at balanced quality by a model with ``limit``."""
    seen = fit(size, 1, LIMITS.lowered(limit).lowered(QUALITY_PIXELS[Quality.BALANCED]))
    geometry = PageGeometry(seen.source, seen.orientation, seen.resized, seen.scale, seen.offset)
    return PageResult("job", 0, 1, 1, text, reason, (geometry,), 9, 9, 9, "mlx", "mlx", {})


@pytest.mark.parametrize("reason", [FinishReason.LOOP, FinishReason.LENGTH])
def test_a_loop_or_a_cut_at_less_than_full_quality_is_read_again_at_full(reason: FinishReason) -> None:
    found = result(reason=reason)
    assert reason_to_reread(OPTIONS, found) == str(reason)
    assert options_to_reread(OPTIONS, found) == replace(OPTIONS, quality=Quality.FULL)


@pytest.mark.parametrize(
    ("options", "size", "limit"),
    [
        (replace(OPTIONS, quality=Quality.FULL), LARGE, None),
        (OPTIONS, SMALL, None),  # it has no more pixels
        (OPTIONS, LARGE, 400_000),  # the model takes no more
        (replace(OPTIONS, max_pixels=500_000), LARGE, 500_000),  # the user wants no more
    ],
)
def test_where_full_quality_brings_no_pixels_a_loop_is_read_again_a_little_smaller(
    options: PageOptions, size: tuple[int, int], limit: int | None
) -> None:
    found = result(reason=FinishReason.LOOP, size=size, limit=limit)
    assert reason_to_reread(options, found) == "loop"
    width, height = found.geometries[0].resized
    assert options_to_reread(options, found) == replace(options, max_pixels=int(0.9 * width * height))
    damaged = replace(found, text=WHOLE[:-20], finish_reason=FinishReason.STOP)
    assert reason_to_reread(options, damaged) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (WHOLE, ""),
        (WHOLE[:-1], ""),  # the list is not closed, which the model does on every page
        (WHOLE[:-20], "damaged"),
        (WHOLE.replace('"text": "words"', '"text": "wo"rds"', 1), "damaged"),
        ("no list at all", ""),
    ],
)
def test_a_damaged_answer_is_read_again_and_a_harmless_flaw_is_not(text: str, reason: str) -> None:
    assert reason_to_reread(OPTIONS, result(text)) == reason


def test_a_limit_that_the_user_set_is_kept() -> None:
    options = replace(OPTIONS, max_tokens=5)
    assert reason_to_reread(options, result(reason=FinishReason.LENGTH)) == ""
