"""The input of a section of ``doctor --coreml``, and how it reports that something does not work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], None]


@dataclass(frozen=True)
class SectionRequest:
    """The subject of a section."""

    model: str
    """Directory of the model."""
    build: str | None
    """Name of the build; none: as the encoder chooses."""
    work: str
    """Folder for files that sections leave to each other."""
    subject: str = ""
    """Compute units, encoder or laboratory package, by section."""


class SectionFailedError(Exception):
    """A section found that something does not work; it has a result nevertheless."""

    def __init__(self, failure: str, result: dict[str, Any], text: list[str]) -> None:
        super().__init__(failure)
        self.result, self.text = result, text
