"""The interface of all outputs, and the values that a result depends on."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import InputFile
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import DotsctlError, UsageError


@dataclass(frozen=True, slots=True)
class Reading:
    """The values that a result depends on in addition to the input."""

    fingerprint: str
    encoder: str
    decoder: str
    options: Mapping[str, Any]
    """Those that the result depends on; see :meth:`dotsctl.client.jobs.page_options.ReadingOptions.key`."""

    def page_key(self, digest: str, document: InputFile) -> str:
        """One word for what the pages of an input depend on, whichever of them are read and however written."""
        return self.key(digest, "", f"{document.selection.dpi} dpi") if digest else ""

    def key(self, digest: str, format_: str, variant: str = "") -> str:
        """One word for an input that is read in this way and written in a format; see :meth:`InputFile.variant`."""
        reader = {"fingerprint": self.fingerprint, "encoder": self.encoder, "decoder": self.decoder}
        content = json.dumps([digest, format_, {**reader, **self.options}, *filter(None, [variant])], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class State(StrEnum):
    """The work that is left for a document."""

    TO_READ = "to read"
    DONE = "done"
    """An earlier run wrote its output in the same way."""
    DONE_ELSEWHERE = "done elsewhere"
    """Another run did, since this one began."""
    BUSY = "busy"
    """Another run reads it at this moment."""
    OTHERS = "others"
    """The path of its output has a file that dotsctl did not write, or that was changed since."""


class OutputEvents:
    """The events of results other than being written; each method may be overridden."""

    def keep_changed(self, path: str) -> None:
        """A file stays that dotsctl did not write, or that was changed since."""

    def lose(self, source: str, error: DotsctlError) -> None:
        """The result of one input could not be written, or not completely; the others continue."""

    def note(self, source: str, text: str) -> None:
        """There is something to know about the output of one input."""

    def read_elsewhere(self, pages: int) -> None:
        """Another run has read these pages of a document."""


@dataclass(frozen=True)
class WriteOptions:
    """The options of what a run may repeat, and the receiver of events."""

    force: bool = False
    """Read what is done."""
    overwrite: bool = False
    """Replace what dotsctl did not write."""
    events: OutputEvents = field(default_factory=OutputEvents)


DEFAULT = WriteOptions()


class Output(ABC):
    """The interface of the three kinds of output."""

    @abstractmethod
    def prepare(self) -> None:
        """See that the output can be written, before any work is done.

        Raises:
            OutputError: it cannot.
            UsageError: there is a file that dotsctl did not write.
        """

    def state(self, document: InputFile, reading: Reading) -> State:
        """Return what there is to do for a document. Raises OutputError."""
        return State.TO_READ

    def take(self, document: InputFile, reading: Reading) -> State:
        """Return what there is to do for a document; with ``TO_READ`` no other run reads it from now on.

        To be called before its pages are read. Raises OutputError.
        """
        return self.state(document, reading)

    def kept(self, page: PageInput) -> Page | None:
        """Return the page, if an interrupted run has read it; to be called after :meth:`take`. Raises OutputError."""
        return None

    def has_failed(self, document: InputFile) -> bool:
        """Return whether an earlier run failed on this document or a page of it. Raises UsageError: unknown."""
        raise UsageError("--retry-failed needs the folder of an earlier run", "name it with -o DIR/")

    @abstractmethod
    def add(self, page: Page) -> None:
        """Take a page, failed ones included. Raises OutputError where no document at all can be written."""

    @abstractmethod
    def finish(self, *, is_complete: bool = True) -> None:
        """Write what is still held; ``is_complete``: whether the run came to its end. Raises OutputError."""

    @abstractmethod
    def close(self) -> None:
        """Write nothing more, and let other runs have what this one has claimed."""
