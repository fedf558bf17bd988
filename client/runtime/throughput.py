"""The comparison of two encoders by the measured throughput together with the decoder. Pure.

The halves work in a pipeline: while one page is encoded, earlier ones are decoded. For one page, an encoder computes
for ``encode_s`` seconds, and meanwhile the decoder makes ``tokens_per_s * encode_s`` tokens of other pages. What then
is missing of the ``tokens`` of a page is decoded while the encoder waits for a credit, at the decoder's free speed::

    page_s = encode_s + max(0, tokens - tokens_per_s * encode_s) / free_tokens_per_s

Both textbook cases follow. On different devices the decoder keeps its free speed, and the page takes the longer half:
``max(encode_s, tokens / free_tokens_per_s)``. On one device that does one thing at a time the decoder stands still
while a page is encoded, and the page takes the sum of both. Real devices lie between, for example because the halves
share the memory's bandwidth, and the measured speeds show where. So no table of devices is needed.
"""

from dataclasses import dataclass
from statistics import median

from dotsctl.protocol.machine.measured_costs import Preference

SAMPLES = 4
"""Pages of one size that each encoder must have read before they are compared."""


@dataclass(frozen=True)
class Pace:
    """The speed of one encoder for pages of one size, and of the decoder meanwhile, measured while pages wait."""

    encode_s: tuple[float, ...]
    """Seconds of each page."""
    tokens_per_s: float | None
    """Tokens a second that the decoder made while this encoder, and no other one, computed; none: not measured."""

    @property
    def is_complete(self) -> bool:
        """Return whether there are enough pages to compare."""
        return len(self.encode_s) >= SAMPLES and self.tokens_per_s is not None


def page_s(encode_s: float, tokens_per_s: float, tokens: float, free_tokens_per_s: float) -> float:
    """Seconds between two finished pages of a full pipeline; the module's docstring has the formula.

    Args:
        encode_s: seconds that the encoder computes for the page.
        tokens_per_s: tokens a second of the decoder meanwhile.
        tokens: of the page's answer.
        free_tokens_per_s: tokens a second of the decoder while no encoder computes; positive.
    """
    return encode_s + max(0.0, tokens - tokens_per_s * encode_s) / free_tokens_per_s


def compare(
    names: tuple[str, str], paces: tuple[Pace, Pace], patches: int, tokens: float, free_tokens_per_s: float | None
) -> Preference | None:
    """Judge the alternative by measured throughput; none: too little was measured, which is never in its favour.

    Args:
        names: plugin and options of the first encoder and of the alternative.
        paces: of the same two.
        patches: page size for which they were measured.
        tokens: mean length of the answers to these pages.
        free_tokens_per_s: tokens a second of the decoder while no encoder computes. None: it was never free for long,
            so encoding takes longer than decoding, and the speed while encoders compute, which is lower, is used.
    """
    first, alternative = paces
    if not (first.is_complete and alternative.is_complete):
        return None
    shared = [pace.tokens_per_s or 0.0 for pace in paces]
    free = free_tokens_per_s or max(shared)
    if free <= 0:
        return None
    seconds = [
        page_s(median(pace.encode_s), min(speed, free), tokens, free) for pace, speed in zip(paces, shared, strict=True)
    ]
    return Preference(
        encoder=names[1], instead_of=names[0], patches=patches, page_s=seconds[1], instead_page_s=seconds[0]
    )
