"""The quality of pages for which the user chose none: full where that is fast enough on this machine, else balanced."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dotsctl.client.connection.session import Session
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.model.buckets import TOLERATED_LOSS
from dotsctl.protocol.parts import QUALITY_PIXELS, ImageHeader, PageOptions, Quality

if TYPE_CHECKING:
    from dotsctl.client.jobs.page_time import Pipeline

LONG_S = 30.0
"""Predicted seconds of a page above which it is read at balanced quality."""
WORTHWHILE = 0.8
"""Share of the time at full quality that balanced quality must stay below; a page with few pixels gains nothing."""

Notice = Callable[[str], None]
"""Takes one line of text for the user."""


class QualityChoice:
    """Chooses for the pages of one call; figures that are measured meanwhile change nothing for them."""

    def __init__(self, session: Session, notice: Notice | None = None) -> None:
        """Nothing is read before the first page; ``notice`` gets a line when a quality below full is first chosen."""
        self._session, self._notice = session, notice
        self._pipeline: Pipeline | None = None
        self._is_open = False
        self._reasons: dict[tuple[tuple[tuple[int, int], ...], int | None], str] = {}
        """Answers by the sizes and the limit of a request; most pages of a call are alike."""

    def choose(self, images: Sequence[ImageHeader], options: PageOptions) -> Quality:
        """Return the quality of a request.

        Args:
            images: those of its prompt.
            options: the other options of the page.
        """
        if not self._is_open:
            from dotsctl.client.jobs.page_time import pipeline_of  # only now, to keep the import of the library fast

            self._pipeline = pipeline_of(self._session.welcome, self._session.encoder_index)
            self._is_open = True
        if self._pipeline is None:
            return Quality.FULL
        key = (tuple((image.width, image.height) for image in images), options.max_pixels)
        if key not in self._reasons:
            try:
                self._reasons[key] = reason_for_balanced(self._pipeline, *key)
            except PageError:  # the encoder refuses this page with the reason
                self._reasons[key] = ""
        reason = self._reasons[key]
        if not reason:
            return Quality.FULL
        if self._notice is not None:
            self._notice(reason)
            self._notice = None
        return Quality.BALANCED


def reason_for_balanced(pipeline: "Pipeline", sizes: Sequence[tuple[int, int]], max_pixels: int | None) -> str:
    """Return why pages of these sizes are better read at balanced quality, in one line; empty: they are not.

    Args:
        pipeline: of the runtime.
        sizes: width and height of each image of a prompt, in pixels.
        max_pixels: the user's limit.

    Raises:
        PageError: a page cannot be resized.
    """
    balanced = min(filter(None, (max_pixels, QUALITY_PIXELS[Quality.BALANCED])))
    pages = "pages of " + " and ".join(f"{width}x{height} px" for width, height in sizes)
    chosen = "reading at balanced quality; --quality full changes that"
    lost = max(pipeline.loss(size, max_pixels) for size in sizes)
    if lost > TOLERATED_LOSS and all(pipeline.loss(size, balanced) <= TOLERATED_LOSS for size in sizes):
        return f"{pages}: larger than the encoder's page sizes, {lost:.0%} of the resolution would be lost: {chosen}"
    full_s = _total([pipeline.page_s(size, max_pixels) for size in sizes])
    balanced_s = _total([pipeline.page_s(size, balanced) for size in sizes])
    if full_s is None or balanced_s is None or full_s <= LONG_S or balanced_s > WORTHWHILE * full_s:
        return ""
    return f"{pages}: about {full_s:.0f} s at full size, {balanced_s:.0f} s at balanced: {chosen}"


def _total(seconds: Sequence[float | None]) -> float | None:
    """The sum; none: one of them is not known."""
    known = [each for each in seconds if each is not None]
    return sum(known) if len(known) == len(seconds) else None
