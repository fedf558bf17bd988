"""Renders the model's text as Markdown that can do nothing but be shown. Pure.

Markdown takes HTML as it is, so a scan with a script on it, or a model that makes one up, would reach the browser of
whoever opens the text. Tables go through :func:`~dotsctl.client.results.tables.safe_table` where they have more than
tables need; other tags show as plain text, as ``ping <host>`` does. Code and formulas are never touched.
"""

import re

from dotsctl.client.results.tables import ALLOWED, INLINE, TAG, safe_table

LITERAL = re.compile(
    r"(?<!`)(`++)(?!`)(?:.{0,4000}?[^`])?\1(?!`)|(?<![\\$])\$[^$]{1,2000}+\$|\\\(.{0,2000}?\\\)|\\\[.{0,2000}?\\\]",
    re.DOTALL,
)
"""Code and formulas, in which signs are meant as they are."""
MARKUP = re.compile(r"<(?=/?[A-Za-z][A-Za-z0-9-]*+(?:[\s/][^<>]*+)?>|!|\?)")
"""The beginning of a tag, a comment or a declaration; addresses as ``<https://...>`` and ``<a@b.org>`` are none."""
PLAIN_TAG = re.compile(rf"<(?:/?(?:{'|'.join(INLINE)})\s*+/?)>", re.IGNORECASE)
ACTIVE_LINK = re.compile(
    r"(\]\(\s*+<?|<|^\s{0,3}\[[^\]\n]{1,200}+\]:\s*+<?)(?:javascript|vbscript|data)\s*+:", re.IGNORECASE | re.MULTILINE
)
ATTRIBUTE_NAMES = "colspan|rowspan|border|class|align|valign|scope|width"
HARMLESS_ATTRIBUTES = re.compile(
    rf"""(?:\s++(?:{ATTRIBUTE_NAMES})\s*+=\s*+(?:"[\w %-]*+"|'[\w %-]*+'|[\w%]++))*+\s*+/?""", re.IGNORECASE
)


def safe_text(text: str) -> str:
    """Return text whose tags, but for those of bold, italic and line breaks, are shown as words."""
    parts: list[str] = []
    at = 0
    for literal in LITERAL.finditer(text):
        parts += [_safe(text[at : literal.start()]), literal[0]]
        at = literal.end()
    return "".join([*parts, _safe(text[at:])])


def _safe(text: str) -> str:
    kept = ACTIVE_LINK.sub(r"\1unsafe:", text)
    return MARKUP.sub(lambda found: "<" if PLAIN_TAG.match(kept, found.start()) else "&lt;", kept)


def safe_html_table(html: str) -> str:
    """Return a table as it was written where it has nothing but a table in it, else written anew."""
    is_plain = "<!" not in html and all(
        tag[2].lower() in ALLOWED and HARMLESS_ATTRIBUTES.fullmatch(tag[3]) for tag in TAG.finditer(html)
    )
    return html if is_plain and html.count("<") == len(TAG.findall(html)) else safe_table(html)
