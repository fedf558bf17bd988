"""Prompts that a model card (README.md) shows in its code blocks, as prompts of our tasks.

The model was trained with certain texts and reads best with them. Cards show them as Python: variables, entries of
a dict, or a plain ``prompt = \"\"\"...\"\"\"``. Nothing of a card is executed.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator

from dotsctl.protocol.model.tasks import LAYOUT, TASKS

BY_CARD_NAME = {task.card_name: task.name for task in TASKS.values()}
"""Task by the name that cards use."""
PLAIN = "prompt"
"""A variable of this name is the layout prompt if its text names these:"""
LAYOUT_WORDS = ("bbox", "category")
MAX_CARD_CHARACTERS = 200_000
MAX_BLOCK_CHARACTERS = 20_000
"""The longest block that is searched, far more than prompts need; the time grows with the square of a hostile block."""
FENCE = re.compile(
    r"^[ \t>]*(?P<fence>`{3,}|~{3,})[^\n]*\n(?P<code>.*?)(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)", re.M | re.S
)
LITERAL = r"""[rRuU]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
NAMED = re.compile(rf"(?<![\w.])[\"']?(?P<name>prompt\w*)[\"']?\s*[:=]\s*\(?\s*(?P<text>{LITERAL})", re.S)


def prompts_of(card: str) -> dict[str, str]:
    """Text by task, as far as the card shows them; empty when it shows none.

    The first text of a name counts, and a named layout prompt before a plain one. A grounding prompt gets ``{box}`` at
    its end if it has no such place, as the box follows the text there.
    """
    found: dict[str, str] = {}
    plain = ""
    for block in FENCE.finditer(card[:MAX_CARD_CHARACTERS].replace("\r\n", "\n")):
        for name, text in _texts(block["code"][:MAX_BLOCK_CHARACTERS]):
            if name in BY_CARD_NAME and text.strip():
                found.setdefault(BY_CARD_NAME[name], text)
            elif name == PLAIN and all(word in text for word in LAYOUT_WORDS):
                plain = plain or text
    if plain:
        found.setdefault(LAYOUT.name, plain)
    for task, text in found.items():
        if TASKS[task].needs_box and "{box}" not in text:
            found[task] = text + ("{box}" if text[-1].isspace() else " {box}")
    return found


def _texts(code: str) -> Iterator[tuple[str, str]]:
    """Names and texts of a code block, in its order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a card's escapes are no concern of who reads it
        try:
            tree = ast.parse(textwrap.dedent(code))
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # a shell session, an excerpt, another language
            yield from _texts_of_no_python(code)
            return
    for node in sorted((node for node in ast.walk(tree) if hasattr(node, "lineno")), key=lambda node: node.lineno):
        for name, value in _pairs(node):
            text = _constant(value)
            if text is not None:
                yield name, text


def _pairs(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names and values in a node: an assignment, the entries of a dict, an argument of a call."""
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value


def _constant(value: ast.expr) -> str | None:
    """The text of a string, or of strings joined with ``+``; none for everything else."""
    parts = []
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            pending += [node.right, node.left]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts.append(node.value)
        else:
            return None
    return "".join(parts)


def _texts_of_no_python(code: str) -> Iterator[tuple[str, str]]:
    """Yield the same from a block that is not valid Python: names with a string behind ``=`` or ``:``."""
    for match in NAMED.finditer(code):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = ast.literal_eval(match["text"])
            except (SyntaxError, ValueError, RecursionError, MemoryError):  # as a wrong \N{...}
                continue
        yield match["name"], value
