"""Documents from the arguments of the command line: files, folders, globs and standard input.

A document is one input of the user and becomes one output; it has one page or, as a PDF or TIFF, several. Folders are
walked in natural order (``page2`` before ``page10``), and every document has the folder below which the tree of
outputs is mirrored.
"""

import functools
import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from dotsctl.client.inputs.downloads import DOWNLOADS
from dotsctl.client.inputs.pages import ALL, PageInput, pages_of_bytes, pages_of_file
from dotsctl.client.inputs.selection import Selection
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.model.file_names import shown
from dotsctl.protocol.model.files import open_regular
from dotsctl.protocol.parts import MAX_FILE_BYTES
from dotsctl.protocol.render.opening import SIGNATURE, SIGNATURE_WITHIN_BYTES, privacy_remedy

STDIN = "-"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PICTURE_SUFFIX = re.compile(
    r"\.(a?png|jpe|jpe?g|jfif|tiff?|pdf|bmp|dib|gif|webp|avif|hei[cf]|jp2|j2k|jpx|p[pgbn]m|tga)"
)
"""Endings, in lower case, by which a file in a folder is considered a page."""

OF_RESULTS = re.compile(
    r"\.searchable\.pdf\Z|\.overlay\.png\Z|\.overlay/page-\d{4,}\.png\Z|/images/(?:\d{4,}-)?page-\d{4,}-\d{2,}\.png\Z"
)
"""Pictures that formats write next to scans (``formats/``): a later run over the folder does not read
them."""


@dataclass(frozen=True)
class InputFile:
    """One input, a file or what standard input held; its name is unique among those of one call."""

    name: str
    """The path as the user wrote it, or below the folder that the user wrote."""
    path: Path | None
    """The path; none: it came from standard input, or it could not be found."""
    root: Path
    """The absolute folder that the user named, or that holds the file."""
    content: bytes = b""
    """The content of standard input."""
    error: PageError | None = None
    selection: Selection = field(default=ALL, repr=False)
    _digests: dict[tuple[int, ...], str] = field(default_factory=dict, repr=False, compare=False)
    """The digest by what the system reports of the file, so that it is hashed once as long as it does not change."""

    _download: list[PageError | None] = field(default_factory=list, repr=False, compare=False)
    """The outcome of its download, once it is on this disk or cannot be downloaded."""

    @functools.cached_property
    def place(self) -> Path | None:
        """The absolute path as :func:`absolute` returns it; none: it has no path. Raises UsageError."""
        return absolute(self.path) if self.path is not None else None

    def pages(self) -> Iterator[PageInput]:
        """The pages, lazily; what cannot be read is a page with ``error``.

        Raises:
            RenderingStoppedError: the owner stopped the rendering, while the file is downloaded from its cloud.
        """
        if error := self.error or self._not_downloaded():
            yield PageInput(self.name, self.path, error=error)
        elif self.path is not None:
            yield from pages_of_file(self.path, self.name, self.selection)
        else:
            yield from pages_of_bytes(self.content, self.name, self.selection)

    def digest(self) -> str:
        """sha256 of the input's bytes, hexadecimal; empty when it cannot be read."""
        if self.path is None:
            return hashlib.sha256(self.content).hexdigest()
        if self._not_downloaded():
            return ""
        try:
            with open_regular(self.path) as stream:
                found = os.fstat(stream.fileno())
                stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                if stamp not in self._digests:
                    self._digests[stamp] = hashlib.file_digest(stream, "sha256").hexdigest()
                return self._digests[stamp]
        except (OSError, ValueError):
            return ""  # its page reports why, when it is read

    def _not_downloaded(self) -> PageError | None:
        """Download the file where a cloud keeps it; the reason why that failed, or none."""
        if not self._download and self.path is not None:
            try:
                DOWNLOADS.fetch(self.path)
                self._download.append(None)
            except PageError as error:
                self._download.append(error)
        return self._download[0] if self._download else None

    def variant(self) -> str:
        """Return the choices that its text depends on; empty for a picture, and when all of a TIFF is read."""
        start = self.content[:SIGNATURE_WITHIN_BYTES]
        try:
            if self.path is not None and not self._not_downloaded():
                with open_regular(self.path) as stream:
                    start = stream.read(SIGNATURE_WITHIN_BYTES)
        except (OSError, ValueError):
            return ""  # as above
        is_pdf = SIGNATURE in start
        pages = self.selection.pages if is_pdf or start.startswith(TIFF_SIGNATURES) else None
        return " ".join([*([f"pages {pages}"] if pages else []), *([f"{self.selection.dpi} dpi"] if is_pdf else [])])


@dataclass
class LeftOut:
    """Files and folders that are not read because links lead to them."""

    again: list[tuple[str, str]] = field(default_factory=list)
    """Names of files, and the name under which the same file is read."""
    folders: list[str] = field(default_factory=list)
    """Symbolic links to folders, below the folders that were named."""

    def lines(self) -> Iterator[str]:
        """Sentences for the user; each names the first of its kind."""
        if self.again:
            (name, first), more = self.again[0], _more(self.again)
            yield f"{name}{more}: the same file under another name; it is read once, as {first}"
        if self.folders:
            more = _more(self.folders)
            yield f"{self.folders[0]}{more}: links to folders are not followed; name the folder to read it"


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def expand(
    arguments: Sequence[str], stdin: IO[bytes], selection: Selection = ALL, left_out: LeftOut | None = None
) -> Iterator[InputFile]:
    """The documents that the arguments name, in their order, each once.

    Args:
        arguments: paths of files and folders, globs (also with ``**``), ``-`` for standard input.
        stdin: read to its end when ``-`` is met; more than 256 MiB is an error of that input.
        selection: which pages of a PDF or TIFF, and how they are rendered.
        left_out: gets what is not read because of links.
    """
    seen: dict[str, str] = {}
    left_out = left_out or LeftOut()
    for argument in arguments:
        standard = [_read_all(InputFile(STDIN, None, here()), stdin)] if argument == STDIN else None
        for document in standard or files_named(argument, left_out):
            identity = os.path.realpath(document.path) if document.path is not None else document.name
            if identity not in seen:
                seen[identity] = document.name
                yield replace(document, selection=selection)
            elif seen[identity] != document.name:
                left_out.again.append((document.name, seen[identity]))


def expected(documents: Sequence[InputFile]) -> list[int]:
    """Note that documents will be read in this order; those that a cloud keeps elsewhere are downloaded in time.

    Returns:
        The size in bytes of each document that must be downloaded.
    """
    return DOWNLOADS.expect(document.path for document in documents if document.path is not None)


def files_named(argument: str, left_out: LeftOut | None = None) -> Iterator[InputFile]:
    """The files that a path or a glob names; those in a folder in natural order. ``left_out``: see :func:`expand`."""
    left_out = left_out or LeftOut()
    if not argument:
        reason = PageError("an empty name was given", "name a picture or a folder")
        yield InputFile("''", None, here(), error=reason)
    elif os.path.isdir(path := Path(argument)):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        yield from _folder(path, left_out)
    elif not os.path.lexists(argument) and glob.has_magic(argument):
        yield from _matches(argument, left_out)
    elif _is_piped(path):
        yield _read_pipe(path)
    else:
        yield InputFile(shown(path), path, absolute(path.parent))


def _is_piped(path: Path) -> bool:
    """Return whether a path is read once and to its end, as ``<(command)`` is."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False  # its page reports why, when it is read
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _read_pipe(path: Path) -> InputFile:
    """A FIFO or a device that the user named, read now as standard input is; it may have no end."""
    origin = InputFile(shown(path), None, absolute(path.parent))
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY), "rb") as stream:
            return _read_all(origin, stream)
    except OSError as error:
        return replace(origin, error=_unreadable(error))


def _unreadable(error: OSError) -> PageError:
    return PageError(f"this cannot be read: {error.strerror}", "name a file")


def _read_all(origin: InputFile, stream: IO[bytes]) -> InputFile:
    """An input with all that a stream holds, or why it cannot be read; the stream may have no end."""
    try:
        content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return replace(origin, error=_unreadable(error))
    if len(content) > MAX_FILE_BYTES:
        reason = f"this is not a regular file, and it holds more than {MAX_FILE_BYTES >> 20} MiB"
        return replace(origin, error=PageError(reason, "save it to a file and name the file"))
    return replace(origin, content=content)


def absolute(path: Path) -> Path:
    """An absolute path without ``..``, but with symbolic links as the user sees them. Raises UsageError."""
    return Path(os.path.normpath(path if path.is_absolute() else here() / path))


def here() -> Path:
    """The current folder. Raises UsageError when it was removed."""
    try:
        return Path.cwd()
    except OSError as error:
        problem = f"the current folder cannot be used: {error.strerror}"
        raise UsageError(problem, "change to a folder that exists, as with cd ~") from None


def _folder(folder: Path, left_out: LeftOut) -> Iterator[InputFile]:
    """The pictures in a folder and below, but for those of earlier results.

    Hidden ones are left out, as ``._scan.png`` of macOS is no picture.
    """
    found, root = False, absolute(folder)
    unread: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural)
        left_out.folders += [shown(path) for name in folders if (path := Path(parent, name)).is_symlink()]
        for name in sorted(names, key=natural):
            path = Path(parent, name)
            if looks_like_picture(path) and not name.startswith(".") and not OF_RESULTS.search(path.as_posix()):
                found = True
                yield InputFile(shown(path), path, root)
    for problem in unread:
        found = True
        remedy = privacy_remedy(problem) or "change its permissions"
        reason = PageError(f"the folder cannot be listed: {problem.strerror}", remedy)
        yield InputFile(shown(problem.filename), None, root, error=reason)
    if not found:
        reason = PageError("there is no picture in this folder", "name one with .png, .jpg, .tif or .pdf files in it")
        yield InputFile(shown(folder), None, root, error=reason)


def _matches(pattern: str, left_out: LeftOut) -> Iterator[InputFile]:
    """Yield what a quoted glob matches: pictures, or all files when none of them has the name of a picture."""
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    paths = [Path(match) for match in sorted(matches, key=natural)]
    files = [path for path in paths if path.is_file()]
    root = absolute(_fixed_part(pattern))
    pictures = [path for path in files if looks_like_picture(path)]
    chosen = [path for path in pictures if not OF_RESULTS.search(path.as_posix())] or pictures or files
    for path in chosen:
        yield InputFile(shown(path), path, root)
    if chosen:
        return
    for path in paths:
        yield from _folder(path, left_out)
    if not paths:
        reason = PageError("no file matches this pattern", "check it, and the folder you are in")
        yield InputFile(shown(pattern), None, root, error=reason)


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part of a pattern that has a wildcard."""
    fixed = Path()
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def looks_like_picture(path: Path) -> bool:
    """Return whether the ending is that of a picture, in any case."""
    return PICTURE_SUFFIX.fullmatch(path.suffix.lower()) is not None


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key: numbers by value, letters without regard to case; the name itself decides between equals."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part.casefold()) for part in parts], name
