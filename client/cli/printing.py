"""Printing results to standard output; everything else of the command line goes to standard error."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator

import click
from dotsctl.protocol.errors import DotsctlError, OutputError

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""C0 and C1, but for tabulator and line feed."""


class ClosedPipeError(Exception):
    """The reader of standard output is gone, as after ``| head``: no error of the user."""


def for_terminal(text: str) -> str:
    r"""Return text with its control characters as escapes: file names and answers may hold sequences for terminals.

    Line breaks and tabulators stay, and so does all that is printed; ``\x1b`` becomes four characters.
    """
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def print_line(text: str) -> None:
    """Write a line to standard error; see :func:`for_terminal`."""
    click.echo(for_terminal(text), err=True)


def print_text(text: str, *, has_sequences: bool = False) -> None:
    """Write to standard output at once, as UTF-8 whatever the locale is.

    Args:
        text: to a terminal it goes without control characters; a file or another program gets all of it.
        has_sequences: sequences for terminals of our own are in it.

    Raises:
        ClosedPipeError: the reader is gone.
        OutputError: the text cannot be written, as on a full disk.
    """
    if not has_sequences and sys.stdout.isatty():
        text = for_terminal(text)
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        silence_stdout()
        raise ClosedPipeError from None
    except OSError as error:
        silence_stdout()
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from None


def print_error(error: DotsctlError) -> None:
    """Write what happened to standard error, and the remedy on a line of its own."""
    print_line(f"dotsctl: {error.paragraph()}")


@contextlib.contextmanager
def exiting_on_error() -> Iterator[None]:
    """End the process at an error of ours with its message and its exit code."""
    try:
        yield
    except DotsctlError as error:
        print_error(error)
        sys.exit(error.exit_code)


def silence_stdout() -> None:
    """Let what is still buffered go nowhere, so that Python does not complain about it at its end."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no Path here
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
