"""The probable text of pages, as the caller gives it: a source of hints, texts in files, one text, a function.

A hint changes how long a page takes, never its result. So what does not fit is left out: a text is cut at the limit of
a message, and a page without a file has no hint.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.file_names import shown
from dotsctl.protocol.model.files import open_regular
from dotsctl.protocol.page_geometry import Box
from dotsctl.protocol.page_hint import MAX_HINT_BYTES, HintBlock, PageHint

if TYPE_CHECKING:
    from dotsctl.client.inputs.pages import PageInput
else:
    PageInput = Any  # help needs the options alone, and pages import what opens files

AUTO = "auto"
NONE = "none"
PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
PAGE_END = "\f"
"""The end of a page in the output of pdftotext."""
MOST_BYTES = 64 << 20
"""Most bytes of a file of texts that are read."""

HintOption: TypeAlias = str | os.PathLike[str] | PageHint | Callable[[PageInput], str | PageHint | None] | None
"""``auto``, ``none``, the name of a plugin, the path of a file or a folder, a text, a hint, or a function of a page."""
HintOfPage = Callable[[PageInput], PageHint | None]


@dataclass(frozen=True)
class HintChoice:
    """The way in which the pages of one call get their hints."""

    document: str = ""
    """Name of the plugin that reads documents for them; ``auto``: the first that can run here; empty: none does."""
    side: str = ""
    """Name of the plugin that reads the pixels of pages without one, likewise."""
    given: HintOfPage | None = None
    """Returns the caller's own hint of a page; none: there is no such."""

    @classmethod
    def of(cls, option: object) -> "HintChoice":
        """Return what a :data:`HintOption` means.

        Raises:
            UsageError: it is no such, or a file cannot be read.
            MissingError: the plugin cannot run here.
            CommandFailedError: the plugin cannot be imported.
        """
        match option:
            case None | "none" | "":
                return cls()
            case "auto":
                return cls(AUTO, AUTO)
            case PageHint():
                return cls(given=lambda _: option)
            case str() if is_plugin(option):
                return cls(document=option) if _reads_document(option) else cls(side=option)
            case str():
                hint = hint_of_text(option)
                return cls(given=lambda _: hint)
            case os.PathLike():
                return cls(given=_hints_in(Path(option)))
            case _ if callable(option):
                return cls(given=lambda page: _as_hint(option(page)))
        kind = type(option).__name__
        raise UsageError(
            f"{kind} is not a hint", "give 'auto', 'none', a path, a text, a PageHint or a function of a page"
        )


def hint_argument(argument: str) -> str | Path:
    """Return the option that an argument of the command line names. Raises UsageError for a missing file."""
    if argument in (AUTO, NONE) or is_plugin(argument):
        return argument
    path = Path(argument)
    if not path.exists():
        raise UsageError(
            f"--hint {shown(argument)}: there is no such file, folder or plugin",
            f"give {AUTO}, {NONE}, a file, a folder, or one of {', '.join(_plugins())}",
        )
    return path


def is_plugin(text: str) -> bool:
    """Return whether a text is the name of a hint plugin that is installed."""
    return PLUGIN_NAME.fullmatch(text) is not None and text in _plugins()


def hint_of_text(text: str) -> PageHint | None:
    """The hint of a text, whose paragraphs have blank lines between them; none: it is empty."""
    from dotsctl.protocol.render.text_blocks import joined, limited

    paragraphs = re.split(r"\n\s*\n", text[:MAX_HINT_BYTES])
    return limited((HintBlock(joined(paragraph.splitlines())) for paragraph in paragraphs), None, "")


def hint_in_box(hint: PageHint, box: Box, size: tuple[int, int]) -> PageHint:
    """The part of a hint in one box of its page; all of it where no block has a place there.

    Args:
        hint: of the page.
        box: x0, y0, x1, y1 in pixels of the page as viewers show it.
        size: width and height of the page in these pixels.
    """
    if hint.size is None:
        return hint
    scale_x, scale_y = size[0] / hint.size[0], size[1] / hint.size[1]
    inside = tuple(
        block
        for block in hint.blocks
        if block.box is not None
        and box[0] <= (block.box[0] + block.box[2]) / 2 * scale_x <= box[2]
        and box[1] <= (block.box[1] + block.box[3]) / 2 * scale_y <= box[3]
    )
    return PageHint(inside, hint.size, hint.source) if inside else hint


def _reads_document(name: str) -> bool:
    """Return whether a plugin reads documents, and not pixels. Raises MissingError where it cannot run here."""
    from dotsctl.protocol.worker.plugins import HINT, find_plugin

    plugin = find_plugin(HINT, name)
    if reason := plugin.unavailable({}):
        raise MissingError(f"the hint plugin {name!r} cannot run here: {reason}")
    return plugin.description.reads_document


def _plugins() -> list[str]:
    from dotsctl.protocol.worker.plugins import HINT, installed

    return installed(HINT)


def _as_hint(found: object) -> PageHint | None:
    """Return what a function of the caller returned as a hint. Raises UsageError."""
    match found:
        case None | PageHint():
            return found
        case str():
            return hint_of_text(found)
    raise UsageError(f"the function of hint= returned a {type(found).__name__}", "return a text, a PageHint or None")


def _hints_in(path: Path) -> HintOfPage:
    """Return the hints that a file or a folder holds. Raises UsageError where it cannot be read."""
    read = lru_cache(maxsize=4)(_pages_in)
    try:
        if path.is_dir():
            with os.scandir(path):
                return lambda page: _hint_in_folder(path, page, read)
        open_regular(path).close()
    except OSError as error:
        raise UsageError(f"hint {shown(path)} cannot be read: {error.strerror}", "name a text or a folder") from None
    return lambda page: _hint_of_page(read(path), page)


def _hint_in_folder(folder: Path, page: PageInput, read: Callable[[Path], list[str]]) -> PageHint | None:
    """The hint of a page in ``STEM-N.txt``, else in ``STEM.txt`` by the stem of its source."""
    stem = Path(page.source).stem
    if alone := read(folder / f"{stem}-{page.page}.txt"):
        return hint_of_text(PAGE_END.join(alone))
    return _hint_of_page(read(folder / f"{stem}.txt"), page)


def _hint_of_page(pages: list[str], page: PageInput) -> PageHint | None:
    """The hint of a page in a text that has form feeds between pages; one without is the hint of every page."""
    if len(pages) == 1:
        return hint_of_text(pages[0])
    return hint_of_text(pages[page.page - 1]) if page.page <= len(pages) else None


def _pages_in(path: Path) -> list[str]:
    """The texts of the pages in a file; none: there is no such file, or it cannot be read."""
    try:
        with open_regular(path) as stream:
            content = stream.read(MOST_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:  # a hint that cannot be read must not end the run
        return []
    return content.split(PAGE_END)
