"""Running ``powermetrics``, the power meter of macOS, for a fixed time.

It runs as root, so it could not be stopped from here; with a number of samples it ends by itself.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from dotsctl.protocol.errors import CommandFailedError
from dotsctl.tools.bench.powermetrics import SAMPLERS, Sample, parse

POWERMETRICS = "/usr/bin/powermetrics"
SUDO = "/usr/bin/sudo"
SAMPLE_MS = 500
SLACK_S = 60.0
"""The additional time, in seconds, that the meter may take."""


def command_line(seconds: float) -> list[str]:
    """Return the command that measures for so many seconds; through sudo without a prompt, unless this process is
    root's."""
    count = max(1, round(seconds * 1000 / SAMPLE_MS))
    words = [POWERMETRICS, "--format", "plist", "--samplers", SAMPLERS, "-i", str(SAMPLE_MS), "-n", str(count)]
    return words if os.geteuid() == 0 else [SUDO, "-n", *words]


class Meter:
    """A powermetrics that runs, or has run."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", seconds: float, output: IO[bytes], errors: IO[bytes]
    ) -> None:
        self._process, self._seconds, self._output, self._errors = process, seconds, output, errors

    @property
    def is_running(self) -> bool:
        """Return whether it still samples."""
        return self._process.poll() is None

    def samples(self) -> list[Sample]:
        """Wait for the end and return all samples.

        Raises:
            CommandFailedError: it may not run, does not end, or reports nothing.
        """
        try:
            code = self._process.wait(self._seconds + SLACK_S)
        except subprocess.TimeoutExpired:
            raise CommandFailedError(
                f"powermetrics did not end within {self._seconds + SLACK_S:.0f} s, it was to run {self._seconds:.0f} s"
            ) from None
        for stream in (self._output, self._errors):
            stream.seek(0)
        errors = self._errors.read().decode("utf-8", "replace").strip()
        if code != 0 and "password is required" in errors:
            raise CommandFailedError(
                "powermetrics needs root, and sudo would ask for a password",
                "run sudo -v, then the same command again within five minutes",
            )
        if code != 0:
            raise CommandFailedError(f"powermetrics ended with code {code}: {errors or 'without a message'}")
        return parse(self._output.read())


@contextmanager
def metering(seconds: float, command: Sequence[str] | None = None) -> Iterator[Meter]:
    """A meter that samples for so many seconds.

    Raises:
        CommandFailedError: there is no such program.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        words = list(command or command_line(seconds))
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        except OSError as error:
            raise CommandFailedError(f"{words[0]} cannot be run: {error.strerror}") from None
        try:
            yield Meter(process, seconds, output, errors)
        finally:
            if process.poll() is None:
                with contextlib.suppress(PermissionError):  # it is root's, and ends by itself
                    process.kill()
                    process.wait()
