import pytest
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.safe_markdown import safe_html_table, safe_text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("<svg/onload=alert(1)>", "&lt;svg/onload=alert(1)>"),
        ("<b onclick=x()>bold</b>", "&lt;b onclick=x()>bold</b>"),
        ("<!-- hidden --> and <?php ?>", "&lt;!-- hidden --> and &lt;?php ?>"),
        ("[a](javascript:alert(1)) [b]( JavaScript :x)", "[a](unsafe:alert(1)) [b]( unsafe:x)"),
        ("<javascript:alert(1)>", "<unsafe:alert(1)>"),
        ("[a]: data:text/html,x", "[a]: unsafe:text/html,x"),
        ("ping <host> of List<String>", "ping &lt;host> of List&lt;String>"),
    ],
)
def test_markup_of_the_model_is_shown_and_not_followed(written: str, shown: str) -> None:
    assert safe_text(written) == shown
    assert Cell(None, "Text", written).markdown == shown


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b>, <i>it</i>, H<sub>2</sub>O<br>line<br/>",
        "a < b and c > d, 1<2, x<-y",
        "see <https://example.org> and <ann@example.org>",
        "`<script>` and ``<a `b` c>``",
        "$a<b and c>d$ and \\(x<y>z\\)",
        "# Title\n\n> quoted\n\n**bold** [a](https://example.org) & more",
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert safe_text(text) == text


def test_a_table_of_a_page_stays_as_it_was_written() -> None:
    table = '<table border="1"><tr><td rowspan="2">A & B, don\'t</td><td>x<br></td></tr></table>'
    assert safe_html_table(table) == table
    assert Cell(None, "Table", table).markdown == table


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<b onmouseover=x()>a</b>",
        "<a href='javascript:x'>a</a>",
        "<!-- --><img src=x>",
        "<td style='background:url(x)'>",
        "<img src=x onerror=alert(1)",
    ],
)
def test_a_table_with_more_than_a_table_is_written_anew(inside: str) -> None:
    shown = Cell(None, "Table", f"<table><tr><td>{inside}</td></tr></table>").markdown
    assert not any(word in shown for word in ("<script", "onmouseover", "<a ", "javascript", "<img", "style"))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["`", "$", "<", "<a ", "\\(", "[a](", "`a", "<!", "[a]: "])
def test_a_text_of_nothing_but_signs_takes_no_time(part: str) -> None:
    assert safe_text(part * (100_000 // len(part)))
