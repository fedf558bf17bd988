"""Every error that dotsctl raises on purpose, and the one table of its exit codes and HTTP statuses.

    DotsctlError                     1
    ├── PageError                    1   this page cannot be read; the others continue
    ├── UsageError                   2   a wrong option or argument
    ├── MissingError                 3   a dependency or a model is not installed
    ├── NoInputError                 4   none of the inputs could be read
    ├── OutputError                  5   a result could not be written
    │   └── ResultError              5   that of one input; the others continue
    ├── RuntimeLostError             6   the runtime is not reachable, or went away
    │   └── ProtocolError            6   a message breaks the wire specification
    ├── CommandFailedError           7   up, down, swap or convert did not succeed
    └── AlreadyRunningError          8   an instance of that name is running

``problem`` states what happened, with the numbers, and ``remedy`` what the user can do.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

REINSTALL = "pip install --force-reinstall dotsctl"
"""Remedy where a library is missing that dotsctl requires on this system."""


class ExitCode(IntEnum):
    """The exit code of the command line."""

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
    """The reason why a page or an exchange failed, as on the wire and in records."""

    BAD_IMAGE = "E_BAD_IMAGE"
    """The bytes are no image that can be read."""
    BAD_EMBED = "E_BAD_EMBED"
    """The encoder's result has a wrong shape or type, or is not finite."""
    CANCELLED = "E_CANCELLED"
    CONFLICT = "E_CONFLICT"
    """Two different pages under one job and page index."""
    DEADLINE = "E_DEADLINE"
    """The page took longer than it may."""
    GPU = "E_GPU"
    """macOS ended or refused the work on the GPU each time that the page was computed."""
    INTERNAL = "E_INTERNAL"
    """A worker raised an error of an unexpected kind."""
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


class ErrorAnswer(NamedTuple):
    """The answer to a caller whose request failed."""

    exit_code: ExitCode
    http_status: int


ANSWERS: dict[str, ErrorAnswer] = {
    "E_ALREADY_RUNNING": ErrorAnswer(ExitCode.ALREADY_RUNNING, 500),
    "E_COMMAND": ErrorAnswer(ExitCode.COMMAND, 500),
    "E_ERROR": ErrorAnswer(ExitCode.SOME_FAILED, 500),
    "E_MISSING": ErrorAnswer(ExitCode.MISSING, 404),
    "E_NO_INPUT": ErrorAnswer(ExitCode.NO_INPUT, 422),
    "E_OUTPUT": ErrorAnswer(ExitCode.OUTPUT, 500),
    "E_RESULT": ErrorAnswer(ExitCode.OUTPUT, 500),
    "E_RUNTIME": ErrorAnswer(ExitCode.RUNTIME, 503),
    "E_USAGE": ErrorAnswer(ExitCode.USAGE, 400),
    ErrorCode.BAD_IMAGE: ErrorAnswer(ExitCode.SOME_FAILED, 422),
    ErrorCode.BAD_EMBED: ErrorAnswer(ExitCode.SOME_FAILED, 500),
    ErrorCode.CANCELLED: ErrorAnswer(ExitCode.SOME_FAILED, 503),
    ErrorCode.CONFLICT: ErrorAnswer(ExitCode.SOME_FAILED, 500),
    ErrorCode.DEADLINE: ErrorAnswer(ExitCode.SOME_FAILED, 504),
    ErrorCode.GPU: ErrorAnswer(ExitCode.SOME_FAILED, 503),
    ErrorCode.INTERNAL: ErrorAnswer(ExitCode.SOME_FAILED, 500),
    ErrorCode.MODEL_MISMATCH: ErrorAnswer(ExitCode.SOME_FAILED, 503),
    ErrorCode.OOM: ErrorAnswer(ExitCode.SOME_FAILED, 503),
    ErrorCode.POISON: ErrorAnswer(ExitCode.SOME_FAILED, 422),  # not 500, as the page should not be sent again
    ErrorCode.PROTO: ErrorAnswer(ExitCode.RUNTIME, 500),
    ErrorCode.SCHEMA: ErrorAnswer(ExitCode.RUNTIME, 500),
    ErrorCode.STALL: ErrorAnswer(ExitCode.SOME_FAILED, 504),
    ErrorCode.TOO_LARGE: ErrorAnswer(ExitCode.SOME_FAILED, 413),
    ErrorCode.UNKNOWN_TASK: ErrorAnswer(ExitCode.SOME_FAILED, 400),
    ErrorCode.UNKNOWN_TYPE: ErrorAnswer(ExitCode.RUNTIME, 500),
    ErrorCode.WORKER_FATAL: ErrorAnswer(ExitCode.SOME_FAILED, 503),
}
"""The answers by code: those of the wire, and those of the error classes that have none of the wire."""


OTHER_VERSION = "dotsctl was updated: run 'dotsctl down', then 'dotsctl up'"
"""The remedy where a runtime and a client or worker are of different versions."""


class DotsctlError(Exception):
    """Base of all errors that a user may see; ``str()`` of it is a complete message of one line.

    Args:
        problem: what happened, with the numbers. Only a list of several problems has several lines.
        remedy: what the user can do, as an imperative; empty where nothing can be done.
        code: instead of that of the class.
    """

    code: str = "E_ERROR"

    def __init__(self, problem: str, remedy: str = "", *, code: ErrorCode | None = None) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        is_list = "\n" in self.problem
        return self.paragraph() if is_list or not self.remedy else f"{self.problem}: {self.remedy}"

    def paragraph(self) -> str:
        """Return the message for a terminal, with the remedy on a line of its own."""
        return f"{self.problem}\nWhat to do: {self.remedy}" if self.remedy else self.problem

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that this error ends."""
        return ANSWERS[self.code].exit_code


class PageError(DotsctlError):
    """One page cannot be read; ``code`` is the reason."""

    code = ErrorCode.BAD_IMAGE


class RenderingStoppedError(Exception):
    """Rendering was stopped; the page in progress has not failed."""


class UsageError(DotsctlError):
    """A wrong option or argument."""

    code = "E_USAGE"


class MissingError(DotsctlError):
    """A dependency or a model is not installed."""

    code = "E_MISSING"


class NoInputError(DotsctlError):
    """No input could be read."""

    code = "E_NO_INPUT"


class OutputError(DotsctlError):
    """A result could not be written."""

    code = "E_OUTPUT"


class ResultError(OutputError):
    """The result of one input could not be written; those of others may be."""

    code = "E_RESULT"


class RuntimeLostError(DotsctlError):
    """The runtime is not reachable, or went away."""

    code = "E_RUNTIME"


class ProtocolError(RuntimeLostError):
    """A message breaks the wire specification; ``code`` is reported to the peer."""

    code = ErrorCode.SCHEMA


class CommandFailedError(DotsctlError):
    """The runtime could not be started, stopped or changed as requested."""

    code = "E_COMMAND"


class AlreadyRunningError(DotsctlError):
    """An instance of that name is running."""

    code = "E_ALREADY_RUNNING"
