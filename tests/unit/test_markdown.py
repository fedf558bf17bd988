import pytest
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.latex import formula_block
from dotsctl.client.results.markdown import block, to_markdown, to_plain, unfenced, without_marks


def cell(category: str, text: str = "") -> Cell:
    return Cell((0, 0, 10, 10), category, text)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("E = mc^2", "E = mc^2"),
        ("$x$", "x"),
        ("$$\na\n\n  \nb $$", "a\nb"),
        (r"\[ \frac{a}{b} \]", r"\frac{a}{b}"),
        (r"\(x_1\)", "x_1"),
        ("`$x$`", "x"),
        ("```latex\n\\alpha\n```", r"\alpha"),
        (r"\begin{equation*}x=1\end{equation*}", "x=1"),
        (r"\begin{align}a&=b\\c&=d\end{align}", r"\begin{aligned}a&=b\\c&=d\end{aligned}"),
        (r"\begin{pmatrix}1\\[2pt]2\end{pmatrix}", r"\begin{pmatrix}1\\[2pt]2\end{pmatrix}"),
        (r"\documentclass{article}\begin{document}$$x^2$$\end{document}", "x^2"),
    ],
)
def test_a_formula_becomes_a_block_whatever_its_marks(text: str, body: str) -> None:
    assert formula_block(text) == f"$$\n{body}\n$$"


@pytest.mark.parametrize(
    "text", ["a = b + c", "where $x$ is $y^2$", r"so \[x^2\] is", "", "$$", r"cost \$5", "`a` or `b`"]
)
def test_a_formula_without_latex_or_with_marks_within_stays_as_it_is(text: str) -> None:
    assert formula_block(text) == text


def test_a_table_stands_between_blank_lines_and_has_none() -> None:
    table = "<table>\n<tr><td>1<table>\n</table></td></tr></table>"
    text = "Table 1\n" + table.replace("\n", "\n \n\n") + "note\n\nmore"
    assert block(cell("Table", text)) == f"Table 1\n\n{table}\n\nnote\n\nmore"
    assert to_markdown([cell("Text", "a"), cell("Table", "<table></table>"), cell("Text", "b")]) == (
        "a\n\n<table></table>\n\nb"
    )


def test_a_table_that_is_cut_or_is_markdown_is_kept() -> None:
    assert block(cell("Table", "<table><tr>\n\n<td>1")) == "<table><tr>\n<td>1"
    assert block(cell("Table", "| a | b |\n|---|---|")) == "| a | b |\n|---|---|"


def test_headers_and_footers_are_left_out_on_request() -> None:
    cells = [cell("Page-header", "top"), cell("Picture"), cell("Text", "words"), cell("Page-footer", "7")]
    assert to_markdown(cells) == "top\n\nwords\n\n7"
    assert to_markdown(cells, header_footer=False) == to_plain(cells, header_footer=False) == "words"
    # Places are those among all cells, whatever is left out.
    assert to_markdown(cells, header_footer=False, pictures={1: "a b/p.png"}) == "![](a%20b/p.png)\n\nwords"


def test_a_coded_inline_formula_is_a_formula_and_code_stays_code() -> None:
    assert block(cell("Text", "let `$x$` be `code`")) == "let $x$ be `code`"


def test_plain_text_has_tables_as_tabulators_and_no_marks() -> None:
    cells = [
        cell("Title", "# The **big** title"),
        cell("Table", "<table><tr><th>A &amp; B<th colspan='2'>C</tr><tr><td>1<br>2</td><td> 3 </td></tr></table>"),
        cell("Formula", r"\[x^2\]"),
        cell("Text", "2**3**4 and ______ and C#"),
    ]
    assert to_plain(cells) == "The big title\n\nA & B\tC\n1 2\t3\n\nx^2\n\n2**3**4 and ______ and C#"


def test_only_a_fence_around_all_of_it_is_taken_away() -> None:
    assert unfenced("```svg\n<svg>\n</svg>\n```\n") == "<svg>\n</svg>"
    assert unfenced("```\n<svg/>```") == "<svg/>"
    assert unfenced("see ```x``` and") == "see ```x``` and"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["**a ", "`", "`a", "$", "\\[", "\n ", "#", "<table ", "<table>", "\\begin{document}"])
def test_a_text_that_repeats_itself_takes_no_time(part: str) -> None:
    for category in ("Text", "Table", "Formula"):
        long = cell(category, part * (100_000 // len(part)) + "x")
        assert block(long)
        assert to_plain([long])
    without_marks(long.text)


def test_code_and_names_of_python_keep_their_underscores_in_plain_text() -> None:
    code = 'if __name__ == "__main__": self.__init__()'
    assert without_marks(code) == code
    assert without_marks("# **Bold**, __Bold words__, `**kwargs` and ``a `__x y__` b``") == (
        "Bold, Bold words, `**kwargs` and ``a `__x y__` b``"
    )
    assert without_marks("let `$x^2$` be `code`") == "let $x^2$ be `code`"
