"""Collects what pages cost while a runtime reads them, for the measured costs of this machine. Pure."""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from statistics import median

from dotsctl.client.runtime.request import Request
from dotsctl.client.runtime.worker_table import Worker
from dotsctl.protocol.geometry import PATCH_PX
from dotsctl.protocol.machine.measured_costs import Cost, Decoding
from dotsctl.protocol.messages import Done

KEPT_SAMPLES = 16
"""Latest pages of each encoder, page size and load."""
LEAST_BUSY_S = 0.1
"""Seconds of decoding below which its speed is not measured."""


@dataclass
class CostLog:
    """Figures of the pages that were read since they were last remembered."""

    _encode_s: dict[tuple[str, int, bool], deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT_SAMPLES))
    )
    """Seconds of pages by encoder, patches, and whether the decoder had work."""
    _pages: int = 0
    _tokens: int = 0
    _epoch: int = 0
    _busy_s: float = 0.0
    """Busy time of the decoder of ``_epoch`` when figures were last taken."""

    def read(self, request: Request, done: Done) -> None:
        """Count a page that was read; the encoder's time only where the request has a single image."""
        self._pages += 1
        self._tokens += done.completion_tokens
        encode_s = done.timings_ms.get("encode_total", 0.0) / 1000
        if len(done.geometries) == 1 and encode_s > 0:
            width, height = done.geometries[0].resized
            key = (request.encoder_name, max(1, width * height // PATCH_PX**2), request.is_decoder_busy)
            self._encode_s[key].append(encode_s)

    @property
    def is_empty(self) -> bool:
        """Return whether no page was read since figures were last taken."""
        return not self._pages

    def take(self, decoder: Worker) -> tuple[list[Cost], list[Decoding]]:
        """The figures since the last call; the first page of a size counts only alone, as it warms the device up."""
        costs = [
            Cost(encoder, patches, median([*samples][1:] or samples), busy)
            for (encoder, patches, busy), samples in self._encode_s.items()
        ]
        busy_s = decoder.busy_s - (self._busy_s if decoder.epoch == self._epoch else 0.0)
        decodings = []
        if self._pages and self._tokens and busy_s >= LEAST_BUSY_S:
            decodings = [Decoding(decoder.name, self._tokens / busy_s, self._tokens / self._pages)]
        self._encode_s.clear()
        self._pages = self._tokens = 0
        self._epoch, self._busy_s = decoder.epoch, decoder.busy_s
        return costs, decodings
