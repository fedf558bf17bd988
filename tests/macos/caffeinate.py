"""A program that stands for macOS' caffeinate and writes down how it is used."""

import os
import select
from pathlib import Path

PROGRAM = """#!/bin/sh
echo "$@" >> {arguments}
exec 3> {fifo}
while kill -0 "$3"; do sleep 0.1; done
"""


class Caffeinate:
    """The calls of a program ``caffeinate`` that ends with the process of ``-w``.

    It opens a FIFO when it starts, and its end closes it: events to wait for.
    """

    def __init__(self, folder: Path) -> None:
        """Write the program into ``folder``, which the caller puts into the path."""
        self.arguments, self._fifo = folder / "arguments", folder / "fifo"
        os.mkfifo(self._fifo)
        program = folder / "caffeinate"
        program.write_text(PROGRAM.format(arguments=self.arguments, fifo=self._fifo))
        program.chmod(0o755)
        self._fd = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)

    @property
    def starts(self) -> int:
        """How often it was started."""
        return len(self.arguments.read_text().splitlines()) if self.arguments.exists() else 0

    def wait_started(self) -> None:
        """Return when the last start has opened the FIFO."""
        poll = select.poll()
        while not self._is_open():
            poll.poll(5)

    def _is_open(self) -> bool:
        try:
            os.read(self._fd, 1)
        except BlockingIOError:  # a writer holds it
            return True
        return False

    def wait_ended(self) -> None:
        """Return when no process holds the FIFO."""
        poll = select.poll()
        poll.register(self._fd, select.POLLHUP)
        assert poll.poll(10_000), "caffeinate still runs"

    def close(self) -> None:
        """Forget the FIFO."""
        os.close(self._fd)
