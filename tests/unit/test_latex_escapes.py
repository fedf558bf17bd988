import json
import random

import pytest
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.cells import CellStream, parse_cells
from dotsctl.client.results.latex_escapes import CONTROL_COMMANDS
from dotsctl.client.results.markdown import to_markdown
from dotsctl.protocol.geometry import PageGeometry

PAGE = PageGeometry(source=(100, 100), orientation=1, resized=(100, 100), scale=(1.0, 1.0))
BEFORE_JSON_KNOWS = sorted(word for word in CONTROL_COMMANDS if word not in ("begin", "not", "tag", "right", "newline"))
OTHER_COMMANDS = [
    "alpha",
    "sum",
    "int",
    "mathbb",
    "left",
    "cdot",
    "leq",
    "infty",
    "partial",
    "sqrt",
    "vec",
    "zeta",
    "hat",
]
WORDS = [
    "the",
    "area",
    "never",
    "return",
    "table",
    "rows",
    "energia",
    "Normal",
    "text",
    "ended",
    "Übung",
    "5%",
    "is",
    "to",
]
OPERATORS = [" = ", " + ", " - ", ", ", " < "]


def answer(*written: str, category: str = "Text") -> str:
    """A layout answer whose cells have these texts between their quotes."""
    cells = (f'{{"bbox": [1, 1, 50, 50], "category": "{category}", "text": "{text}"}}' for text in written)
    return f"[{', '.join(cells)}]"


def texts(written: str) -> list[str]:
    return [cell.text for cell in parse_cells(written, PAGE)[0]]


def formula(rng: random.Random, commands: list[str]) -> str:
    """A formula without delimiters, of one row or several."""
    terms = [rng.choice(["x", "2", "y_1", "z^{2}", rf"\frac{{{rng.choice('ab')}}}{{c}}"]) for _ in range(3)]
    terms += [
        rf"\{rng.choice(commands)}{{q}}" if rng.random() < 0.3 else rf"\{rng.choice(commands)} {rng.choice('xyz')}"
    ]
    terms += [rf"\{rng.choice(OTHER_COMMANDS)} k"]
    rng.shuffle(terms)
    joined = terms[0] + "".join(rng.choice(OPERATORS) + term for term in terms[1:])
    if rng.random() < 0.3:
        return rf"\begin{{cases}} {joined} \\ {terms[0]} \\" + "\n" + rf"{terms[-1]} \end{{cases}}"
    return joined


def text(rng: random.Random) -> tuple[str, str]:
    """The text of a cell with at least one formula, and its category."""
    category = rng.choice(["Text", "Text", "Table", "Formula", "Section-header"])
    commands = BEFORE_JSON_KNOWS
    if category == "Formula":
        left, right = rng.choice([("", ""), ("$$", "$$"), ("\\[", "\\]"), ("$$\n", "\n$$")])
        return left + formula(rng, commands) + right, category
    parts = []
    for _ in range(rng.randint(1, 4)):
        left, right = rng.choice([("$", "$"), ("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]")])
        parts += [rng.choice(WORDS), rng.choice([" ", "\n", "\t", "\n\n"]), left + formula(rng, commands) + right]
        parts += [rng.choice([" ", "\n", "\t"]), rng.choice(WORDS)]
    words = "".join(parts)
    return (f"<table><tr><td>{words}</td></tr></table>" if category == "Table" else words), category


def as_json(rng: random.Random, text_: str, category: str) -> str:
    return json.dumps([{"bbox": [1, 1, 50, 50], "category": category, "text": text_}], ensure_ascii=rng.random() < 0.3)


@pytest.mark.parametrize("seed", range(4))
def test_correct_json_with_a_doubled_command_is_never_changed(seed: int) -> None:
    rng = random.Random(f"doubled {seed}")
    for _ in range(500):
        written, category = text(rng)
        # Line breaks stand anywhere in formulas, before letters that would make a command of them too.
        broken = "".join(sign + "\n" if sign in " =+" and rng.random() < 0.2 else sign for sign in written)
        cell = Cell((1, 1, 50, 50), category, broken)
        assert parse_cells(as_json(rng, broken, category), PAGE) == ((cell,), ())


def test_a_line_break_in_a_formula_stays_where_another_cell_has_doubled_commands() -> None:
    assert texts(answer(r"$a\ne + \nb$", r"so $\\alpha$")) == ["$a\ne + \nb$", r"so $\alpha$"]
    assert texts(answer(r"so $\\alpha$", r"$a\nu$")) == [r"so $\alpha$", "$a\nu$"]


@pytest.mark.parametrize("seed", range(4))
def test_single_backslashes_give_the_same_latex_back(seed: int) -> None:
    rng = random.Random(f"single {seed}")
    for _ in range(500):
        written, category = text(rng)
        single = as_json(rng, written, category).replace(r"\\", "\\")
        cells, repairs = parse_cells(single, PAGE)
        assert cells == (Cell((1, 1, 50, 50), category, written),), single
        assert repairs == ("cell 1: LaTeX with single backslashes",)


@pytest.mark.parametrize(
    ("written", "category", "markdown"),
    [
        (r"Let $\theta = \frac{a}{b}$ and $\beta \neq 0$", "Text", r"Let $\theta = \frac{a}{b}$ and $\beta \neq 0$"),
        (r"<table><tr><td>$\frac{1}{2} \times 3$</td></tr></table>", "Table", None),
        (r"E = h\nu \ne 0", "Formula", "$$\nE = h\\nu \\ne 0\n$$"),
        (r"sconto del 5\% sui costi\ne sui ricavi", "Text", "sconto del 5\\% sui costi\ne sui ricavi"),
        (r"sconto del 5% sui costi\ne sui ricavi", "Text", "sconto del 5% sui costi\ne sui ricavi"),
        (r"from $5 each\nto $9 each\nu.a.", "Text", "from $5 each\nto $9 each\nu.a."),
        (r"the \textbf{bold} and \frac{a}{b}", "Text", r"the \textbf{bold} and \frac{a}{b}"),
        (r"a\tb\nc\rd", "Text", "a\tb\nc\rd"),
        (r"C:\\new\\table and $\\nu$", "Text", r"C:\new\table and $\nu$"),
        (r"$ a \neq b $ and $\rho$", "Text", r"$ a \neq b $ and $\rho$"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "Formula", "$$\n\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}\n$$"),
        (r"\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "Formula", "$$\n\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}\n$$"),
        (r"\frac{a}{b} \times \neq \beta\r\ro", "Formula", "$$\n\\frac{a}{b} \\times \\neq \\beta\r\ro\n$$"),
        (r"mass \[ m\nabla \] broken", "Text", r"mass \[ m\nabla \] broken"),
        (r"open \[ and $\rho$", "Text", r"open \[ and $\rho$"),
    ],
)
def test_backslashes_of_recorded_kinds_give_the_right_markdown(
    written: str, category: str, markdown: str | None
) -> None:
    cells, _ = parse_cells(answer(written, category=category), PAGE)
    assert to_markdown(cells) == (written if markdown is None else markdown)


def test_a_damaged_cell_keeps_its_latex_as_well() -> None:
    damaged = r'[{"bbox": [1, 1, 50, 50], "category": "Text", "text": "say "so" $\theta \neq 0$ and\nnext"}]'
    assert texts(damaged) == ['say "so" $\\theta \\neq 0$ and\nnext']


def test_cells_that_come_one_by_one_are_judged_by_those_before() -> None:
    stream = CellStream(PAGE)
    (first,) = stream.push(answer(r"$\\alpha$")[:-1])
    (second,) = stream.push(", " + answer(r"$a\nu$")[1:])
    assert (first.text, second.text) == (r"$\alpha$", "$a\nu$")
    assert [cell.text for cell in CellStream(PAGE).push(answer(r"$a\nu$"))] == [r"$a\nu$"]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["$", r"\\[", r"\(", r"$\nu", r"\begin{a}", r"\f$", "\\\\"])
def test_a_text_of_nothing_but_signs_is_read_at_once(part: str) -> None:
    texts(answer(part * (60_000 // len(part)), category="Text"))
