"""The drafter of a page: never another text, few passes with a right hint, hardly more time with a wrong one."""

import json
from functools import cache

import pytest
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.page_drafter import PageDrafter
from dotsctl.decoder_worker.drafts.verifying import accepted
from dotsctl.decoder_worker.prompt import plain_ids
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.tools.dev.drafts.hints import with_errors
from dotsctl.tools.dev.drafts.playing import Play, play
from dotsctl.tools.dev.drafts.splitting import read_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.drafted_pages import GEOMETRY, drafted_page

TOKENS = st.lists(st.integers(0, 6), max_size=40)
ROWS = 16
TEXTS = st.text(st.sampled_from('ab1 \n"\\{}[],:<>*#é字'), max_size=60)
PIECES = st.lists(
    st.sampled_from(
        [
            '[{"bbox": [',
            "12",
            ", ",
            "7",
            '], "category": "',
            "Text",
            '", "text": "',
            "a b",
            '"}, {"bbox": [',
            '"}]',
            "\\n",
            "\\",
            "{",
        ]
    ),
    max_size=40,
).map("".join)


@cache
def demo_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(demo_directory() / "tokenizer.json"))


def hint_of(*texts: str) -> PageHint:
    return PageHint(tuple(HintBlock(text) for text in texts))


def played(task: str, answer: str, hint: PageHint | None, cost: float, tokenizer: Tokenizer | None = None) -> Play:
    texts = [answer, *(block.text for block in hint.blocks)] if hint else [answer]
    chosen = tokenizer or read_tokenizer("qwen2-split", texts)[0]
    return play([(plain_ids(chosen, answer), PageDrafter(chosen, task, hint, GEOMETRY))], RowCosts.linear(cost), ROWS)


@settings(max_examples=60, deadline=None)
@given(TOKENS, TOKENS)
def test_what_is_kept_is_the_correct_prefix_and_one_token(draft: list[int], best: list[int]) -> None:
    best = best + [7] * (len(draft) + 1)
    kept = accepted(draft, best)
    assert kept == best[: len(kept)]
    assert kept[:-1] == draft[: len(kept) - 1]
    assert len(kept) == len(draft) + 1 or draft[len(kept) - 1] != best[len(kept) - 1]


@settings(max_examples=150, deadline=None)
@given(
    TEXTS | PIECES,
    st.lists(TEXTS, max_size=3),
    st.sampled_from(["layout", "text", "layout-only", "ask"]),
    st.integers(0, 20),
)
def test_any_answer_is_followed_with_any_hint(answer: str, hint: list[str], task: str, limit: int) -> None:
    """The answer need not be a list of cells, nor the hint have anything to do with it."""
    tokenizer = demo_tokenizer()
    boxed = tuple(HintBlock(text, (5.0, 9.0 * place, 50.0, 9.0 * place + 8)) for place, text in enumerate(hint))
    drafter = PageDrafter(tokenizer, task, PageHint(boxed, (100.0, 100.0)), GEOMETRY)
    for token in plain_ids(tokenizer, answer):
        draft = drafter.propose(limit)
        assert len(draft.tokens) == len(draft.odds) <= limit
        assert all(0 <= odds <= 1 for odds in draft.odds)
        drafter.learn([token])


@pytest.mark.parametrize("task", ["layout", "text"])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize(("cost", "layout_speed", "text_speed"), [(0.03, 3.3, 4.0), (0.12, 2.3, 2.3), (0.30, 1.5, 1.5)])
def test_a_text_layer_makes_a_page_faster(
    task: str, columns: int, cost: float, layout_speed: float, text_speed: float
) -> None:
    page = drafted_page(5, columns)
    answer = page.layout if task == "layout" else page.text
    found = played(task, answer, page.hint, cost)
    assert found.speedup >= (layout_speed if task == "layout" else text_speed)
    assert cost > 0.03 or found.tokens_a_pass >= (4.0 if task == "layout" else 5.2)


@pytest.mark.parametrize(("task", "least"), [("layout", 2.2), ("text", 2.8)])
def test_a_tokenizer_of_single_characters_and_complete_numbers_gains_as_well(task: str, least: float) -> None:
    page = drafted_page(6)
    answer = page.layout if task == "layout" else page.text
    assert played(task, answer, page.hint, 0.03, demo_tokenizer()).tokens_a_pass >= least


@pytest.mark.parametrize("task", ["layout", "text"])
@pytest.mark.parametrize("cost", [0.06, 0.30])
@pytest.mark.parametrize("hint", ["of another page", "none"])
def test_a_hint_that_does_not_help_costs_no_time(task: str, cost: float, hint: str) -> None:
    for seed in range(2):
        page = drafted_page(seed, 1 + seed, has_table=seed == 1)
        answer = page.layout if task == "layout" else page.text
        other = drafted_page(seed + 100).hint if hint == "of another page" else None
        assert played(task, answer, other, cost).speedup >= 1 / 1.02


def test_more_wrong_characters_in_a_hint_make_it_slower_and_never_useless() -> None:
    page = drafted_page(7)
    speeds = [played("layout", page.layout, with_errors(page.hint, share, 1), 0.06).speedup for share in (0, 0.05, 0.1)]
    without = played("layout", page.layout, None, 0.06).speedup
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[-1] > without + 0.3


def test_blocks_in_another_order_than_the_answer_are_found_by_the_sides_that_are_read() -> None:
    in_order, shuffled = drafted_page(8, 2), drafted_page(8, 2, is_shuffled=True)
    assert in_order.layout == shuffled.layout
    assert played("layout", shuffled.layout, shuffled.hint, 0.06).tokens_a_pass >= 7


def test_boxes_of_a_hint_save_passes_beyond_those_of_its_text() -> None:
    page = drafted_page(9)
    text_alone = hint_of(page.hint.text)
    with_boxes, without = (played("layout", page.layout, hint, 0.06).passes for hint in (page.hint, text_alone))
    assert with_boxes <= 0.8 * without


def test_the_skeleton_of_a_layout_answer_is_drafted_without_a_hint() -> None:
    page = drafted_page(10)
    assert played("layout", page.layout, None, 0.06).tokens_a_pass >= 1.2


def test_an_answer_in_another_form_of_json_is_drafted_from_its_second_cell_on() -> None:
    page = drafted_page(11)
    answer = json.dumps(json.loads(page.layout), indent=1, ensure_ascii=False)
    assert played("layout", answer, page.hint, 0.06).tokens_a_pass >= 4


def test_cells_without_texts_are_drafted() -> None:
    page = drafted_page(12)
    cells = [{"bbox": cell["bbox"], "category": cell["category"]} for cell in json.loads(page.layout)]
    assert played("layout-only", json.dumps(cells), page.hint, 0.06).tokens_a_pass >= 3


def test_the_first_reading_of_a_page_is_a_hint_for_the_second() -> None:
    page = drafted_page(13)
    assert played("layout", page.layout, hint_of(page.layout), 0.06).tokens_a_pass >= 12


def test_lines_and_divided_words_of_a_hint_are_joined() -> None:
    text = "the harbour engine was measured against the current of the river and the timber mill " * 3
    answer = " ".join(f"{word}{place}" for place, word in enumerate(text.split()))
    words = answer.split()
    lines = [" ".join(words[start : start + 5]) for start in range(0, len(words), 5)]
    divided = [line[:-2] + "-\r\n" + line[-2:] if line[-2:].isalpha() else line for line in lines]
    assert played("text", answer, hint_of(" \r\n".join(divided)), 0.06).tokens_a_pass >= 10


def test_several_pages_at_once_share_what_a_pass_costs() -> None:
    pages = [drafted_page(seed) for seed in range(3)]
    tokenizer = demo_tokenizer()
    costs = RowCosts.linear(0.06)
    drafted = [
        (plain_ids(tokenizer, page.text), PageDrafter(tokenizer, "text", page.hint if hinted else None, GEOMETRY))
        for page, hinted in zip(pages, (True, True, False), strict=True)
    ]
    found = play(drafted, costs, ROWS)
    assert found.speedup >= 1.15


def test_a_page_that_repeats_itself_is_drafted_without_a_hint() -> None:
    answer = " ".join(f"row {number} of the account has 5 entries and no remark\n" for number in range(40))
    assert played("text", answer, None, 0.06).tokens_a_pass >= 3
