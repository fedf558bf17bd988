"""Reading a cell that is no valid JSON: what the model meant, without touching a character that it wrote. Pure.

A general repairer of JSON has to guess where a string ends and what a backslash means. A cell has three known fields,
so no guess is needed where the next field, or the end of the cell, shows it: quotes within a text stay, and so do line
breaks and the backslashes of LaTeX.
"""

import json
import re
from collections.abc import Callable
from typing import Any

FIELD = re.compile(r"""(["'])(bbox|category|text)\1\s*:\s*""")
NEXT_FIELD = re.compile(r"""\s*+(?:,\s*+)?(["'])(?:bbox|category|text)\1\s*:""")
NUMBERS = re.compile(r"""\[\s*+((?:["']?[-+]?[0-9][0-9.]*+["']?\s*+(?:,\s*+)?)*+)(\])?""")
ONE_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?")
END = re.compile(r"\s*+(?:\}\s*+\]|\}[\s,]*+\Z|\][\s}\]]*+(?:,\s*+)?\Z|(?:,\s*+)?\Z)")
"""The text that follows the quote at the end of a cell's last text."""
BRACE = re.compile(r"\s*+\}")
CLOSING = re.compile(r"\}\s*+(?:\]\s*+)?(?:,\s*+)?(?:```\s*+)?\Z")
ESCAPED_END = re.compile(r"""\\(["'])\s*+""" + CLOSING.pattern)
CUT_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?\Z")
SCALAR = re.compile(r"[^\[{,}\]\s]*")
STRING_SIGN = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in "\"'"}


def read_damaged(text: str, sound: Callable[[str], str], *, is_last: bool) -> dict[str, Any]:
    """Return the fields that can be read of a cell that is no JSON.

    Args:
        text: from the beginning of the cell to that of the next one, or to the end of the answer.
        sound: makes the escapes of a string those of JSON.
        is_last: whether the answer ends here, perhaps in the middle of the cell.
    """
    fields: dict[str, Any] = {}
    at = 0
    while found := FIELD.search(text, at):
        value, at = _value(text, found.end(), sound, is_last=is_last)
        is_cut = is_last and at == len(text) and text[-1] not in "\"'"
        if value is not None and not (is_cut and found[2] == "category"):
            fields.setdefault(found[2], value)
    return fields


def _value(text: str, start: int, sound: Callable[[str], str], *, is_last: bool) -> tuple[Any, int]:
    """The value that begins at ``start``, none when it is cut, and where it ends."""
    if text[start : start + 1] in ('"', "'"):
        end, after = _string_end(text, start + 1, is_last=is_last)
        content = _content(text[start + 1 : end], text[start], sound, is_cut=is_last and after == len(text))
        return content, after
    if numbers := NUMBERS.match(text, start):
        if not numbers[2] and numbers.end() == len(text):
            return None, len(text)  # the last number may lack digits
        return [float(number) for number in ONE_NUMBER.findall(numbers[1])], numbers.end()
    scalar = SCALAR.match(text, start)
    word = scalar[0] if scalar else ""
    return ("" if word in ("null", "None") else word or None), start + len(word)


def _string_end(text: str, start: int, *, is_last: bool) -> tuple[int, int]:
    """Return where the text of a string ends, and where the parsing continues.

    A quote ends it in front of the next field, else the last one at the end of the cell does, however many quotes
    the text has in between.
    """
    quote = text[start - 1]
    last = weak = None
    for found in STRING_SIGN[quote].finditer(text, start):
        at = found.start()
        if found[0] != quote:
            continue
        if NEXT_FIELD.match(text, at + 1):
            return at, at + 1
        if END.match(text, at + 1):
            last = at
        elif BRACE.match(text, at + 1):
            weak = at
    end = last if last is not None or is_last else weak
    if end is not None:
        return end, end + 1
    return _unclosed_end(text, start, is_last=is_last), len(text)


def _unclosed_end(text: str, start: int, *, is_last: bool) -> int:
    """The end of a text without its closing quote."""
    if escaped := ESCAPED_END.search(text, start):
        return escaped.start() + 1  # a backslash of the text made the closing quote one of the text
    content = text[start:]
    closing = CLOSING.search(content)
    if closing and content.count("}") > content.count("{"):
        return start + len(content[: closing.start()].rstrip())
    return len(text) if is_last else start + len(content.rstrip().removesuffix(",").rstrip())


def _content(text: str, quote: str, sound: Callable[[str], str], *, is_cut: bool) -> str:
    """Return the content of a string, its quotes and escapes as they were meant."""
    if is_cut:
        text = CUT_ESCAPE.sub(r"\1", text)
    if quote == "'":
        text = re.sub(r"\\(\\|')", lambda found: found[0] if found[1] == "\\" else "'", text)
    quoted = re.sub(r'(\\.)|"', lambda found: found[1] or r"\"", sound(text), flags=re.DOTALL)
    decoded: str = json.loads(f'"{quoted}"', strict=False)
    return decoded
