from dotsctl.decoder_worker.drafts import DEEPEST, Drafter, accepted
from hypothesis import given, settings
from hypothesis import strategies as st

TOKENS = st.lists(st.integers(0, 6), max_size=40)


def passes(truth: list[int], hint: list[int], depth: int) -> tuple[list[int], int]:
    """Decode ``truth`` greedily with drafts; the text and the passes it took."""
    drafter, out, count = Drafter(hint), [], 0
    while len(out) < len(truth):
        draft = drafter.propose(min(depth, len(truth) - len(out) - 1))
        best = [truth[len(out) + i] if len(out) + i < len(truth) else -1 for i in range(len(draft) + 1)]
        tokens = accepted(draft, best)
        drafter.learn(draft, tokens)
        out += tokens
        count += 1
    return out, count


@settings(max_examples=100, deadline=None)
@given(TOKENS, TOKENS, st.integers(0, 10))
def test_a_hint_never_changes_the_text_and_never_costs_a_pass(truth: list[int], hint: list[int], depth: int) -> None:
    out, count = passes(truth, hint, depth)
    assert out == truth
    assert count <= len(truth)


@settings(max_examples=100, deadline=None)
@given(TOKENS, st.integers(-3, 70))
def test_a_draft_is_never_longer_than_asked(hint: list[int], depth: int) -> None:
    assert len(Drafter(hint).propose(depth)) <= max(0, depth)


@settings(max_examples=60, deadline=None)
@given(TOKENS, TOKENS)
def test_what_is_kept_is_the_correct_prefix_and_one_token(draft: list[int], best: list[int]) -> None:
    best = best + [7] * (len(draft) + 1)
    kept = accepted(draft, best)
    assert kept == best[: len(kept)]
    assert kept[:-1] == draft[: len(kept) - 1]
    assert len(kept) == len(draft) + 1 or draft[len(kept) - 1] != best[len(kept) - 1]


def test_without_a_hint_nothing_is_drafted_even_when_the_text_repeats() -> None:
    drafter = Drafter([])
    drafter.learn([], [1, 2, 3, 4] * 10)
    assert drafter.propose(8) == []


def test_a_right_hint_saves_most_passes() -> None:
    truth = [i * i % 97 for i in range(300)]
    assert passes(truth, truth, 15)[1] <= 300 / 12


def test_a_hint_with_every_tenth_token_wrong_still_saves_more_than_half() -> None:
    truth = [(i * i + i // 7) % 89 for i in range(300)]
    hint = [200 if i % 10 == 9 else token for i, token in enumerate(truth)]
    assert passes(truth, hint, 15)[1] <= 100


def test_a_hint_that_lacks_a_passage_is_found_again_behind_it() -> None:
    truth = list(range(400))
    hint = truth[:100] + truth[250:]
    assert passes(truth, hint, 15)[1] <= 150 + 40


def test_what_repeats_in_the_answer_but_not_in_the_hint_is_drafted_too() -> None:
    skeleton = [900, 901, 902, 903, 904, 905]
    truth = [token for i in range(40) for token in [*skeleton, i]]
    assert passes(truth, list(range(40)), 15)[1] <= len(truth) / 2


def test_drafts_of_a_wrong_hint_become_short() -> None:
    drafter = Drafter(list(range(500, 600)))
    for token in range(10):
        drafter.learn(drafter.propose(DEEPEST), [token])
    assert len(drafter.propose(DEEPEST)) <= 1
