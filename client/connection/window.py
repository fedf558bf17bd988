"""The room of one client in a runtime, shared between its calls: most pages that are in flight at once.

Without it, many calls at once would send pages that the runtime has no room for, again and again.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable


class Window:
    """Places for pages; a job that finds none is woken when one is free, first come first served. Thread-safe."""

    def __init__(self, size: int) -> None:
        """``size`` is what the runtime grants."""
        self._free = size
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._granted: set[str] = set()
        """Callers who were given a place while they waited, and have not come for it."""
        self._queue: deque[tuple[str, Callable[[], None]]] = deque()

    def take(self, job_id: str, wake: Callable[[], None]) -> bool:
        """Take a place; when there is none, ``wake`` is called as soon as this job can take one."""
        with self._lock:
            if job_id in self._granted:
                self._granted.discard(job_id)
                return True
            if self._free and not self._queue:
                self._free -= 1
                self._held[job_id] += 1
                return True
            if all(waiting != job_id for waiting, _ in self._queue):
                self._queue.append((job_id, wake))
            return False

    def withdraw(self, job_id: str) -> None:
        """Do not wait any more; a place that was given meanwhile goes to the next one."""
        with self._lock:
            self._leave_queue(job_id)
            if job_id in self._granted:
                self._granted.discard(job_id)
                self._give_back(job_id, 1)

    def release(self, job_id: str) -> None:
        """A page of this job is not in flight any more."""
        with self._lock:
            self._give_back(job_id, min(1, self._held[job_id]))

    def forget(self, job_id: str) -> None:
        """The job is over: give all its places back."""
        with self._lock:
            self._leave_queue(job_id)
            self._granted.discard(job_id)
            self._give_back(job_id, self._held[job_id])

    def _leave_queue(self, job_id: str) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] != job_id)

    def _give_back(self, job_id: str, count: int) -> None:
        self._free += count
        self._held[job_id] -= count
        if not self._held[job_id]:
            del self._held[job_id]
        while self._free and self._queue:
            waiting, wake = self._queue.popleft()
            self._free -= 1
            self._held[waiting] += 1
            self._granted.add(waiting)
            wake()
