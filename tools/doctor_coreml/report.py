"""The report of ``doctor --coreml``: a JSON file that is complete after every section, and lines of readable text."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dotsctl.client.files.part_file import write_json
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.files import read_file
from dotsctl.protocol.typed_values import WrongValueError, from_plain, plain_json

SCHEMA = "dotsctl-doctor-coreml/1"
MAX_ATTEMPTS = 2
"""A section during which the report was interrupted is run again once: it may be what ended the machine."""


class SectionState(StrEnum):
    """The progress of a section."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It makes no sense here; ``failure`` has the reason. That is no failure."""


@dataclass
class ReportSection:
    """One section of the report."""

    state: SectionState
    attempts: int = 0
    seconds: float = 0.0
    failure: str = ""
    """The reason why it failed, or why it was skipped."""
    result: dict[str, Any] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    """The result as readable text."""


@dataclass
class CoreMLReport:
    """Everything that was found so far."""

    model: str
    """Name or path of the model."""
    build: str | None
    """Name of the build; none: as the encoder chooses."""
    only: tuple[str, ...] = ()
    """Kinds of sections that are run besides ``system`` and ``conversion``; none given: all."""
    sections: dict[str, ReportSection] = field(default_factory=dict)
    """The sections by name, in the order in which they were run."""
    is_complete: bool = False
    """Whether all sections were run."""
    schema: str = SCHEMA

    @property
    def failed(self) -> list[str]:
        """Names of the sections that failed."""
        return [name for name, section in self.sections.items() if section.state is SectionState.FAILED]

    def is_settled(self, name: str) -> bool:
        """Return whether a section need not be run again when the report is resumed."""
        section = self.sections.get(name)
        return section is not None and section.state is not SectionState.RUNNING

    def result(self, name: str) -> dict[str, Any]:
        """Return the result of a section; empty: it has none."""
        return self.sections[name].result if name in self.sections else {}

    def write(self, path: Path) -> None:
        """Write the file in one step, so that it is complete whenever the process ends.

        Raises:
            OutputError: it cannot be written.
        """
        write_json(path, self)

    @classmethod
    def read(cls, path: Path) -> "CoreMLReport":
        """Read an interrupted report.

        Raises:
            UsageError: there is none, or the file is no report of this version.
        """
        try:
            content = plain_json(read_file(path))
            if not isinstance(content, dict) or content.get("schema") != SCHEMA:
                raise UsageError(f"{path} is not a report of this version of dotsctl", "start without --resume")
            return from_plain(cls, content)
        except (OSError, WrongValueError) as error:
            raise UsageError(f"{path} cannot be resumed ({error})", "start without --resume") from None


def lines(name: str, section: ReportSection) -> Iterator[str]:
    """Yield the lines of a section as readable text."""
    if section.state is SectionState.FAILED:
        yield f"{name}: FAILED after {section.seconds:.0f} s: {section.failure}"
    elif section.state is SectionState.SKIPPED:
        yield f"{name}: skipped: {section.failure}"
    else:
        yield f"{name}: done in {section.seconds:.0f} s"
    yield from (f"  {line}" for line in section.text)


def summary(report: CoreMLReport) -> str:
    """Return the last line."""
    failed = report.failed
    return f"{len(failed)} sections failed: {', '.join(failed)}" if failed else "all sections are done"
