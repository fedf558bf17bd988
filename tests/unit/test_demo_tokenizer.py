"""The tokenizer that is made for the demo model's answers."""

import random
from functools import cache

import pytest
from dotsctl.tools.pages.characters import CHARACTERS
from dotsctl.tools.pages.fonts import EVERYWHERE
from dotsctl.tools.pages.generator import FULL, generate_page
from dotsctl.tools.pages.words import VOCABULARIES
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")
from dotsctl.tools.dev.demo.tokenizer import (
    LARGEST_NUMBER,
    SPECIAL_TOKENS,
    make_tokenizer,
    number_ids,
    text_ids,
)
from tokenizers import Tokenizer


@cache
def tokenizer() -> Tokenizer:
    return make_tokenizer()


def test_it_has_the_marks_of_dots_ocr_and_each_is_one_token() -> None:
    assert all(len(tokenizer().encode(token).ids) == 1 for token in SPECIAL_TOKENS)


def test_each_number_of_a_box_is_one_token() -> None:
    for number, token in zip(range(0, LARGEST_NUMBER + 1, 2), number_ids(tokenizer()), strict=True):
        ids = tokenizer().encode(f"{number}, {number}, {number}, {number}").ids
        assert ids[::2] == [token] * 4 and len(ids) == 7


def test_digits_of_texts_stay_single() -> None:
    assert tokenizer().encode("392").tokens == ["3", "9", "2"]
    assert set(tokenizer().encode("In 1998, 1,204 of 392").ids) <= set(text_ids(tokenizer()))


def test_each_printed_character_is_one_token_and_none_holds_two_letters() -> None:
    assert all(len(tokenizer().encode(character).ids) == 1 for character in CHARACTERS)
    text = "A word, „Straße“ und déjà vu 42"
    assert len(tokenizer().encode(text).ids) == len(text)
    assert tokenizer().encode(text).offsets == [(place, place + 1) for place in range(len(text))]


def test_an_element_costs_ten_tokens_and_its_words() -> None:
    cell = '[{"bbox": [12, 34, 392, 560], "category": "Text", "text": "a"}]'
    assert len(tokenizer().encode(cell).ids) == 1 + 7 + 1 + 1 + 1 + 1
    assert len(tokenizer().encode('[{"bbox": [0, 2, 4, 6], "category": "Picture"}]').ids) == 1 + 7 + 1 + 1


def test_answers_come_back_as_they_were() -> None:
    rng = random.Random(4)
    for _ in range(10):
        page = generate_page(rng, FULL, EVERYWHERE, words=VOCABULARIES["foreign"])
        for answer in (page.layout((392, 560)), page.layout((392, 560), with_text=False), page.text):
            assert tokenizer().decode(tokenizer().encode(answer).ids, skip_special_tokens=False) == answer


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert tokenizer().decode(tokenizer().encode(text).ids, skip_special_tokens=False) == text
