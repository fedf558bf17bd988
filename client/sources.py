"""From the arguments of the command line to documents: files, folders, globs and standard input.

A document is one input of the user and becomes one output; it has one page or, as a PDF or TIFF, several. Folders are
walked in natural order (``page2`` before ``page10``), and every document knows the folder below which the tree of
outputs is mirrored.
"""

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from dotsctl.client.inputs import ALL, PageInput, pages_of_bytes, pages_of_file, shown
from dotsctl.client.pdf import SIGNATURE, SIGNATURE_WITHIN_BYTES
from dotsctl.client.selection import Selection
from dotsctl.protocol.errors import PageError

STDIN = "-"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PICTURE_SUFFIX = re.compile(
    r"\.(a?png|jpe|jpe?g|jfif|tiff?|pdf|bmp|dib|gif|webp|avif|hei[cf]|jp2|j2k|jpx|p[pgbn]m|tga)"
)
"""Endings, in lower case, by which a file in a folder is taken for a page."""

OF_RESULTS = re.compile(r"\.overlay\.png\Z|\.overlay/page-\d{4,}\.png\Z|/images/(?:\d{4,}-)?page-\d{4,}-\d{2,}\.png\Z")
"""Pictures that were written beside scans by ``writers.py``: a later run over the folder is not to read them."""


@dataclass(frozen=True)
class Document:
    """One input; its name is unique among those of one call."""

    name: str
    """As the user wrote it, or below the folder that the user wrote."""
    path: Path | None
    """None: it came from standard input, or it could not be found."""
    root: Path
    """The absolute folder that the user named, or that holds the file."""
    content: bytes = b""
    """What standard input held."""
    error: PageError | None = None
    selection: Selection = field(default=ALL, repr=False)

    def pages(self) -> Iterator[PageInput]:
        """The pages, lazily; what cannot be read is a page with ``error``."""
        if self.error is not None:
            yield PageInput(self.name, self.path, error=self.error)
        elif self.path is not None:
            yield from pages_of_file(self.path, self.name, self.selection)
        else:
            yield from pages_of_bytes(self.content, self.name, self.selection)

    def digest(self) -> str:
        """sha256 of the input's bytes, hexadecimal; empty when it cannot be read."""
        if self.path is None:
            return hashlib.sha256(self.content).hexdigest()
        try:
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, ValueError):
            return ""  # its page says why, when it is read

    def variant(self) -> str:
        """What was chosen that its text depends on; empty for a picture, and when all of a TIFF is read."""
        start = self.content[:SIGNATURE_WITHIN_BYTES]
        try:
            if self.path is not None:
                with self.path.open("rb") as stream:
                    start = stream.read(SIGNATURE_WITHIN_BYTES)
        except (OSError, ValueError):
            return ""  # as above
        is_pdf = SIGNATURE in start
        pages = self.selection.pages if is_pdf or start.startswith(TIFF_SIGNATURES) else None
        return " ".join([*([f"pages {pages}"] if pages else []), *([f"{self.selection.dpi} dpi"] if is_pdf else [])])


def expand(arguments: Sequence[str], stdin: IO[bytes], selection: Selection = ALL) -> Iterator[Document]:
    """The documents that the arguments name, in their order, each once.

    Args:
        arguments: paths of files and folders, globs (also with ``**``), ``-`` for standard input.
        stdin: read to its end when ``-`` is met.
        selection: which pages of a PDF or TIFF, and how they are rendered.
    """
    seen: set[str] = set()
    for argument in arguments:
        for document in _expand_one(argument, stdin):
            identity = os.path.realpath(document.path) if document.path is not None else document.name
            if identity not in seen:
                seen.add(identity)
                yield replace(document, selection=selection)


def _expand_one(argument: str, stdin: IO[bytes]) -> Iterator[Document]:
    here = Path.cwd()
    if argument == STDIN:
        yield Document(STDIN, None, here, stdin.read())
    elif not argument:
        yield Document("''", None, here, error=PageError("an empty name was given: name a picture or a folder"))
    elif (path := Path(argument)).is_dir():
        yield from _folder(path)
    elif not os.path.lexists(argument) and glob.has_magic(argument):
        yield from _matches(argument)
    else:
        yield Document(shown(path), path, absolute(path.parent))


def absolute(path: Path) -> Path:
    """An absolute path without ``..``, but with symbolic links as the user sees them."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps the dots


def _folder(folder: Path) -> Iterator[Document]:
    """The pictures in a folder and below, but for those of earlier results.

    Hidden ones are left out, as ``._scan.png`` of macOS is no picture.
    """
    found = False
    unread: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural)
        for name in sorted(names, key=natural):
            path = Path(parent, name)
            if looks_like_picture(path) and not name.startswith(".") and not OF_RESULTS.search(path.as_posix()):
                found = True
                yield Document(shown(path), path, absolute(folder))
    for problem in unread:
        found = True
        reason = PageError(f"the folder cannot be listed: {problem.strerror}; change its permissions")
        yield Document(shown(problem.filename), None, absolute(folder), error=reason)
    if not found:
        reason = PageError("there is no picture in this folder: name one with .png, .jpg, .tif or .pdf files in it")
        yield Document(shown(folder), None, absolute(folder), error=reason)


def _matches(pattern: str) -> Iterator[Document]:
    """What a quoted glob matches: pictures, or whatever there is when none of it looks like a picture."""
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    paths = [Path(match) for match in sorted(matches, key=natural)]
    files = [path for path in paths if path.is_file()]
    root = absolute(_fixed_part(pattern))
    chosen = [path for path in files if looks_like_picture(path)] or files
    for path in chosen:
        yield Document(shown(path), path, root)
    if chosen:
        return
    for path in paths:
        yield from _folder(path)
    if not paths:
        reason = PageError("no file matches this pattern: check it, and the folder you are in")
        yield Document(shown(pattern), None, root, error=reason)


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part of a pattern that has a wildcard."""
    fixed = Path()
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def looks_like_picture(path: Path) -> bool:
    """Whether the ending is that of a picture, in whatever case."""
    return PICTURE_SUFFIX.fullmatch(path.suffix.lower()) is not None


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key: numbers by value, letters without regard to case; the name itself decides between equals."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part.casefold()) for part in parts], name
