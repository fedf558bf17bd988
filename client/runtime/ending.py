"""The end of a runtime: by signals, with its owner, or because of an error. Pure."""

import logging
import signal

from dotsctl.client.runtime.core import Coordinator
from dotsctl.protocol.errors import ErrorCode, ExitCode
from dotsctl.protocol.messages import Bye

log = logging.getLogger(__name__)

MAX_REASON_CHARACTERS = 16_000
STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Ending:
    """Nothing at first; then the reason for the end, and whether accepted pages are still read."""

    def __init__(self, core: Coordinator) -> None:
        self._core = core
        self.bye: Bye | None = None
        """The last message to clients; none: the runtime continues."""
        self.is_now = False
        """Whether it ends before the accepted pages are read."""

    @property
    def is_complete(self) -> bool:
        """Return whether only the processes are left to end."""
        return self.bye is not None and (self.is_now or not self._core.ledger.requests)

    def signalled(self, number: int, now: float) -> None:
        """A signal has come: the first one lets the accepted pages be read, the second one ends at once."""
        if number in STOPPING_SIGNALS:
            at_once = bool(self._core.stopping) or number == signal.SIGQUIT
            self.stop(f"the runtime was stopped by {signal.Signals(number).name}", now, at_once=at_once)

    def unreachable(self, problem: str, now: float) -> None:
        """The runtime cannot be reached any more: read the accepted pages and end with an error."""
        reason = f"the runtime ends because {problem}: start it again with 'dotsctl up'"
        log.error("%s", reason)
        self.stop(reason, now, at_once=False, exit_code=ExitCode.COMMAND)

    def stop(self, reason: str, now: float, *, at_once: bool, exit_code: ExitCode = ExitCode.OK) -> None:
        """Finish the accepted pages and end; or end now."""
        log.info("stopping%s: %s", " now" if at_once else "", reason)
        self._core.stop(reason, ErrorCode.CANCELLED if at_once else None, now)
        self.is_now = self.is_now or at_once
        self.bye = self.bye or Bye(reason, exit_code)

    def failed(self, problem: str, exit_code: int, now: float) -> None:
        """End because of an error: all pages fail with it."""
        if self.bye is not None and self.bye.exit_code:
            return
        log.error("%s", problem)
        problem = problem[:MAX_REASON_CHARACTERS]
        self._core.stop(problem, ErrorCode.WORKER_FATAL, now)
        self.bye, self.is_now = Bye(problem, exit_code), True
