"""The room of a client, shared between its calls."""

from collections import Counter

from dotsctl.client.connection.window import Window
from hypothesis import given
from hypothesis import strategies as st

JOBS = ("a", "b", "c", "d")
steps = st.lists(st.tuples(st.sampled_from(["take", "release", "withdraw", "forget"]), st.sampled_from(JOBS)))


@given(st.integers(1, 4), steps)
def test_there_are_never_more_pages_than_places_and_no_place_is_lost(size: int, course: list[tuple[str, str]]) -> None:
    window = Window(size)
    woken: list[str] = []
    taken: Counter[str] = Counter()
    for action, job in course:
        if action == "take" and window.take(job, lambda job=job: woken.append(job)):  # type: ignore[misc]
            taken[job] += 1
        elif action == "release" and taken[job]:
            taken[job] -= 1
            window.release(job)
        elif action == "withdraw":
            window.withdraw(job)
        elif action == "forget":
            taken[job] = 0
            window.forget(job)
        assert taken.total() <= size
    for job in JOBS:
        window.forget(job)
    assert [window.take("last", print) for _ in range(size + 1)] == [True] * size + [False]


def test_places_are_given_in_the_order_of_asking() -> None:
    window = Window(1)
    woken: list[str] = []
    assert window.take("a", lambda: woken.append("a"))
    for job in ("b", "c", "b"):
        assert not window.take(job, lambda job=job: woken.append(job))  # type: ignore[misc]
    window.release("a")
    assert not window.take("a", lambda: woken.append("a")), "the others were first"
    assert woken == ["b"] and window.take("b", print)
    window.release("b")
    assert woken == ["b", "c"] and window.take("c", print)


def test_a_place_that_nobody_comes_for_goes_to_the_next() -> None:
    window = Window(1)
    woken: list[str] = []
    assert window.take("a", print)
    for job in ("b", "c"):
        assert not window.take(job, lambda job=job: woken.append(job))  # type: ignore[misc]
    window.release("a")
    window.withdraw("b")
    assert woken == ["b", "c"]
    assert not window.take("b", print) and window.take("c", print)
