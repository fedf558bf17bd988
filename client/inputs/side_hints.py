"""Side OCR: hints of pages that have no text of their own, read from their pixels while the model encodes them.

A second render process runs the hint plugin, one page after the other, at low priority. Nothing waits for it: a page
that is answered before its turn is left out, and a hint that comes too late is ignored by the runtime.
"""

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dotsctl.client.inputs.hints import AUTO
from dotsctl.client.inputs.pages import Buffer
from dotsctl.protocol.errors import DotsctlError, RenderingStoppedError
from dotsctl.protocol.render.exchange import HINT, HintAnswer, RenderRequest
from dotsctl.protocol.render.process import RenderProcess

LEAST_CORES = 4
"""Cores below which ``auto`` does not use side OCR: it would take them from the model."""
TIMEOUT_S = 30.0
"""Longest time of one page, with the start of the plugin."""
MOST_PROBLEMS = 3
"""Pages in a row with which a plugin fails, after which it is not used any more."""
MOST_WAITING_BYTES = 256 << 20
"""Pixels of pages that wait; a page beyond gets no hint."""
PageKey = tuple[str, int]
"""Job and index of a page."""


@dataclass(frozen=True)
class SidePage:
    """A page that waits for its hint."""

    plugin: str
    pixels: Buffer
    """uint8 (height, width, 3), RGB."""
    size: tuple[int, int]
    """Width and height in pixels."""
    give: Callable[[HintAnswer], None]
    """Takes the answer, in another thread."""


class SideHints:
    """Reads pages in the order in which they come. Any thread may use it."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process = RenderProcess(lambda: TIMEOUT_S)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[PageKey, SidePage] = {}
        self._at_work: PageKey | None = None
        """The page that is read; none: there is none, or nobody needs it any more."""
        self._thread: threading.Thread | None = None
        self._problems: Counter[str] = Counter()
        """Pages in a row with which each plugin has failed."""
        self._automatic: str | None = None
        """Name of the plugin that ``auto`` stands for; empty: none can run here; none: it was not looked up yet."""

    @property
    def pid(self) -> int | None:
        """Process id of the plugin's process; none: none runs."""
        return self._process.pid

    def request(self, key: PageKey, page: SidePage) -> None:
        """Read a page when it is its turn, unless too many wait."""
        with self._lock:
            waiting_bytes = sum(len(each.pixels) for each in self._waiting.values())
            if waiting_bytes + len(page.pixels) > MOST_WAITING_BYTES:
                return
            self._waiting[key] = page
            if self._thread is None or not self._thread.is_alive():  # it did not come along into a forked process
                self._thread = threading.Thread(target=self._run, name="side hints", daemon=True)
                self._thread.start()

    def forget(self, job_id: str, index: int | None = None) -> None:
        """Leave out a page, or all pages of a job, whose hints nobody needs any more."""
        with self._lock:
            for key in [key for key in (*self._waiting, self._at_work) if key and _is_of(key, job_id, index)]:
                self._waiting.pop(key, None)
                if key == self._at_work:
                    self._at_work = None

    def stop(self) -> None:
        """Read nothing more until :meth:`close`; for a signal handler, so nothing is waited for."""
        self._process.stop()

    def close(self) -> None:
        """Forget all pages and end the process; a later request starts another one."""
        with self._lock:
            self._waiting.clear()
            self._at_work, thread = None, self._thread
        self._process.stop()  # the thread may wait for an answer
        if thread is not None:
            thread.join(TIMEOUT_S)
        self._process.close()

    def _run(self) -> None:
        """Read what waits; ends when nothing does."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._at_work = self._thread = None
                    return
                key = next(iter(self._waiting))
                page = self._waiting.pop(key)
                self._at_work = key
            answer = self._read(page)
            with self._lock:
                is_needed = self._at_work == key
            if is_needed:
                page.give(answer)

    def _read(self, page: SidePage) -> HintAnswer:
        """The hint of a page."""
        plugin = self._found() if page.plugin == AUTO else page.plugin
        if not plugin or self._problems[plugin] >= MOST_PROBLEMS:
            return HintAnswer()
        answer = self._asked(page, plugin)
        self._problems[plugin] = self._problems[plugin] + 1 if answer.problem else 0
        return answer

    def _asked(self, page: SidePage, plugin: str) -> HintAnswer:
        """Request a hint, and wait for it."""
        request = RenderRequest(HINT, content=next(self._numbers), hint=plugin, size=page.size)
        try:
            pending = self._process.request(request, memoryview(page.pixels))
            self._process.result(pending)
        except RenderingStoppedError:
            return HintAnswer()
        except DotsctlError as error:
            return HintAnswer(problem=error.problem)
        return pending.hint

    def _found(self) -> str:
        """Return the name of the plugin that ``auto`` stands for; empty: none can run here."""
        if self._automatic is None:
            from dotsctl.protocol.render.hint_plugin import chosen_plugin

            plugin = chosen_plugin(AUTO, reads_document=False)
            self._automatic = plugin.name if plugin is not None else ""
        return self._automatic


def _is_of(key: PageKey, job_id: str, index: int | None) -> bool:
    return key[0] == job_id and index in (None, key[1])


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


SIDE = SideHints()
"""Side OCR of all clients of this process."""
