"""Formulas as the model writes them, brought into the one form that Markdown readers agree on: a ``$$`` block. Pure."""

import re

from dotsctl.client.cell_repair import COMMANDS

MARK = re.compile(r"\\[A-Za-z\\]|[\^_]")
"""What LaTeX has and a formula of plain characters has not."""
DELIMITED = re.compile(r"\$\$(.*)\$\$|\\\[(.*)\\\]|\\\((.*)\\\)|\$(.*)\$", re.DOTALL)
DELIMITER = re.compile(r"(?<!\\)\$|(?<!\\)\\[\[\]()]")
FENCED = re.compile(r"(`++)(?:\w*+\n)?([^`]*+)(`++)")
DOCUMENT = (r"\begin{document}", r"\end{document}")
PLAIN_ENVIRONMENT = re.compile(r"\\begin\{(equation|displaymath|math)(\*?)\}(.*)\\end\{\1\2\}", re.DOTALL)
"""Environments that say the same as ``$$``."""
OWN_MODE = re.compile(r"\\(begin|end)\{(align|gather)\*?\}")
"""Environments that are no part of a formula but formulas themselves, and so not allowed within ``$$``."""
BLANK_LINES = re.compile(r"\n(?:[ \t]*+\n)++")
CONTROL = re.compile("([\b\f\n\r\t])([A-Za-z]+)")
LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
AFTER_LINE_BREAK = {"nabla", "neq", "notin", "nexists"}
"""Commands that cannot be a line break and a word: a formula has line breaks, and no words such as 'abla'."""


def formula_body(text: str) -> str | None:
    """The LaTeX of a formula without delimiters; none when it is no LaTeX, or has delimiters of its own within."""
    body = _with_commands(text).strip()
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


def _with_commands(text: str) -> str:
    """Give commands their backslash back where JSON took it, with their first letter, for a control character.

    A model that writes one backslash where JSON needs two makes a form feed of the beginning of ``\\frac``. The cell
    keeps what the JSON says; a formula never has such characters.
    """

    def command(found: re.Match[str]) -> str:
        word = LETTERS[found[1]] + found[2]
        is_command = word[0] in "bf" or word in (AFTER_LINE_BREAK if word[0] == "n" else COMMANDS)
        return f"\\{word}" if is_command else found[0]

    return CONTROL.sub(command, text)
