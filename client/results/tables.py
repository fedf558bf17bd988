"""The HTML tables of the model: as cells of text, and as HTML that is safe to show. Pure, and never an exception.

What the model writes may be cut, nested wrongly, or repeat itself for pages, so it is not parsed as HTML but taken as
a row of tags and text: tags that make a table are written anew, everything else becomes text, or nothing where
it is the inside of a script. Python's own parser takes minutes for 100 000 characters of broken tags.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape, unescape
from typing import NamedTuple

SECTIONS = ("thead", "tbody", "tfoot")
CELLS = ("td", "th")
INLINE = ("b", "i", "em", "strong", "sub", "sup", "u", "s", "br")
ALLOWED = frozenset(("table", "caption", "colgroup", "col", *SECTIONS, "tr", *CELLS, *INLINE))
OTHERS = """
    a abbr address area article aside audio base bdi bdo big blink blockquote body button canvas center cite code data
    datalist dd del details dfn dialog dir div dl dt embed fieldset figcaption figure font footer form frame frameset
    h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input ins kbd label legend li link main map mark marquee
    math menu meta meter nav nobr noscript object ol optgroup option output p param picture pre progress q rp rt ruby
    samp script search section select slot small source span strike style summary svg template textarea time title
    track tt ul var video wbr
"""
HTML_NAMES = ALLOWED | frozenset(OTHERS.split())
"""Tags of HTML. Other words in angle brackets are text, as ``ping <host>`` and ``List<String>``."""
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
MOST_COLUMNS = 1000
"""Columns behind which spans are ignored; a table has fewer, a damaged answer does not."""

TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*+)([^<>]*+)>")
ATTRIBUTES = re.compile(
    r"""(?:\s++[A-Za-z_:@][\w:.-]*+\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s"'=<>`]++)|\s++(?:nowrap|hidden|disabled|checked|open))*+"""
    r"""\s*+/?""",
    re.IGNORECASE,
)
"""The text that may follow the name of a tag; ``<b and c>`` is no tag."""
SPAN = re.compile(r"""\b(colspan|rowspan)\s*+=\s*+["']?\s*+([0-9]{1,4})\b""", re.IGNORECASE)
TABLE = re.compile(r"<table\b", re.IGNORECASE)


class _Token(NamedTuple):
    """A tag, or text when it has no name."""

    name: str
    is_end: bool
    content: str
    """The text, its entities resolved; the attributes of a tag as they are written."""


@dataclass
class _Written:
    """A cell of a table, or a piece of text around it."""

    text: str = ""
    columns: int = 1
    """0: a piece of text around."""
    rows: int = 1


def _tokens(html: str) -> Iterator[_Token]:
    """Tags and the text between them; scripts and comments are left out."""
    html = _without_comments(html)
    hidden = ""
    at = 0
    for found in TAG.finditer(html):
        name = found[2].lower()
        if name not in HTML_NAMES or not ATTRIBUTES.fullmatch(found[3]):
            continue
        text = html[at : found.start()]
        at = found.end()
        if text and not hidden:
            yield _Token("", False, unescape(text))
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
    """Return the text of a table: a line for each row, its cells separated by tabulators; text around it as lines.

    A cell that spans columns or rows has its text in the first of their places; the others are empty.
    """
    rows: list[list[_Written]] = []
    where = ""  # "cell"; "row": between the cells of a row; "around": in a line made of text around the table
    for token in _tokens(html):
        if not token.name and (where in ("cell", "around") or token.content.strip()):
            if where not in ("cell", "around"):
                rows.append([_Written(columns=0)])
                where = "around"
            rows[-1][-1].text += token.content
        elif token.name == "br" and where in ("cell", "around"):
            rows[-1][-1].text += " "
        elif token.name in CELLS and not token.is_end:
            if where not in ("cell", "row"):
                rows.append([])
            spans = _span_sizes(token)
            rows[-1].append(_Written(columns=spans.get("colspan", 1), rows=spans.get("rowspan", 1)))
            where = "cell"
        elif token.name in CELLS:
            where = "row" if where == "cell" else where
        elif token.name == "tr" and not token.is_end:
            rows.append([])
            where = "row"
        elif token.name in ("tr", "table"):
            where = ""
    return "\n".join(_lines([row for row in rows if row]))


def _lines(rows: list[list[_Written]]) -> Iterator[str]:
    """Rows of cells as lines, each cell in its column."""
    taken: dict[int, int] = {}  # column -> rows that a cell above still reaches into
    for row in rows:
        if row[0].columns == 0:
            taken = {}
        columns: dict[int, str] = {}
        reached = {column: left - 1 for column, left in taken.items() if left > 1}
        at = 0
        for cell in row:
            while at in taken:
                at += 1
            columns[at] = " ".join(cell.text.split())
            width = min(cell.columns, max(1, MOST_COLUMNS - at))
            if cell.rows > 1:
                reached |= dict.fromkeys(range(at, at + width), cell.rows - 1)
            at += width
        yield "\t".join(columns.get(column, "") for column in range(max(columns) + 1))
        taken = reached


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
    """Return how many of the innermost tags this one ends; never the table that it is in."""
    ended = 0
    for depth, tag in enumerate(reversed(opened), start=1):
        if tag == "table":
            break
        if tag in CLOSED_BY.get(name, ()):
            ended = depth
    return ended


def _spans(token: _Token) -> str:
    """Return how many columns and rows a cell takes, where the number makes sense."""
    if token.name not in CELLS:
        return ""
    return "".join(f' {name}="{number}"' for name, number in _span_sizes(token).items())


def _span_sizes(token: _Token) -> dict[str, int]:
    spans = {name.lower(): int(number) for name, number in SPAN.findall(token.content)}
    return {name: number for name, number in spans.items() if 1 < number <= LARGEST_SPAN}


def is_table(text: str) -> bool:
    """Return whether a text has an HTML table."""
    return TABLE.search(text) is not None
