"""The HTML tables of the model: as cells of text, and as HTML that is safe to show. Pure, and never an exception.

What the model writes may be cut, nested wrongly, or repeat itself for pages, so it is not parsed as HTML but taken as
a row of tags and words: tags that make a table are written anew, everything else becomes text, or nothing where
it is the inside of a script. Python's own parser takes minutes for 100 000 characters of broken tags.
"""

import re
from collections.abc import Iterator
from html import escape, unescape
from typing import NamedTuple

SECTIONS = ("thead", "tbody", "tfoot")
CELLS = ("td", "th")
INLINE = ("b", "i", "em", "strong", "sub", "sup", "u", "s", "br")
ALLOWED = frozenset(("table", "caption", "colgroup", "col", *SECTIONS, "tr", *CELLS, *INLINE))
WITHOUT_END = ("br", "col")
CLOSED_BY = {
    **dict.fromkeys(CELLS, CELLS),
    "tr": (*CELLS, "tr"),
    **dict.fromkeys(SECTIONS, (*CELLS, "tr", *SECTIONS)),
}
"""Tags whose beginning ends others, as models and people leave ends out."""
HIDDEN = ("script", "style")
DEEPEST = 60
"""Tags within tags that are shown; browsers have limits too."""
LARGEST_SPAN = 1000

TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*+)([^<>]*+)>")
SPAN = re.compile(r"""\b(colspan|rowspan)\s*+=\s*+["']?\s*+([0-9]{1,4})\b""", re.IGNORECASE)
TABLE = re.compile(r"<table\b", re.IGNORECASE)


class _Token(NamedTuple):
    """A tag, or words when it has no name."""

    name: str
    is_end: bool
    content: str
    """The words, their entities resolved; the attributes of a tag as they are written."""


def _tokens(html: str) -> Iterator[_Token]:
    """Tags and the words between them; scripts and comments are left out."""
    html = _without_comments(html)
    hidden = ""
    at = 0
    for found in TAG.finditer(html):
        words, name = html[at : found.start()], found[2].lower()
        at = found.end()
        if words and not hidden:
            yield _Token("", False, unescape(words))
        if hidden or name in HIDDEN:
            is_end = bool(found[1]) and name in (hidden, "")
            hidden = "" if is_end else hidden or ("" if found[1] else name)
        else:
            yield _Token(name, bool(found[1]), found[3])
    if html[at:] and not hidden:
        yield _Token("", False, unescape(html[at:]))


def _without_comments(html: str) -> str:
    parts = []
    at = 0
    while (start := html.find("<!--", at)) >= 0 and (end := html.find("-->", start)) >= 0:
        parts.append(html[at:start])
        at = end + len("-->")
    return "".join([*parts, html[at:]])


def table_text(html: str) -> str:
    """The words of a table: a line for each row, its cells separated by tabulators; words around are lines too."""
    rows: list[list[str]] = []
    where = ""  # "cell"; "row": between the cells of a row; "around": in a line made of words around the table
    for token in _tokens(html):
        if not token.name and (where in ("cell", "around") or token.content.strip()):
            if where not in ("cell", "around"):
                rows.append([""])
                where = "around"
            rows[-1][-1] += token.content
        elif token.name == "br" and where in ("cell", "around"):
            rows[-1][-1] += " "
        elif token.name in CELLS and not token.is_end:
            if where not in ("cell", "row"):
                rows.append([])
            rows[-1].append("")
            where = "cell"
        elif token.name in CELLS:
            where = "row" if where == "cell" else where
        elif token.name == "tr" and not token.is_end:
            rows.append([])
            where = "row"
        elif token.name in ("tr", "table"):
            where = ""
    return "\n".join("\t".join(" ".join(cell.split()) for cell in row) for row in rows if row)


def safe_table(html: str) -> str:
    """The table as HTML that cannot do anything but be shown: allowed tags with their spans, every one closed."""
    parts: list[str] = []
    opened: list[str] = []
    for token in _tokens(html):
        if not token.name:
            parts.append(escape(token.content))
        elif token.is_end and token.name in opened:
            _close(parts, opened, opened[::-1].index(token.name) + 1)
        elif token.name in ALLOWED and not token.is_end:
            _close(parts, opened, _ended_by(token.name, opened))
            if token.name in WITHOUT_END:
                parts.append(f"<{token.name}>")
            elif len(opened) < DEEPEST:
                parts.append(f"<{token.name}{_spans(token)}>")
                opened.append(token.name)
    _close(parts, opened, len(opened))
    return "".join(parts)


def _close(parts: list[str], opened: list[str], number: int) -> None:
    """End the innermost ``number`` tags."""
    parts += [f"</{opened.pop()}>" for _ in range(number)]


def _ended_by(name: str, opened: list[str]) -> int:
    """How many of the innermost tags this one ends; never the table that it is in."""
    ended = 0
    for depth, tag in enumerate(reversed(opened), start=1):
        if tag == "table":
            break
        if tag in CLOSED_BY.get(name, ()):
            ended = depth
    return ended


def _spans(token: _Token) -> str:
    """How many columns and rows a cell takes, where the number makes sense."""
    if token.name not in CELLS:
        return ""
    spans = {name.lower(): int(number) for name, number in SPAN.findall(token.content)}
    return "".join(f' {name}="{number}"' for name, number in spans.items() if 1 < number <= LARGEST_SPAN)


def is_table(text: str) -> bool:
    """Whether a text has an HTML table."""
    return TABLE.search(text) is not None
