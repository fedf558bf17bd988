"""Encoders that are swapped again and again while fake pages are read: what is lost, doubled or ascribed wrongly."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dotsctl.client.connection.session import Session
from dotsctl.client.connection.swap import swap_encoder
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.messages import PageResult
from dotsctl.tools.dev.chaos.fake_runtime import START_S, Answered, answers, fake_runtime

DECODER = "fake:batch=4,tokens=2"
JOB_PAGES = 300
SWAP_S = 60.0


@dataclass(frozen=True)
class SwapChaos:
    """The results of all pages while encoders were swapped."""

    pages: int
    swaps: int
    """The number of requested swaps."""
    refused: int
    """Swaps that failed."""
    lost: int
    doubled: int
    failed: int
    changed: int
    """Pages with another text than the fake decoder gives them."""
    wrong_encoder: int
    """Pages whose record names an encoder that was not in its place while they were read."""
    encoders: int
    """The number of encoders that made at least one page."""
    restarts: int
    wall_s: float

    @property
    def holds(self) -> bool:
        """Return whether all promises were kept, and the load was such that each encoder made a page."""
        broken = (self.refused, self.lost, self.doubled, self.failed, self.changed, self.wrong_encoder, self.restarts)
        return not any(broken) and self.encoders == self.swaps + 1


def encoder(number: int) -> str:
    """The plugin of one swap: a name for each, and almost no time."""
    return f"fake:encode_ms={number / 1000:.3f}"


@dataclass
class Swapper:
    """Swaps one encoder after the other, each when the one before has made a page; in a thread of its own."""

    instance: str
    swaps: int
    begun: int = 0
    """Swaps that were requested so far: no page can come from a later one."""
    done: int = 0
    """Swaps that are through: no page that is submitted now can come from an earlier one."""
    refused: int = 0
    seen: set[str] = field(default_factory=set)
    """Encoders that have made a page."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def run(self) -> None:
        """Swap until all swaps are through, or one fails."""
        for number in range(1, self.swaps + 1):
            with self._changed:
                if not self._changed.wait_for(lambda number=number: encoder(number - 1) in self.seen, SWAP_S):  # type: ignore[misc]
                    self.refused += 1
                    return
                self.begun = number
            try:
                swap_encoder(self.instance, PluginChoice.parse(encoder(number)), SWAP_S)
            except DotsctlError:
                self.refused += 1
                return
            self.done = number

    def made_page(self, name: str) -> None:
        """Note that an encoder has made a page."""
        with self._changed:
            self.seen.add(name)
            self._changed.notify()


def swap_under_load(swaps: int, tell: Callable[[str], None]) -> SwapChaos:
    """Read pages, in jobs, until the encoder was swapped so often."""
    started, pages, judged = time.monotonic(), 0, {"doubled": 0, "failed": 0, "changed": 0, "wrong_encoder": 0}
    with fake_runtime(encoder(0), DECODER) as directory:
        swapper = Swapper(directory.name, swaps)
        thread = threading.Thread(target=swapper.run, daemon=True)
        thread.start()
        session = Session(directory, START_S)
        try:
            answered = 0
            while thread.is_alive() or encoder(swaps) not in swapper.seen:
                contents = [b"page %d" % number for number in range(pages, pages + JOB_PAGES)]
                answered += _read(session, contents, swapper, judged)
                pages += JOB_PAGES
                if swapper.refused:
                    break
                if pages % (10 * JOB_PAGES) == 0:
                    tell(f"{swapper.done} of {swaps} swaps, {pages} pages")
            thread.join(SWAP_S)
            restarts = session.status().counters["restarts"]
        finally:
            session.close()
    return SwapChaos(
        pages=pages,
        swaps=swaps,
        refused=swapper.refused,
        lost=pages - answered,
        encoders=len(swapper.seen),
        restarts=restarts,
        wall_s=time.monotonic() - started,
        **judged,
    )


def _read(session: Session, contents: list[bytes], swapper: Swapper, judged: dict[str, int]) -> int:
    """Read one job, add to what was judged, and answer how many of its pages have an answer."""
    earliest, ended = swapper.done, set[int]()
    for each in answers(session, contents, f"swaps {contents[0].decode()}"):
        judged["doubled"] += each.index in ended
        ended.add(each.index)
        name = _judge(each, contents[each.index], judged)
        names = [encoder(number) for number in range(earliest, swapper.begun + 1)]
        judged["wrong_encoder"] += name is not None and name not in names
        if name is not None:
            swapper.made_page(name)
    return len(ended)


def _judge(each: Answered, content: bytes, judged: dict[str, int]) -> str | None:
    """Count what is wrong with an answer; the encoder that made it."""
    if not isinstance(each.message, PageResult):
        judged["failed"] += 1
        return None
    judged["changed"] += each.message.text != fake_text(content, tokens=2)
    return each.message.encoder
