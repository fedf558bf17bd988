"""Formulas as the model writes them, in the one form that all Markdown readers support: a ``$$`` block. Pure."""

import re

MARK = re.compile(r"\\[A-Za-z\\]|[\^_]")
"""The marks of LaTeX that a formula of plain characters has not."""
DELIMITED = re.compile(r"\$\$(.*)\$\$|\\\[(.*)\\\]|\\\((.*)\\\)|\$(.*)\$", re.DOTALL)
DELIMITER = re.compile(r"(?<!\\)\$|(?<!\\)\\[\[\]()]")
FENCED = re.compile(r"(`++)(?:\w*+\n)?([^`]*+)(`++)")
DOCUMENT = (r"\begin{document}", r"\end{document}")
PLAIN_ENVIRONMENT = re.compile(r"\\begin\{(equation|displaymath|math)(\*?)\}(.*)\\end\{\1\2\}", re.DOTALL)
"""Environments that mean the same as ``$$``."""
OWN_MODE = re.compile(r"\\(begin|end)\{(align|gather)\*?\}")
"""Environments that are no part of a formula but formulas themselves, and so not allowed within ``$$``."""
BLANK_LINES = re.compile(r"\n(?:[ \t]*+\n)++")


def formula_body(text: str) -> str | None:
    """The LaTeX of a formula without delimiters; none when it is no LaTeX, or has delimiters of its own within."""
    body = text.strip()
    if (fenced := FENCED.fullmatch(body)) and fenced[1] == fenced[3]:
        body = fenced[2].strip()
    if all(mark in body for mark in DOCUMENT):
        body = body.partition(DOCUMENT[0])[2].rpartition(DOCUMENT[1])[0].strip()
    is_marked = False
    if found := DELIMITED.fullmatch(body):
        inner = next(group for group in found.groups() if group is not None).strip()
        is_marked = not DELIMITER.search(inner)
        body = inner if is_marked else body
    if not body or DELIMITER.search(body) or not (is_marked or MARK.search(body)):
        return None
    if plain := PLAIN_ENVIRONMENT.fullmatch(body):
        body = plain[3].strip()
    return BLANK_LINES.sub("\n", OWN_MODE.sub(r"\\\1{\2ed}", body))


def formula_block(text: str) -> str:
    """A formula as a block of Markdown; what is no LaTeX stays as it is."""
    body = formula_body(text)
    return text.strip() if body is None else f"$$\n{body}\n$$"
