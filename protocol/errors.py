"""Every error that dotsctl raises on purpose, with the exit code of the command line.

    DotsctlError                     1
    ├── PageError                    1   this page cannot be read; the others go on
    ├── UsageError                   2   a wrong option or argument
    ├── MissingError                 3   a dependency or a model is not installed
    ├── NoInputError                 4   none of the inputs could be read
    ├── OutputError                  5   a result could not be written
    ├── RuntimeLostError             6   the runtime is not reachable, or went away
    │   └── ProtocolError            6   a message breaks the wire specification
    ├── CommandFailedError           7   up, down, swap or convert did not succeed
    └── AlreadyRunningError          8   an instance of that name is running

Messages say what happened, with the numbers, and what to do about it.
"""

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What the command line answers to the shell."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    MISSING = 3
    NO_INPUT = 4
    OUTPUT = 5
    RUNTIME = 6
    COMMAND = 7
    ALREADY_RUNNING = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class ErrorCode(StrEnum):
    """Why a page or an exchange failed, as it stands on the wire and in records."""

    BAD_IMAGE = "E_BAD_IMAGE"
    """The bytes are no image that can be read."""
    BAD_EMBED = "E_BAD_EMBED"
    """The encoder's result has a wrong shape or type, or is not finite."""
    CANCELLED = "E_CANCELLED"
    CONFLICT = "E_CONFLICT"
    """Two different pages under one job and page index."""
    DEADLINE = "E_DEADLINE"
    """The page took longer than it may."""
    INTERNAL = "E_INTERNAL"
    """A worker raised an error that it does not know."""
    LOAD = "E_LOAD"
    """A worker could not load its model."""
    MODEL_MISMATCH = "E_MODEL_MISMATCH"
    """Two workers hold different models."""
    OOM = "E_OOM"
    POISON = "E_POISON"
    """A worker died twice while this page was alone in it."""
    PROTO = "E_PROTO"
    """Different major versions of the protocol."""
    SCHEMA = "E_SCHEMA"
    """A message that breaks the specification."""
    STALL = "E_STALL"
    """The page did not move for too long, and not after a new attempt either."""
    TOO_LARGE = "E_TOO_LARGE"
    UNKNOWN_TASK = "E_UNKNOWN_TASK"
    UNKNOWN_TYPE = "E_UNKNOWN_TYPE"
    WORKER_FATAL = "E_WORKER_FATAL"
    """A worker failed so often that it is not started again."""


class DotsctlError(Exception):
    """Base of all errors that a user may see; ``str()`` of it is a complete message."""

    exit_code: ExitCode = ExitCode.SOME_FAILED


class PageError(DotsctlError):
    """One page cannot be read; ``code`` says why in one word."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.BAD_IMAGE) -> None:
        super().__init__(message)
        self.code = code


class UsageError(DotsctlError):
    """A wrong option or argument."""

    exit_code = ExitCode.USAGE


class MissingError(DotsctlError):
    """A dependency or a model is not installed."""

    exit_code = ExitCode.MISSING


class NoInputError(DotsctlError):
    """None of the inputs could be read."""

    exit_code = ExitCode.NO_INPUT


class OutputError(DotsctlError):
    """A result could not be written."""

    exit_code = ExitCode.OUTPUT


class RuntimeLostError(DotsctlError):
    """The runtime is not reachable, or went away."""

    exit_code = ExitCode.RUNTIME


class ProtocolError(RuntimeLostError):
    """A message breaks the wire specification; ``code`` is what the peer is told."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.SCHEMA) -> None:
        super().__init__(message)
        self.code = code


class CommandFailedError(DotsctlError):
    """The runtime could not be started, stopped or changed as asked."""

    exit_code = ExitCode.COMMAND


class AlreadyRunningError(DotsctlError):
    """An instance of that name is running."""

    exit_code = ExitCode.ALREADY_RUNNING
