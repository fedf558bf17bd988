"""The answers that make a page be read a second time, and at which resolution. Pure."""

from dataclasses import replace

from dotsctl.client.results.answers import is_damaged
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.parts import MIN_PIXELS, FinishReason, PageOptions, Quality

DAMAGED = "damaged"
"""Reason for a second reading: cells of the answer were lost, or could be read in part only."""
SMALLER_SHARE = 0.9
"""Pixels of a second reading at the same quality: a model that loops on a page mostly does not at another size."""
NEAR_LIMIT = 0.8
"""Share of a quality's pixels above which that limit, and not the page or the model, decided the size of a page."""


def reason_to_reread(options: PageOptions, result: PageResult) -> str:
    """Return ``loop``, ``length`` or ``damaged``, or nothing where the answer is to be kept.

    An answer that the user limited is kept, and so is a damaged one that more pixels would not repair.
    """
    reason = result.finish_reason
    if reason is FinishReason.LOOP or (reason is FinishReason.LENGTH and options.max_tokens is None):
        return str(reason)
    if reason is not FinishReason.STOP or not gains_at_full(options, result):
        return ""
    return DAMAGED if is_damaged(options.task, result.text, result.geometries[0]) else ""


def options_to_reread(options: PageOptions, result: PageResult) -> PageOptions:
    """The options of the second reading: full quality where that gives more pixels, else a little smaller."""
    if gains_at_full(options, result):
        return replace(options, quality=Quality.FULL)
    width, height = result.geometries[0].resized
    return replace(options, max_pixels=max(MIN_PIXELS, int(SMALLER_SHARE * width * height)))


def gains_at_full(options: PageOptions, result: PageResult) -> bool:
    """Return whether the quality, not the page's own size or another limit, decided how many pixels were read."""
    geometry, limit = result.geometries[0], options.pixel_limit
    if options.quality is Quality.FULL or limit is None or limit == options.max_pixels:
        return False
    width, height = geometry.resized
    return max(geometry.scale) < 1 and width * height > NEAR_LIMIT * limit
