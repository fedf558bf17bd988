"""Finds failures of Core ML's compilers, which only standard error reports.

A program that the Neural Engine's compiler refuses is loaded nevertheless, without an error, and computed by the CPU
(issue 2758 of https://github.com/apple/coremltools).
"""

import contextlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator

FAILURE = re.compile(
    r"ANECCompile\(\) FAILED|MILCompilerForANE error|failed to compile ANE|ANE compilation failed"
    r"|MLIR pass manager failed",
    re.IGNORECASE,
)
STDERR = 2
MAX_CHARACTERS = 300


def failures(text: str) -> list[str]:
    """Return the lines of a standard error that report a failed compilation, each once and shortened."""
    found = (line.strip()[:MAX_CHARACTERS] for line in text.splitlines() if FAILURE.search(line))
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def compiler_failures() -> Iterator[list[str]]:
    """Collect what compilers report on standard error inside the block; the list is filled at its end.

    The framework writes to the file descriptor, not to ``sys.stderr``. Where that is a file that can be read, as in the
    probe, it is read; else it is redirected to a temporary file and passed on afterwards. A pipe and a thread would not
    do: a load holds the interpreter's lock, so no thread would empty the pipe.
    """
    found: list[str] = []
    sys.stderr.flush()
    with _readable_stderr() as (fd, start):
        try:
            yield found
        finally:
            sys.stderr.flush()
            found += failures(_read_from(fd, start))


@contextlib.contextmanager
def _readable_stderr() -> Iterator[tuple[int, int]]:
    """A descriptor from which standard error can be read, and the place where new text begins."""
    try:
        status = os.fstat(STDERR)
        os.pread(STDERR, 1, status.st_size)
        is_readable = stat.S_ISREG(status.st_mode)
    except OSError:  # a terminal, a pipe, or a log that is only written
        is_readable = False
    if is_readable:
        yield STDERR, status.st_size
        return
    original = os.dup(STDERR)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), STDERR)
        try:
            yield file.fileno(), 0
        finally:
            os.dup2(original, STDERR)
            with contextlib.suppress(OSError):  # as the reader of the pipe may be gone
                _write_all(original, _read_from(file.fileno(), 0).encode())
            os.close(original)


def _read_from(fd: int, start: int) -> str:
    return os.pread(fd, max(0, os.fstat(fd).st_size - start), start).decode("utf-8", "replace")


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
