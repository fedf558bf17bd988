"""Measures how fast encoders and the decoder work together, from the messages that the coordinator sees. Pure.

Figures count only while the pipeline is loaded: a page counts when the decoder had work as the page was dispatched.
The first page of each size that a process reads does not count, because it warms the device up. Tokens count for the
encoder that computed meanwhile, and for none when several did.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.throughput import Pace

KEPT_SAMPLES = 16
"""Latest pages of each encoder and page size that are kept."""
LEAST_S = 0.5
"""Seconds of decoding without any encoder at work from which on that speed counts as measured."""


@dataclass
class Load:
    """Seconds and tokens of the decoder while the same encoders compute."""

    seconds: float = 0.0
    tokens: int = 0

    @property
    def tokens_per_s(self) -> float | None:
        """Speed; none: there was no time."""
        return self.tokens / self.seconds if self.seconds > 0 else None


@dataclass
class PaceMeter:
    """The measurements since the start, by the names of encoders."""

    _loads: dict[frozenset[str], Load] = field(default_factory=lambda: defaultdict(Load))
    """The loads by the encoders that computed meanwhile."""
    _samples: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of pages by encoder and page size in patches."""
    _tokens: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Lengths of answers by page size."""
    _warm: set[tuple[int, int]] = field(default_factory=set)
    """Epochs of encoders, and page sizes that they have read."""
    _at_work: frozenset[str] = frozenset()

    def account(self, in_flight: Iterable[Request], elapsed_s: float) -> None:
        """Count the time since the last event for the encoders that were at work."""
        encoding, is_loaded = set(), False
        for request in in_flight:
            if request.state is RequestState.ENCODING:
                encoding.add(request.encoder_name)
                is_loaded = is_loaded or request.is_decoder_busy
            is_loaded = is_loaded or request.state is RequestState.DECODING
        self._at_work = frozenset(encoding)
        if is_loaded:
            self._loads[self._at_work].seconds += elapsed_s

    def decoded(self, num_tokens: int) -> None:
        """Count tokens that came just now."""
        self._loads[self._at_work].tokens += num_tokens

    def read(self, request: Request, patches: int, encode_s: float, num_tokens: int) -> None:
        """Count a page that was read.

        Args:
            request: the page.
            patches: its page size.
            encode_s: seconds that the encoder computed.
            num_tokens: length of its answer.
        """
        process = (request.encoder_epoch, patches)
        if process not in self._warm:
            self._warm.add(process)
        elif request.is_decoder_busy:
            _keep(self._samples[request.encoder_name, patches], encode_s)
            _keep(self._tokens[patches], num_tokens)

    def pace(self, name: str, patches: int) -> Pace:
        """The figures of an encoder for one page size."""
        return Pace(tuple(self._samples[name, patches]), self._loads[frozenset({name})].tokens_per_s)

    def tokens_a_page(self, patches: int) -> float:
        """Mean length of the answers to pages of one size."""
        return fmean(self._tokens[patches]) if self._tokens[patches] else 0.0

    @property
    def free_tokens_per_s(self) -> float | None:
        """Speed of the decoder while no encoder computes; none: not measured for long enough."""
        free = self._loads[frozenset()]
        return free.tokens_per_s if free.seconds >= LEAST_S else None


def _keep(samples: list[float], value: float) -> None:
    samples.append(value)
    del samples[:-KEPT_SAMPLES]
