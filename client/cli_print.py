"""Printing results to standard output; everything else of the command line goes to standard error."""

import contextlib
import os
import sys

from dotsctl.protocol.errors import OutputError


class ClosedPipeError(Exception):
    """Nobody reads standard output any more, as behind ``| head``: no error of the user's."""


def print_text(text: str) -> None:
    """Write to standard output at once, as UTF-8 whatever the locale says.

    Raises:
        ClosedPipeError: the reader is gone.
        OutputError: the text cannot be written, as on a full disk.
    """
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        silence_stdout()
        raise ClosedPipeError from None
    except OSError as error:
        silence_stdout()
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from None


def silence_stdout() -> None:
    """Let what is still buffered go nowhere, so that Python does not complain about it at its end."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no Path here
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
