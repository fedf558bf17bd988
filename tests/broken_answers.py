"""Layout answers with the kinds of damage that models make, each with the cells that are whole in the raw text."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PAGE_PX = (2000, 3000)
"""Boxes below are on a page of this size."""
TEXTS = (
    "A line of words.",
    "## 1 Introduction",
    r"$$\frac{a}{b} = \sqrt{x^{2}} \times \alpha$$",
    r"\[ \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} \]",
    'He said "so", and {"left": 1}.',
    "two\nlines, a\ttab and a back\\slash",
    "C:\\temp\\new",
    "<table class=\"wide\"><tr><td colspan='2'>1, 2</td></tr><tr><td>]}</td><td>[{</td></tr></table>",
    "Ünïcödé 漢字 😀",
    "",
    "'bbox': [1, 2, 3, 4]",
    '}, {\\"bbox\\": [1, 2, 3, 4], "category": "Text"',
)
CATEGORIES = ("Text", "Title", "Table", "Formula", "Picture", "Section-header", "Page-footer", "List-item")


@dataclass(frozen=True)
class Broken:
    """One damaged answer."""

    kind: str
    answer: str
    whole: tuple[dict[str, Any], ...]
    """The cells that stand in the answer as valid JSON, as ``json.loads`` gives them."""
    repaired: tuple[str, ...] = ()
    """Texts that a damaged cell must still have, without a character lost or gained."""


def make_cell(rng: random.Random, text: str | None = None) -> dict[str, Any]:
    x, y = rng.randrange(1000), rng.randrange(2000)
    cell: dict[str, Any] = {"bbox": [x, y, x + rng.randrange(1, 900), y + rng.randrange(1, 900)]}
    cell["category"] = rng.choice(CATEGORIES)
    if cell["category"] != "Picture" or text is not None:
        cell["text"] = rng.choice(TEXTS) if text is None else text
    return cell


def written(cell: dict[str, Any], rng: random.Random) -> str:
    return json.dumps(cell, ensure_ascii=rng.random() < 0.3, separators=rng.choice([(", ", ": "), (",", ":")]))


def cut(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    last = rng.randrange(1, len(parts[-1]))
    return Broken("cut", "[" + ", ".join([*parts[:-1], parts[-1][:last]]), tuple(cells[:-1]))


def cut_in_latex(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    text = r"before $\frac{a}{b}"
    last = json.dumps({"bbox": [1, 2, 3, 4], "category": "Formula", "text": text})[:-2]
    return Broken("cut in LaTeX", "[" + ", ".join([*parts, last]), tuple(cells), (text,))


def without_commas(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    return Broken("no commas", "[" + rng.choice(["", " ", "\n"]).join(parts) + "]", tuple(cells))


def without_bracket(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    return Broken("no bracket", "[" + ", ".join(parts), tuple(cells))


def long_with_error(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    long = make_cell(rng, "word " * 11_000)
    place = rng.randrange(len(parts) + 1)
    pieces = [*parts[:place], written(long, rng), *parts[place:]]
    return Broken("long", "[" + ", ".join(pieces) + ",]", (*cells[:place], long, *cells[place:]))


def raw_newline(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    text = "two\n\nlines\tand a tab"
    raw = '{"bbox": [1, 2, 3, 4], "category": "Text", "text": "' + text + '"}'
    return Broken("raw newline", "[" + ", ".join([raw, *parts]) + "]", tuple(cells), (text,))


def bad_escape(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    text = r"\alpha + \(\frac{a}{b}\) \times \nabla \rho \underline{x} \% \beta"
    raw = '{"bbox": [1, 2, 3, 4], "category": "Formula", "text": "' + text + '"}'
    return Broken("bad escape", "[" + ", ".join([*parts, raw, *parts]) + "]", (*cells, *cells), (text,))


def same_box(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    other = {**cells[0], "text": "another text"}
    return Broken("same box", "[" + ", ".join([*parts, written(other, rng)]), (*cells, other))


def fenced(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    return Broken("fence", "```json\n[" + ",\n".join(parts) + "]\n```" * rng.randrange(2), tuple(cells))


def nothing(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    return Broken("nothing", rng.choice(["[]", "", "The page is blank.", "{}", "[", "null", "[[]]", '"', "{{{"]), ())


def prose_around(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    before = rng.choice(["Here is the layout [1]: ", 'Keys are {"bbox", "text"}: ', '{"cells": ', "It's this:\n"])
    after = rng.choice(["", " I hope this helps!", "\n```", "} {'a': 1}"])
    return Broken("prose", f"{before}[{', '.join(parts)}]{after}", tuple(cells))


def three_sides(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    odd = {"bbox": [1, 2, 3], "category": "Text", "text": "three sides"}
    return Broken("three sides", "[" + ", ".join([*parts, written(odd, rng)]) + "]", (*cells, odd))


def strange_numbers(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    box = rng.choice(
        [
            ["10", "20", "30", "40"],
            [-50, -50, 99_999, 99_999],
            [float("nan"), 1, 2, 3],
            [float("inf"), 1, 2, 3],
            [10**30, 1, 2, 3],
            [1e300, 1, 2, 3],
            [True, 1, 2, 3],
            [[1, 2], [3, 4]],
            None,
            {"x": 1},
            "1, 2, 3, 4",
        ]
    )
    odd = {"bbox": box, "category": "Text", "text": "odd numbers"}
    return Broken("numbers", "[" + ", ".join([json.dumps(odd), *parts]) + "]", (odd, *cells))


def thousands_of_digits(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    raw = '{"bbox": [1, 2, 3, ' + "4" * 5000 + '], "category": "Text", "text": "digits"}'
    return Broken("digits", "[" + ", ".join([raw, *parts]) + "]", tuple(cells), ("digits",))


def bare_quotes(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    text = rng.choice(['a "b" c', 'say "hi", and "ho": then {x}', '<td class="x">1</td>', '5" by 7"', 'the "end"'])
    raw = '{"bbox": [1, 2, 3, 4], "category": "Text", "text": "' + text + '"}'
    pieces = [raw, *parts] if rng.random() < 0.5 else [*parts, raw]
    return Broken("bare quotes", "[" + ", ".join(pieces) + "]", tuple(cells), (text,))


def surrogates(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    raw = r'{"bbox": [1, 2, 3, 4], "category": "Text", "text": "a\ud800b \ud83d\ude00 \u00e9"}'
    return Broken("surrogates", "[" + ", ".join([*parts, raw]) + "]", tuple(cells), ("a?b 😀 é",))


def as_python(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    texts = ("it's plain", 'a "quoted" word', "back\\slash", "{'bbox': [1]} and \"both\" 'kinds'")
    own = [{"bbox": [1, 2, 3, 4], "category": "Text", "text": text} for text in texts]
    return Broken("Python", repr(own), (), texts)


def trailing_comma(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    return Broken("trailing comma", "[" + ", ".join(parts) + ",]", tuple(cells))


def without_ends(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    end = rng.choice(['"', '"]', "}", ""])
    raw = '{"bbox": [1, 2, 3, 4], "category": "Text", "text": "no end' + end
    return Broken("no end", "[" + ", ".join([raw, *parts]) + "]", tuple(cells), ("no end",))


def repeated(rng: random.Random, cells: list[dict[str, Any]], parts: list[str]) -> Broken:
    return Broken("repeated", "[" + ", ".join(parts * 6), tuple(cells * 6))


DAMAGES: tuple[Callable[[random.Random, list[dict[str, Any]], list[str]], Broken], ...] = (
    cut, cut_in_latex, without_commas, without_bracket, long_with_error, raw_newline, bad_escape, same_box, fenced,
    nothing, prose_around, three_sides, strange_numbers, thousands_of_digits, bare_quotes, surrogates, as_python,
    trailing_comma, without_ends, repeated,
)  # fmt: skip


def broken_answers(number: int, seed: int) -> list[Broken]:
    """As many answers as asked for, the kinds of damage in turn; the same seed gives the same answers."""
    rng = random.Random(seed)
    made = []
    for place in range(number):
        cells = [make_cell(rng) for _ in range(rng.randrange(1, 7))]
        made.append(DAMAGES[place % len(DAMAGES)](rng, cells, [written(cell, rng) for cell in cells]))
    return made
