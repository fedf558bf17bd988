"""The texts of generated pages: what training shows, and what only the evaluation does."""

import random

import pytest
from dotsctl.tools.pages.characters import CHARACTERS
from dotsctl.tools.pages.fonts import EVERYWHERE, font
from dotsctl.tools.pages.lexicon import foreign_words, is_held_out, plain, running_words, training_words
from dotsctl.tools.pages.words import VOCABULARIES, RandomWords, TrainingWords, number

pytest.importorskip("english_words", reason="english-words is not installed")


def drawn(count: int, texts: int = 40) -> list[str]:
    """Words of several training texts, since each has a mix of its own."""
    sources = [TrainingWords(random.Random(seed)) for seed in range(texts)]
    return [source.word() for source in sources for _ in range(count // texts)]


def test_no_training_text_has_a_word_of_the_evaluation() -> None:
    held_out = set(map(plain, foreign_words()))
    assert len(held_out) > 400
    assert not held_out & set(map(plain, training_words()))
    assert not held_out & set(map(plain, running_words()))
    assert not held_out & set(map(plain, drawn(40_000)))


def test_a_word_is_held_out_in_any_case_and_with_any_accent() -> None:
    assert all(map(is_held_out, ("Harbour", "HARBOUR,", "(harbour)", "garcon", "Garçon")))
    assert not any(map(is_held_out, ("harbours", "", "42", "-")))


def test_a_word_that_chance_spells_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source = TrainingWords(random.Random(1))
    spelled = iter(("Harbour.", "harbour", "other"))
    monkeypatch.setattr(source, "_kinds", [lambda: next(spelled)] * len(source._kinds))
    assert source._fresh() == "other"


def test_training_texts_are_mostly_without_a_language() -> None:
    words = drawn(20_000)
    listed = set(training_words()) | set(running_words())
    known = sum(word in listed or plain(word) in listed for word in words) / len(words)
    numeric = sum(any(letter.isdigit() for letter in word) for word in words) / len(words)
    assert 0.2 < known < 0.5
    assert 0.12 < numeric < 0.35
    assert set("".join(words)) == set(CHARACTERS), "every character is trained, and no other one is printed"


def test_some_texts_repeat_a_few_words_again_and_again() -> None:
    shares = []
    for seed in range(60):
        source = TrainingWords(random.Random(seed))
        words = [source.word() for _ in range(60)]
        shares.append(len(set(words)) / len(words))
    assert 0.1 < sum(share < 0.6 for share in shares) / len(shares) < 0.5


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_source_is_a_function_of_its_seed_and_gives_words_without_blanks(name: str) -> None:
    first, again, other = (VOCABULARIES[name](random.Random(seed)) for seed in (1, 1, 2))
    words = [first.word() for _ in range(200)]
    assert words == [again.word() for _ in range(200)] != [other.word() for _ in range(200)]
    assert all(word and word.split() == [word] and set(word) <= set(CHARACTERS) for word in words)


def test_evaluation_texts_have_held_out_words_and_numbers_or_random_strings() -> None:
    source = VOCABULARIES["foreign"](random.Random(3))
    words = [source.word() for _ in range(2_000)]
    assert 0.85 < sum(map(is_held_out, words)) / len(words) < 0.91
    assert not any(map(is_held_out, RandomWords(random.Random(3)).words(500, 500).split()))


def test_the_fonts_of_every_machine_have_all_characters() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from fontTools.ttLib import TTFont

    for family in EVERYWHERE:
        for bold in (False, True):
            with TTFont(font(family, 16, bold).path) as file:
                assert set(map(ord, CHARACTERS)) <= set(file.getBestCmap())


def test_numbers_are_counts_amounts_dates_times_and_percentages() -> None:
    rng = random.Random(2)
    found = [number(rng) for _ in range(400)]
    assert all(set(text) <= set("0123456789.,:%-/$€£+") for text in found)
    assert all(any(mark in text for text in found) for mark in (".", ",", ":", "%", "/", "€"))
