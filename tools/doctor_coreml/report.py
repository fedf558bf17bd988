"""The report of ``doctor --coreml``: a JSON file that is complete after every section, and lines for people."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import OutputError, UsageError

SCHEMA = "dotsctl-doctor-coreml/1"
MAX_ATTEMPTS = 2
"""A section during which the report broke off is done again once: it may be what ended the machine."""


class State(StrEnum):
    """How far a section is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It makes no sense here; ``failure`` says why. That is no failure."""


@dataclass
class Section:
    """One section of the report."""

    state: State
    attempts: int = 0
    seconds: float = 0.0
    failure: str = ""
    """Why it failed, or why it was skipped."""
    result: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    """The result for people."""


@dataclass
class Report:
    """Everything that was found so far."""

    model: str
    """Name or path of the model."""
    build: str | None
    """Name of the build; none: as the encoder chooses."""
    only: tuple[str, ...] = ()
    """Kinds of sections that are run besides ``system`` and ``conversion``; none given: all."""
    sections: dict[str, Section] = field(default_factory=dict)
    """By name, in the order in which they were run."""
    is_complete: bool = False
    """Whether all sections were run."""
    schema: str = SCHEMA

    @property
    def failed(self) -> list[str]:
        """Names of the sections that failed."""
        return [name for name, section in self.sections.items() if section.state is State.FAILED]

    def is_settled(self, name: str) -> bool:
        """Return whether a section need not be run again when the report is resumed."""
        section = self.sections.get(name)
        return section is not None and section.state is not State.RUNNING

    def result(self, name: str) -> dict[str, Any]:
        """Return the result of a section; empty: it has none."""
        return self.sections[name].result if name in self.sections else {}

    def write(self, path: Path) -> None:
        """Write the file in one step, so that it is complete whenever the process ends.

        Raises:
            OutputError: it cannot be written.
        """
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(
                f"{path} cannot be written ({error.strerror or error}): choose another file with -o"
            ) from None

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read a report that broke off.

        Raises:
            UsageError: there is none, or the file is no report of this version.
        """
        try:
            content = json.loads(path.read_bytes())
            if not isinstance(content, dict) or content.get("schema") != SCHEMA:
                raise UsageError(f"{path} is not a report of this version of dotsctl: start without --resume")
            listed = content.pop("sections")
            sections = {name: Section(**{**each, "state": State(each["state"])}) for name, each in listed.items()}
            return cls(**{**content, "only": tuple(content["only"]), "sections": sections})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} cannot be resumed ({error}): start without --resume") from None


def lines(name: str, section: Section) -> Iterator[str]:
    """Yield the lines of a section for people."""
    if section.state is State.FAILED:
        yield f"{name}: FAILED after {section.seconds:.0f} s: {section.failure}"
    elif section.state is State.SKIPPED:
        yield f"{name}: skipped: {section.failure}"
    else:
        yield f"{name}: done in {section.seconds:.0f} s"
    yield from (f"  {line}" for line in section.text)


def summary(report: Report) -> str:
    """Return the last line."""
    failed = report.failed
    return f"{len(failed)} sections failed: {', '.join(failed)}" if failed else "all sections are done"
