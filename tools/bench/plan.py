"""``dotsctl bench plan``: plays the pipeline with given costs and says which settings read pages fastest. Pure.

Two workers: one encodes page after page, one decodes several at once. On one device they take turns, on two they
overlap. A pass of the decoder scores one row for each page and one for each drafted token; of a draft of ``depth``
tokens, each accepted with the probability ``a`` if those before it were, ``(1 - a^(depth + 1)) / (1 - a)`` tokens are
gained.
"""

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from dotsctl.protocol.geometry import PATCH_PX, PixelLimits, fit
from dotsctl.protocol.model.layout import VisionSizes
from dotsctl.protocol.parts import QUALITY_PIXELS, Quality

PATCHES_AN_EMBEDDING = 4
PROMPT_TOKENS = 370
"""Positions of a prompt besides the embeddings; the layout prompt of dots.ocr has about so many."""
BATCHES = (1, 2, 4, 8, 16)
DEPTHS = (0, 1, 3, 7, 15)
DOTS_OCR = VisionSizes(1536, 1536, 4224, 42, 12)
"""The tower that costs are scaled with between page sizes, by the operations that it needs."""


@dataclass(frozen=True)
class EncoderCosts:
    """Time that one encoder takes for a page."""

    device: str
    """Any name, as ``gpu`` or ``ne``; the same one as the decoder's where they share a device."""
    encode_s: dict[str, float]
    """Seconds by number of patches. Between and beyond them the operations of the tower decide."""

    def __post_init__(self) -> None:
        if not self.encode_s or not all(key.isdigit() and seconds > 0 for key, seconds in self.encode_s.items()):
            raise ValueError("encode_s has no times, or a number of patches or a time that is not positive")

    def seconds(self, patches: int) -> float:
        """Seconds of a page of so many patches."""
        known = {int(key): seconds for key, seconds in self.encode_s.items()}
        nearest = min(known, key=lambda each: abs(each - patches))
        return known[nearest] * DOTS_OCR.operations(patches) / DOTS_OCR.operations(nearest)


@dataclass(frozen=True)
class DecoderCosts:
    """Times of the decoder."""

    device: str
    prefill_ms: float
    """Milliseconds for each 1,000 positions of a prompt."""
    pass_ms: dict[str, float]
    """Milliseconds of a pass by its number of rows. Between them straight lines; beyond the last one its slope."""
    page_ms: float
    """Milliseconds that each page of a pass adds, whatever its rows: the reading of its keys and values. May be 0."""

    def __post_init__(self) -> None:
        if not self.pass_ms or not all(key.isdigit() and cost > 0 for key, cost in self.pass_ms.items()):
            raise ValueError("pass_ms has no times, or a number of rows or a time that is not positive")
        if self.prefill_ms < 0 or self.page_ms < 0:
            raise ValueError("prefill_ms or page_ms is negative")

    def pass_s(self, pages: int, rows: int) -> float:
        """Seconds of a pass of so many pages with so many rows in all."""
        known = sorted((int(key), cost) for key, cost in self.pass_ms.items())
        below, above = known[0], known[-1]
        for lower, upper in itertools.pairwise(known):
            below, above = lower, upper
            if rows <= upper[0]:
                break
        slope = (above[1] - below[1]) / (above[0] - below[0]) if above[0] > below[0] else 0.0
        return max(known[0][1], below[1] + slope * (rows - below[0])) / 1000 + pages * self.page_ms / 1000


@dataclass(frozen=True)
class Costs:
    """The costs of one machine and model, as a file has them."""

    about: str
    """The figures that were measured or assumed, and their source."""
    encoders: dict[str, EncoderCosts]
    decoder: DecoderCosts
    tokens: int
    """Length of an answer."""
    accepted: float
    """Probability that a drafted token is right, 0 to below 1; 0: nothing is drafted."""

    def __post_init__(self) -> None:
        if not self.encoders or self.tokens < 1 or not 0 <= self.accepted < 1:
            raise ValueError("needs an encoder, at least one token, and 'accepted' from 0 to below 1")


@dataclass(frozen=True)
class Setting:
    """One choice of everything that a user can choose."""

    encoder: str
    quality: Quality
    batch: int
    depth: int


@dataclass(frozen=True)
class PlannedPipeline:
    """The pipeline with one setting."""

    setting: Setting
    page_s: float
    """Wall time over the pages."""
    first_s: float
    """Time until the first page is read."""
    encode_s: float
    """Seconds of the tower for a page."""
    busy: tuple[float, float]
    """Shares of the time in which encoder and decoder work."""


def patches_of(size: tuple[int, int], quality: Quality) -> int:
    """Patches of a page of so many pixels (width, height) at a quality. Raises PageError."""
    width, height = fit(size, 1, PixelLimits().lowered(QUALITY_PIXELS[quality])).resized
    return width * height // PATCH_PX**2


def settings(costs: Costs) -> Iterator[Setting]:
    """Every setting that is worth playing; without acceptance no draft is."""
    depths = DEPTHS if costs.accepted else (0,)
    for encoder, quality, batch, depth in itertools.product(costs.encoders, Quality, BATCHES, depths):
        yield Setting(encoder, quality, batch, depth)


def play(costs: Costs, setting: Setting, size: tuple[int, int], pages: int) -> PlannedPipeline:
    """Read ``pages`` equal pages of ``size`` (width, height) pixels; both workers start idle.

    Raises:
        PageError: the page cannot be resized.
    """
    encoder, decoder = costs.encoders[setting.encoder], costs.decoder
    patches = patches_of(size, setting.quality)
    encode_s = encoder.seconds(patches)
    prefill_s = (patches / PATCHES_AN_EMBEDDING + PROMPT_TOKENS) * decoder.prefill_ms / 1e6
    run = _Run(costs, setting, encode_s, prefill_s, pages)
    if encoder.device == decoder.device:
        run.take_turns()
    else:
        run.overlap()
    first_s, last_s = run.read_at[0], run.read_at[-1]
    return PlannedPipeline(
        setting, last_s / pages, first_s, encode_s, (pages * encode_s / last_s, run.decode_s / last_s)
    )


class _Run:
    """The pages of one setting; ``left`` has the tokens that each page in the decoder still lacks."""

    def __init__(self, costs: Costs, setting: Setting, encode_s: float, prefill_s: float, pages: int) -> None:
        self._costs, self._setting, self._pages = costs, setting, pages
        self._encode_s, self._prefill_s = encode_s, prefill_s
        self._gain = sum(costs.accepted**place for place in range(setting.depth + 1))
        self._left: list[float] = []
        self._admitted = 0
        self._clock = 0.0
        self.decode_s = 0.0
        self.read_at: list[float] = []

    def take_turns(self) -> None:
        """Encode as many pages as the batch holds, decode until one is read, and so on."""
        encoded = 0
        while len(self.read_at) < self._pages:
            missing = min(self._setting.batch - (encoded - len(self.read_at)), self._pages - encoded)
            self._clock += missing * self._encode_s
            encoded += missing
            self._admit(encoded)
            self._decode(math.inf)

    def overlap(self) -> None:
        """Encode beside decoding, at most twice the batch ahead of what is read."""
        ends: list[float] = []
        ahead = 2 * self._setting.batch
        while len(self.read_at) < self._pages:
            while len(ends) < self._pages and len(ends) - ahead < len(self.read_at):
                freed = self.read_at[len(ends) - ahead] if len(ends) >= ahead else 0.0
                ends.append(max(freed, ends[-1] if ends else 0.0) + self._encode_s)
            if not self._left:
                self._clock = max(self._clock, ends[self._admitted])
            self._admit(bisect.bisect_right(ends, self._clock))
            is_full = len(self._left) == self._setting.batch or self._admitted == len(ends)
            self._decode(math.inf if is_full else ends[self._admitted])

    def _admit(self, encoded: int) -> None:
        """Prefill pages that are encoded, as far as the batch has room."""
        while self._admitted < encoded and len(self._left) < self._setting.batch:
            self._spend(self._prefill_s)
            self._left.append(float(self._costs.tokens))
            self._admitted += 1

    def _decode(self, until_s: float) -> None:
        """Make passes until a page is read, or another one is encoded."""
        pages = len(self._left)
        pass_s = self._costs.decoder.pass_s(pages, pages * (1 + self._setting.depth))
        passes = math.ceil(min(self._left) / self._gain)
        if until_s < math.inf:
            passes = max(1, min(passes, math.ceil((until_s - self._clock) / pass_s)))
        self._spend(passes * pass_s)
        self._left = [left - passes * self._gain for left in self._left]
        self.read_at += [self._clock for left in self._left if left <= 0]
        self._left = [left for left in self._left if left > 0]

    def _spend(self, seconds: float) -> None:
        self._clock += seconds
        self.decode_s += seconds
