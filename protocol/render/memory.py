"""The bound of this process's memory, which follows from the largest page that is allowed."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dotsctl.protocol.render.exchange import ROOM_BYTES

STATM = Path("/proc/self/statm")


class AddressSpace:
    """Limits the address space under Linux; macOS enforces no such limit, so there the owner watches the footprint."""

    def __init__(self) -> None:
        """Allow ``ROOM_BYTES`` more than the process has now."""
        self._is_limited = sys.platform.startswith("linux")
        self._base_bytes = self.used_bytes()
        self._content_bytes = 0
        self._limit()

    def used_bytes(self) -> int:
        """Address space of this process; 0 where it is not limited."""
        return int(STATM.read_text().split()[0]) * resource.getpagesize() if self._is_limited else 0

    def allow_content(self, nbytes: int) -> None:
        """Leave room for a document that the owner sends, instead of an earlier one."""
        self._content_bytes = nbytes
        self._limit()

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Do not count what libraries take that are loaded meanwhile."""
        before = self.used_bytes()
        try:
            yield
        finally:
            self._base_bytes += self.used_bytes() - before
            self._limit()

    def is_short(self) -> bool:
        """Return whether earlier pages have left less than three quarters of the room."""
        return self.used_bytes() - self._base_bytes - self._content_bytes > ROOM_BYTES // 4

    def _limit(self) -> None:
        if self._is_limited:
            limit_bytes = self._base_bytes + self._content_bytes + ROOM_BYTES
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            if hard != resource.RLIM_INFINITY:
                limit_bytes = min(limit_bytes, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard))
