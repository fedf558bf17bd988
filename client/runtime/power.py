"""Keeps a Mac awake while pages are read and it is on mains power."""

import ctypes
import logging
import os
import subprocess
import sys

log = logging.getLogger(__name__)

IOKIT = "/System/Library/Frameworks/IOKit.framework/IOKit"
TIME_REMAINING_UNLIMITED = -2.0  # kIOPSTimeRemainingUnlimited of IOKit/ps/IOPowerSources.h
RELEASE_AFTER_S = 5.0
"""Time without a request after which the Mac may sleep again."""
END_S = 2.0


def is_on_mains_power() -> bool:
    """Return whether this Mac has no battery or is not running on it; true where IOKit gives no answer."""
    try:
        estimate = ctypes.CDLL(IOKIT).IOPSGetTimeRemainingEstimate
    except (OSError, AttributeError):
        return True
    estimate.restype = ctypes.c_double
    return estimate() == TIME_REMAINING_UNLIMITED


class SleepPrevention:
    """Runs ``caffeinate`` while it is needed; on other systems than macOS nothing.

    ``caffeinate -i`` keeps the system from idle sleep, not the display. With ``-w`` it ends with this process, however
    this process ends.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._busy_at = float("-inf")
        self._is_possible = sys.platform == "darwin"

    def update(self, is_busy: bool, now: float) -> None:
        """Start or end ``caffeinate``; to be called about once a second.

        Args:
            is_busy: whether there are requests.
            now: seconds of a monotonic clock.
        """
        if not self._is_possible:
            return
        if is_busy:
            self._busy_at = now
        if self._process is not None and self._process.poll() is not None:
            log.warning("caffeinate ended (exit code %d): this Mac may go to sleep", self._process.returncode)
            self._process, self._is_possible = None, False
        elif now - self._busy_at < RELEASE_AFTER_S and is_on_mains_power():
            self._start()
        else:
            self.close()

    def _start(self) -> None:
        if self._process is not None:
            return
        try:
            self._process = subprocess.Popen(
                ["caffeinate", "-i", "-w", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal lets the runtime finish its pages
            )
        except OSError as error:
            log.warning("cannot start caffeinate (%s): this Mac may go to sleep while pages are read", error)
            self._is_possible = False

    def close(self) -> None:
        """Let the Mac sleep again."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
