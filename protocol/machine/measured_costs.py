"""Seconds that pages took on this machine with one model, kept as JSON in the user's cache folder.

The runtime writes them after pages are read, and so does each trial of an encoder. They answer how long the next page
will take: which encoder reads it sooner while the decoder is busy, and at which quality it is read within half a
minute.
Figures of another model, chip or system build are never mixed.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.model.files import read_cache, write_cache

FORMAT = 1
MARGIN = 0.97
"""Share of the other encoder's time that a preferred one may take at most; less of a gain lies within the noise."""


@dataclass(frozen=True)
class Cost:
    """Time that one encoder takes for pages of one size."""

    encoder: str
    """Plugin and options, as in ``Welcome.encoders``."""
    patches: int
    """Patches of the page as it was encoded, white ones of a bucket included."""
    encode_s: float
    decoder_busy: bool
    """Whether the decoder was computing meanwhile."""

    def __post_init__(self) -> None:
        if self.patches < 1 or not 0 < self.encode_s < math.inf:
            raise ValueError(f"a page of {self.patches} patches in {self.encode_s} s is not a valid measurement")


@dataclass(frozen=True)
class Decoding:
    """Speed of one decoder over all pages of its batch together, prefill included."""

    decoder: str
    """Plugin and options, as in ``Welcome.decoder``."""
    tokens_per_s: float
    tokens_a_page: float
    """Mean length of an answer."""

    def __post_init__(self) -> None:
        if not (0 < self.tokens_per_s < math.inf and 0 <= self.tokens_a_page < math.inf):
            raise ValueError(
                f"{self.tokens_per_s} tokens/s, {self.tokens_a_page} tokens a page is not a valid measurement"
            )


@dataclass(frozen=True)
class Preference:
    """A comparison of two encoders for pages of one size, both measured with the decoder running."""

    encoder: str
    """Plugin and options of the one that was judged."""
    instead_of: str
    """Plugin and options of the one that it was compared with."""
    patches: int
    """Page size of ``encoder``; 0: any."""
    page_s: float
    """Seconds between two finished pages of a full pipeline with ``encoder``."""
    instead_page_s: float
    """The same with ``instead_of``."""
    basis: str = ""
    """Files and versions that the comparison holds for; with others it is void."""

    @property
    def is_faster(self) -> bool:
        """Return whether ``encoder`` reads these pages clearly sooner."""
        return self.page_s < MARGIN * self.instead_page_s

    def __str__(self) -> str:
        size = f"pages of {self.patches} patches" if self.patches else "pages of any size"
        return (
            f"{'reads' if self.is_faster else 'does not get'} {size}: {self.page_s:.3g} s a page with the decoder "
            f"running, {self.instead_of} {self.instead_page_s:.3g} s"
        )


@dataclass(frozen=True)
class MeasuredCosts:
    """Everything that was measured with one model on one machine."""

    costs: tuple[Cost, ...] = ()
    decodings: tuple[Decoding, ...] = ()
    preferences: tuple[Preference, ...] = ()
    format: int = FORMAT

    def of_encoder(self, encoder: str, *, decoder_busy: bool) -> dict[int, float]:
        """Seconds of a page by its patches; empty: never measured."""
        return {
            cost.patches: cost.encode_s
            for cost in self.costs
            if (cost.encoder, cost.decoder_busy) == (encoder, decoder_busy)
        }

    def of_decoder(self, decoder: str) -> Decoding | None:
        """The speed of a decoder; none: never measured."""
        return next((each for each in self.decodings if each.decoder == decoder), None)

    def with_newer(
        self, costs: Iterable[Cost], decodings: Iterable[Decoding], preferences: Iterable[Preference]
    ) -> "MeasuredCosts":
        """A copy in which newer figures replace those of the same encoder, page size and load, or decoder."""
        merged = {(each.encoder, each.decoder_busy, each.patches): each for each in (*self.costs, *costs)}
        speeds = {each.decoder: each for each in (*self.decodings, *decodings)}
        judged = {(each.encoder, each.instead_of, each.patches): each for each in (*self.preferences, *preferences)}
        return MeasuredCosts(
            tuple(merged[key] for key in sorted(merged)),
            tuple(speeds[decoder] for decoder in sorted(speeds)),
            tuple(judged[key] for key in sorted(judged)),
        )


def remember(
    fingerprint: str,
    machine: Machine,
    costs: Iterable[Cost] = (),
    decodings: Iterable[Decoding] = (),
    preferences: Iterable[Preference] = (),
) -> None:
    """Add figures to those that are known; a cache that cannot be written costs nothing but the figures.

    Args:
        fingerprint: sha256 of the model.
        machine: where they were measured.
        costs: of encoders; each replaces an older one of the same encoder, page size and load.
        decodings: of decoders; each replaces an older one of the same decoder.
        preferences: comparisons; each replaces an older one of the same encoders and page size.
    """
    known = recall(fingerprint, machine).with_newer(costs, decodings, preferences)
    write_cache(_file(fingerprint, machine), known)


def recall(fingerprint: str, machine: Machine) -> MeasuredCosts:
    """The figures that are known; empty: nothing was measured here, or by another version."""
    return read_costs(_file(fingerprint, machine))


def read_costs(path: Path) -> MeasuredCosts:
    """Stored figures; empty: no such file, or it is damaged or of another version."""
    known = read_cache(MeasuredCosts, path)
    return known if known and known.format == FORMAT else MeasuredCosts()


def _file(fingerprint: str, machine: Machine) -> Path:
    """The file of one model and machine; it need not exist."""
    key = hashlib.sha256("\0".join((fingerprint, *asdict(machine).values())).encode()).hexdigest()[:32]
    return Path(platformdirs.user_cache_path("dotsctl")) / "costs" / f"{key}.json"
