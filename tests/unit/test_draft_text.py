"""The place of an answer in the text of its hint, and what is expected there."""

import pytest
from dotsctl.decoder_worker.drafts.hint_text import NEAR, HintText, block_text
from dotsctl.decoder_worker.drafts.odds import PRIOR, Kind, Odds
from dotsctl.decoder_worker.drafts.repeats import Repeats
from dotsctl.decoder_worker.drafts.text_source import TextSource
from dotsctl.protocol.page_hint import HintBlock, PageHint
from hypothesis import given
from hypothesis import strategies as st

NUMBERED = " ".join(
    f"w{'abcdefghij'[number // 100]}{'abcdefghij'[number // 10 % 10]}{'abcdefghij'[number % 10]}"
    for number in range(200)
)


def hint_text(*blocks: str) -> HintText:
    return HintText(PageHint(tuple(HintBlock(block) for block in blocks)))


def expected(source: TextSource, characters: int = 20) -> str:
    return "".join(span.text for span in source.predict(characters))


def after(hint: HintText, *pieces: str) -> TextSource:
    source = TextSource(hint)
    for piece in pieces:
        source.push(piece)
    return source


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("one two \r\nthree", "one two three"),
        ("a word pro-\ncessor", "a word processor"),
        ("in the mid-\n19th century", "in the mid- 19th century"),
        ("one\ntwo\n\n\nthree\n", "one two\n\nthree"),
        ("•  an item", "an item"),
        ("a  b\tc", "a b c"),
    ],
)
def test_lines_of_a_block_are_joined(text: str, joined: str) -> None:
    assert block_text(text) == joined


def test_a_hint_of_nothing_but_spaces_and_line_ends_is_read_at_once() -> None:
    assert hint_text(" " * 80_000, "\n" * 80_000, "-\n" * 40_000).find(["x"], 0, is_open=False) is None


def test_words_are_found_by_three_by_two_and_by_one_that_is_near() -> None:
    hint = hint_text("the red fox and the red hen and the red dog and a red fox", NUMBERED)
    text = hint.text
    assert hint.find(["and", "a", "red"], 0, is_open=False) == (text.index("a red") + 5, 3)
    assert hint.find(["no", "the", "red"], text.index("hen"), is_open=False) == (text.index(" hen"), 2)
    assert hint.find(["no", "HEN"], 0, is_open=False) == (text.index("hen") + 3, 1)
    assert hint.find(["waaa"], 0, is_open=False) == (text.index("waaa") + 4, 1)
    beyond = f"wa{'abcdefghij'[NEAR[1] // 10 + 2]}a"
    assert hint.find([beyond], 0, is_open=False) is None
    assert hint.find(["nothing"], 0, is_open=False) is None


def test_a_word_that_is_not_complete_is_found_by_its_beginning() -> None:
    hint = hint_text("the harbour master measures the current")
    assert hint.find(["harbour", "mas"], 0, is_open=True) == (hint.text.index("master") + 3, 2)
    assert hint.find(["harbour", "mas"], 0, is_open=False) is None


def test_markup_and_other_spaces_do_not_lose_the_place() -> None:
    hint = hint_text("Name: value of it", "second block")
    assert expected(after(hint, "**Name", ":**")) == " value of it\n\nsecond block"[:20]
    assert expected(after(hint, "Name", ":", "  ", "value")) == " of it\n\nsecond block"
    assert expected(after(hint, "- ", "name")) == ": value of it\n\nsecon"


def test_a_misread_word_is_taken_for_read_and_a_missing_passage_is_found_again() -> None:
    hint = hint_text("one two three four five six seven eight nine ten")
    assert expected(after(hint, "one", " two", " thrce"), 10) == " four five"
    assert expected(after(hint, "one", " two", " th", "rcc"), 5) == " four"
    assert expected(after(hint, "one", " seven", " eight"), 5) == " nine"


def test_the_separator_of_blocks_is_learnt() -> None:
    hint = hint_text("aa", "bb", "cc", "dd")
    assert expected(after(hint, "aa")).startswith("\n\nbb")
    assert expected(after(hint, "aa", "\n", "bb")).startswith("\ncc\ndd")
    assert expected(after(hint, "aa", " bb")).startswith(" cc dd")


def test_cells_of_a_table_are_followed_between_their_tags() -> None:
    hint = hint_text("salt 12 copper 7")
    source = after(hint, "<table><tr><td>", "salt", "</td", "><td>")
    assert expected(source, 2) == "12"
    source.push("12<")
    assert source.is_in_tag
    assert expected(source) == ""


def test_what_follows_a_guess_is_less_likely_than_what_follows_words_that_agree() -> None:
    hint = hint_text("one two three four five six")
    assert after(hint).level is Kind.TEXT_0
    assert after(hint, "one", " two", " three").level is Kind.TEXT_3
    assert after(hint, "one", " xxx").level is Kind.TEXT_0


@given(
    st.lists(st.text(st.sampled_from("ab <>*\n1-"), max_size=8), max_size=12),
    st.text(st.sampled_from("ab \n1-<"), max_size=30),
)
def test_any_answer_is_followed_in_any_hint(pieces: list[str], text: str) -> None:
    hint = hint_text(text)
    source = after(hint, *pieces)
    assert 0 <= source.at <= len(hint.text)
    assert all(span.text for span in source.predict(10))


def test_repetitions_are_guessed_from_the_longest_ngram_that_was_there_before() -> None:
    repeats = Repeats()
    for token in [1, 2, 3, 4, 9, 9, 1, 2]:
        repeats.push(token)
    assert repeats.predict(3) == ([3, 4, 9], [Kind.REPEAT_2, Kind.REPEAT_3, Kind.REPEAT_4])
    repeats.push(3)
    assert repeats.predict(2) == ([4, 9], [Kind.REPEAT_3, Kind.REPEAT_4])
    repeats.push(77)
    assert repeats.predict(2) == ([], [])


def test_odds_begin_with_those_of_other_pages_and_follow_the_page() -> None:
    odds = Odds()
    assert all(odds[kind] == pytest.approx(PRIOR[kind]) for kind in Kind)
    for _ in range(30):
        odds.observe(Kind.TEXT_3, False)
        odds.observe(Kind.LOW_DIGIT, True)
    assert odds[Kind.TEXT_3] < 0.1
    assert odds[Kind.LOW_DIGIT] > 0.9
    for _ in range(30):
        odds.observe(Kind.TEXT_3, True)
    assert odds[Kind.TEXT_3] > 0.75
