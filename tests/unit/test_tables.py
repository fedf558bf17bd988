import random
import re
from html.parser import HTMLParser

import pytest
from dotsctl.client.results.tables import ALLOWED, safe_table, table_text
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = (
    "<", ">", "/", "<!", "<![CDATA[", "<!--", "-->", "<table", "<td", "</td>", "<tr>", "<script>", "</script>", "&lt;",
    "<img src=x onerror=alert(1)>", ' onclick="x()"', "colspan=2", "'", '"', "=", "words", "&#60;script&#62;", "\n",
    "<a href='javascript:x'>", "<b>", "</b>", "<style>", "</style", "\x00", "<svg",
)  # fmt: skip


class Tags(HTMLParser):
    """Every tag with its attributes, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.ended: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self.ended.append(tag)


def test_a_table_is_kept_with_its_spans_and_its_missing_ends() -> None:
    html = "<table border=1><tr><th rowspan='2'>A &amp; B<th colspan=3 onclick=x>C"
    html += "<tr><td colspan='99999'>1 < 2<br>3</table>"
    assert safe_table(html) == (
        '<table><tr><th rowspan="2">A &amp; B</th><th colspan="3">C</th></tr><tr><td>1 &lt; 2<br>3</td></tr></table>'
    )


def test_a_table_within_a_table_ends_nothing_of_the_outer_one() -> None:
    html = "<table><tr><td>a<table><tr><td>b</td></tr></table>c</td></tr></table>"
    assert safe_table(html) == html


def test_scripts_styles_and_comments_leave_nothing() -> None:
    html = "<table><tr><td>a<script>alert('<b>')</script><style>td {}</style><!-- <td>no</td> -->b</td></tr></table>"
    assert safe_table(html) == "<table><tr><td>ab</td></tr></table>"
    assert table_text(html) == "ab"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_nothing_but_tables_comes_out_of_anything(pieces: list[str]) -> None:
    shown = safe_table("".join(pieces))
    tags = Tags(shown)
    for tag, attributes in tags.seen:
        assert tag in ALLOWED
        assert all(name in ("colspan", "rowspan") and re.fullmatch("[0-9]+", value or "") for name, value in attributes)
    assert sorted(tags.ended) == sorted(tag for tag, _ in tags.seen if tag not in ("br", "col"))
    assert table_text("".join(pieces)) is not None


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["<table>", "<td>", "<td a=", "<!--", "<", "&", "<tr><td></td>", "<b>", "<script>"])
def test_a_table_that_repeats_itself_takes_no_time(part: str) -> None:
    html = part * (100_000 // len(part))
    assert len(safe_table(html)) < 20 * len(html)
    table_text(html)


def test_words_around_a_table_and_empty_cells_are_kept() -> None:
    html = "Table 1: <b>all</b><table><tr><td></td><td>x</td></tr></table>end"
    assert table_text(html) == "Table 1: all\n\tx\nend"


def test_random_tables_have_as_many_lines_and_tabulators_as_rows_and_columns() -> None:
    rng = random.Random(1)
    for _ in range(20):
        rows, columns = rng.randrange(1, 6), rng.randrange(1, 6)
        body = "".join(
            "<tr>" + "".join(f"<td>{rng.random()}</td>" for _ in range(columns)) + "</tr>" for _ in range(rows)
        )
        lines = table_text(f"<table><tbody>{body}</tbody></table>").split("\n")
        assert [line.count("\t") for line in lines] == [columns - 1] * rows


def test_words_in_angle_brackets_that_are_no_tags_are_text() -> None:
    html = "<table><tr><td>ping <host></td><td>Ann <ann@x.org></td><td>List<String> v</td></tr></table>"
    assert table_text(html) == "ping <host>\tAnn <ann@x.org>\tList<String> v"
    assert safe_table("<table><tr><td>ping <host></td></tr></table>") == (
        "<table><tr><td>ping &lt;host&gt;</td></tr></table>"
    )
    assert table_text("<table><tr><td>0<x and x>1, a<b and c>d, <i class='x'>i</i></td></tr></table>") == (
        "0<x and x>1, a<b and c>d, i"
    )


def test_cells_that_span_rows_and_columns_leave_the_other_places_empty() -> None:
    html = '<table><tr><th rowspan="2">Item</th><th colspan="2">2024</th><th>2025</th></tr>'
    html += "<tr><th>Q1</th><th>Q2</th><th>Q1</th></tr><tr><td>A</td><td>1</td><td>2</td><td>3</td></tr></table>"
    assert table_text(html) == "Item\t2024\t\t2025\n\tQ1\tQ2\tQ1\nA\t1\t2\t3"
    assert table_text("<table><tr><td rowspan=3 colspan=2>a</td><td>b</td></tr><tr><td>c</td></tr></table> end") == (
        "a\t\tb\n\t\tc\nend"
    )


@pytest.mark.timeout(10)
def test_spans_of_a_damaged_answer_do_not_fill_the_memory() -> None:
    assert len(table_text("<tr>" + "<td rowspan=1000 colspan=1000>x" * 3000)) < 10_000
    assert len(table_text("<tr><td rowspan=1000 colspan=1000>x<td>y" * 2000)) < 5_000_000
