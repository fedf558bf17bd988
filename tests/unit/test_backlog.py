"""Row 12: what is kept for a client that does not read, and in how few messages."""

from dotsctl.client.runtime import backlog
from dotsctl.client.runtime.backlog import JOINED_CHARACTERS, Backlog
from dotsctl.protocol import codec
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import Message, PageResult, PageTokens, Restarted
from dotsctl.protocol.parts import FinishReason
from hypothesis import given, settings
from hypothesis import strategies as st

GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))


def tokens(page: int, attempt: int, text: str, count: int = 1) -> PageTokens:
    return PageTokens("job", page, page, attempt, text, count, GEOMETRY if count > 1 else None)


def result(page: int, attempt: int, text: str) -> PageResult:
    return PageResult("job", page, page, attempt, text, FinishReason.STOP, (), 1, 5, 2, "fake", "fake", {})


def taken(kept: Backlog) -> list[Message]:
    messages = []
    while kept:
        messages.append(codec.decode(kept.head()).message)
        kept.drop_head()
    return messages


def test_tokens_of_pages_that_are_decoded_together_are_joined_page_by_page() -> None:
    kept = Backlog()
    for step in range(1000):
        for page in range(8):
            kept.append(tokens(page, 1, f"{page}{step} "))
    assert len(kept) == 8
    texts = {m.page_index: m.text for m in taken(kept) if isinstance(m, PageTokens)}
    assert texts == {page: "".join(f"{page}{step} " for step in range(1000)) for page in range(8)}


events = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["tokens", "restart", "result", "take"])), max_size=60)


@settings(max_examples=150, deadline=None)
@given(events)
def test_every_text_arrives_once_in_its_order_before_its_result(script: list[tuple[int, str]]) -> None:
    kept, attempts = Backlog(), {page: 1 for page in range(3)}
    expected: dict[tuple[int, int], str] = {}
    seen: list[Message] = []
    for number, (page, event) in enumerate(script):
        key = (page, attempts[page])
        if event == "tokens":
            expected[key] = expected.get(key, "") + f"{number},"
            kept.append(tokens(page, attempts[page], f"{number},"))
        elif event == "restart":
            attempts[page] += 1
            kept.append(Restarted("job", page, page, attempts[page], "the encoder died"))
        elif event == "result":
            kept.append(result(page, attempts[page], "whole"))
            attempts[page] += 100  # another request, for this test
        elif kept:
            seen.append(codec.decode(kept.head()).message)
            if number % 2:  # or the client does not take it yet
                kept.drop_head()
            else:
                seen.pop()
    seen += taken(kept)
    texts: dict[tuple[int, int], str] = {}
    ended: set[tuple[int, int]] = set()
    for message in seen:
        key = (message.request_id, message.attempt)  # type: ignore[union-attr]
        if isinstance(message, PageTokens):
            assert key not in ended, "tokens after their result"
            texts[key] = texts.get(key, "") + message.text
        elif isinstance(message, PageResult):
            ended.add(key)
    assert texts == expected


def test_numbers_and_geometry_of_joined_tokens_are_kept() -> None:
    kept = Backlog()
    for message in (tokens(1, 1, "a", 3), tokens(1, 1, "b"), tokens(1, 1, "c")):
        kept.append(message)
    assert taken(kept) == [PageTokens("job", 1, 1, 1, "abc", 5, GEOMETRY)]


def test_a_long_text_is_cut_and_a_backlog_that_is_too_long_drops_the_client() -> None:
    kept = Backlog()
    for _ in range(10):
        kept.append(tokens(1, 1, "x" * (JOINED_CHARACTERS // 2)))
    assert len(kept) == 5
    assert not kept.is_too_long
    piece = "x" * (1 << 20)
    for page in range(backlog.MAX_CHARACTERS >> 20):
        kept.append(result(page, 1, piece))
    assert kept.is_too_long
    for _ in range(10):
        kept.drop_head()
    assert not kept.is_too_long
