"""``dotsctl bench pipeline``: how close the two workers come to the ideal two-stage pipeline."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dotsctl.client.api import Client
from dotsctl.client.inputs.pages import LoadedPage, PageInput
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.parts import ImageHeader, ImageKind, Role
from dotsctl.tools.measuring.memory import rss_bytes
from dotsctl.tools.measuring.report_text import LegendEntry

HEAD = "encode/decode  ideal s  wall s  ratio  no overlap s  ratio  outstanding  busy enc/dec  unprepared  RSS drift"
LEGEND = (
    LegendEntry("encode/decode", "milliseconds per page of the fake encoder and of the fake decoder"),
    LegendEntry("ideal s", "one page through both stages, and the slower stage for each other page"),
    LegendEntry(
        "wall s, no overlap s", "time of the pipeline; time of the same pages one by one; ratio: over the ideal"
    ),
    LegendEntry("outstanding", "most pages between encoder and decoder at once"),
    LegendEntry("busy enc/dec", "share of the time in which each worker had work"),
    LegendEntry("unprepared", "share of the time in which the encoder stood still until a page was prepared"),
    LegendEntry("RSS drift", "memory in the last quarter of the pages over that in the second, by process"),
)


@dataclass
class PipelineOutcome:
    """One balance of encoding and decoding."""

    pages: int
    encode_ms: float
    decode_ms: float
    ideal_s: float
    wall_s: float
    serial_s: float
    """The same pages one after the other, each through both stages before the next one begins."""
    max_outstanding: int
    """Most pages that held a credit at once."""
    busy: dict[str, float]
    """Share of the run in which a worker had work."""
    unprepared: float = 0.0
    """Share of the run in which the encoder stood still until a page was prepared."""
    rss_drift: dict[str, float] = field(default_factory=dict)
    """Mean resident memory of each process in the last quarter of the pages over that in the second."""

    @property
    def ratio(self) -> float:
        """Wall time over the ideal."""
        return self.wall_s / self.ideal_s if self.ideal_s else float("inf")

    def row(self) -> str:
        """The line of the table."""
        balance = f"{self.encode_ms:g}/{self.decode_ms:g}"
        drift = " ".join(f"{name} {value:.2f}" for name, value in self.rss_drift.items())
        busy = f"{self.busy['encoder']:.2f}/{self.busy['decoder']:.2f}"
        ratio = f"{self.ratio:.3f}" if self.ideal_s else "-"
        serial_ratio = f"{self.serial_s / self.ideal_s:.2f}" if self.ideal_s else "-"
        return (
            f"{balance:<13}  {self.ideal_s:7.2f}  {self.wall_s:6.2f}  {ratio:>5}  {self.serial_s:12.2f}  "
            f"{serial_ratio:>5}  {self.max_outstanding:11d}  {busy:>12}  {self.unprepared:10.1%}  {drift}"
        )


def verdict(outcomes: Sequence[PipelineOutcome]) -> str:
    """Return how near the worst balance comes to the ideal, in one sentence."""
    known = [outcome for outcome in outcomes if outcome.ideal_s]
    if not known:
        return f"The pipeline takes {max(outcome.wall_s for outcome in outcomes):.2f} s; there is no ideal time."
    worst = max(known, key=lambda outcome: outcome.ratio)
    where = (
        f"{worst.encode_ms:g}/{worst.decode_ms:g} ms, the worst of {len(known)}" if len(known) > 1 else "this balance"
    )
    alone = worst.serial_s / worst.ideal_s
    return (
        f"The pipeline takes {worst.ratio:.3f} times the ideal at {where}; without overlap it takes {alone:.2f} times."
    )


def measure(
    pages: int, embed_mib: float, encode_ms: float, decode_ms: float, prepare_ms: float = 0.0
) -> PipelineOutcome:
    """Read fake pages twice: with overlap, then one by one."""
    encoder = f"fake:encode_ms={encode_ms},prepare_ms={prepare_ms},embed_mib={embed_mib}"
    with Client(encoder=encoder, decoder=f"fake:decode_ms={decode_ms}", private=True) as client:
        memory = Memory(client)
        wall_s, waited_s = read_pages(client, pages, memory)
        status = client.status()
    with Client(encoder=encoder, decoder=f"fake:decode_ms={decode_ms}", private=True, window=1) as client:
        serial_s, _ = read_pages(client, pages, None)
    slower_s = max(encode_ms, decode_ms) / 1000
    return PipelineOutcome(
        pages=pages,
        encode_ms=encode_ms,
        decode_ms=decode_ms,
        ideal_s=(prepare_ms + encode_ms + decode_ms) / 1000 + (pages - 1) * slower_s,
        wall_s=wall_s,
        serial_s=serial_s,
        max_outstanding=status.counters["max_outstanding"],
        busy={str(worker.role): worker.busy_share for worker in status.workers},
        unprepared=waited_s / wall_s,
        rss_drift=memory.drift(),
    )


def read_pages(client: Client, pages: int, memory: "Memory | None") -> tuple[float, float]:
    """Seconds for all pages, and of these the time in which the encoder stood still until a page was prepared.

    Raises:
        CommandFailedError: a page failed.
    """
    started, waited_ms = time.monotonic(), 0.0
    for page in client.ocr(_fake_pages(pages)):
        if page.error is not None:
            raise CommandFailedError(f"page {page.index} failed: {page.error.message}")
        waited_ms += page.timings_ms["prepare_wait"]
        if memory is not None:
            memory.sample()
    return time.monotonic() - started, waited_ms / 1000


def _fake_pages(pages: int) -> Iterator[PageInput]:
    for number in range(pages):
        content = b"fake page %d" % number
        header = ImageHeader(ImageKind.FILE, len(content), 280, 280)
        loaded = (header, content, hashlib.sha256(content).hexdigest())
        yield PageInput("<fake>", None, reader=partial(_same, loaded))


def _same(loaded: LoadedPage) -> LoadedPage:
    return loaded


class Memory:
    """Resident memory of all processes, after each page."""

    def __init__(self, client: Client) -> None:
        status = client.status()
        pids = {role: next(w.pid for w in status.workers if w.role is role) for role in Role}
        self._pids = {**{str(role): pid for role, pid in pids.items()}, "runtime": status.pid, "client": os.getpid()}
        self._samples: dict[str, list[int]] = {name: [] for name in self._pids}

    def sample(self) -> None:
        """Record the present figures."""
        for name, pid in self._pids.items():
            self._samples[name].append(rss_bytes(pid))

    def drift(self) -> dict[str, float]:
        """Mean of the last quarter over the mean of the second, for each process."""
        return {name: _last_over_second_quarter(values) for name, values in self._samples.items()}


def _last_over_second_quarter(values: list[int]) -> float:
    quarter = len(values) // 4
    return sum(values[-quarter:]) / sum(values[quarter : 2 * quarter])
