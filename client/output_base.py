"""What all outputs have in common, and what a result depends on."""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass

from dotsctl.client.inputs import PageInput
from dotsctl.client.records import Page
from dotsctl.client.sources import Document
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import Box


@dataclass(frozen=True, slots=True)
class Reading:
    """What a result depends on besides the input."""

    fingerprint: str
    encoder: str
    decoder: str
    task: str
    prompt: str | None = None
    box: Box | None = None
    max_tokens: int | None = None
    max_pixels: int | None = None
    check_blank: bool = True
    reread: bool = True
    quality: str | None = None
    """The quality that the user asked for; none: the one that was chosen for each page."""

    def page_key(self, digest: str, document: Document) -> str:
        """One word for what the pages of an input depend on, whichever of them are read and however written."""
        return self.key(digest, "", f"{document.selection.dpi} dpi") if digest else ""

    def key(self, digest: str, format_: str, variant: str = "") -> str:
        """One word for an input that is read in this way and written in a format; see :meth:`Document.variant`."""
        content = json.dumps([digest, format_, asdict(self), *filter(None, [variant])], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class Output(ABC):
    """What the three kinds of output have in common."""

    @abstractmethod
    def prepare(self) -> None:
        """See that the output can be written, before any work is done. Raises OutputError."""

    def is_done(self, document: Document, reading: Reading) -> bool:
        """Whether an earlier run wrote this document; to be asked before its pages are read."""
        return False

    def kept(self, page: PageInput) -> Page | None:
        """The page, if a run that broke off has read it; to be asked after :meth:`is_done`. Raises OutputError."""
        return None

    def has_failed(self, document: Document) -> bool:
        """Whether an earlier run could not read this document, or a page of it. Raises UsageError: nothing is known."""
        raise UsageError("--retry-failed needs the folder of an earlier run: say which with -o DIR/")

    @abstractmethod
    def add(self, page: Page) -> None:
        """Take a page, failed ones included. Raises OutputError."""

    @abstractmethod
    def finish(self, *, is_whole: bool = True) -> None:
        """Write what is still held; ``is_whole`` tells that the run came to its end. Raises OutputError."""
