"""Row 25: duplicate, reordered and stale messages of all kinds, in any order that hypothesis thinks of."""

from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import ToClient
from dotsctl.client.runtime.request import RequestState
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import (
    CancelJob,
    Consumed,
    Decoded,
    Done,
    Dropped,
    Encoded,
    PageFailed,
    PageResult,
    Ready,
    Received,
    RequestFailed,
    Submit,
)
from dotsctl.protocol.parts import FinishReason, ImageHeader, ImageKind, PageOptions, Role
from hypothesis import given, settings
from hypothesis import strategies as st

CREDITS = 2
PAGES = 4
CLIENT = b"client"
GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
IMAGE = ImageHeader(ImageKind.FILE, 1, 280, 280)
OPTIONS = PageOptions("text", None, None, None)
WORDS = ("encoded", "received", "consumed", "decoded", "done", "dropped", "failed")

event = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, PAGES - 1), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, PAGES - 1), st.just(0)),
    st.tuples(st.sampled_from(WORDS), st.integers(1, PAGES), st.integers(1, 3)),
    st.tuples(st.just("death"), st.sampled_from([0, 1]), st.just(0)),
)


def say(core: Coordinator, epochs: dict[Role, int], word: str, request_id: int, attempt: int, now: float) -> None:
    """A worker's message, whether or not it makes sense now."""
    messages = {
        "encoded": (Role.ENCODER, Encoded(request_id, attempt, 32)),
        "received": (Role.DECODER, Received(request_id, attempt)),
        "consumed": (Role.DECODER, Consumed(request_id, attempt)),
        "decoded": (Role.DECODER, Decoded(request_id, attempt, "x", 1, None)),
        "done": (Role.DECODER, Done(request_id, attempt, "x", FinishReason.STOP, (GEOMETRY,), 1, 5, 2, {})),
        "dropped": (Role.ENCODER, Dropped(request_id, attempt)),
        "failed": (Role.ENCODER, RequestFailed(request_id, attempt, ErrorCode.BAD_IMAGE, "damaged")),
    }
    role, message = messages[word]
    core.worker_message(role, epochs[role], message, now)


def make_ready(core: Coordinator, epochs: dict[Role, int], role: Role, now: float) -> None:
    epochs[role] = core.table.launch(WorkerSlot(role)).epoch
    core.worker_ready(WorkerSlot(role), epochs[role], Ready("f" * 64, 8, f"d.{epochs[role]}", 2, ("text",), 0.0), now)


@settings(max_examples=250, deadline=None)
@given(st.lists(event, max_size=80))
def test_no_order_of_messages_breaks_the_credits_or_answers_a_page_twice(script: list[tuple[str, int, int]]) -> None:
    core, epochs = Coordinator(Limits(credits=CREDITS), ["fake"], "fake"), dict[Role, int]()
    for role in Role:
        make_ready(core, epochs, role, 0.0)
    accepted: set[int] = set()
    ended: list[int] = []
    for now, (word, number, attempt) in enumerate(script, 1):
        if word == "submit":
            core.submit(CLIENT, Submit("job", number, str(number), (IMAGE,), OPTIONS, True), [b"x"], now)
        elif word == "cancel":
            core.cancel(CLIENT, CancelJob("job", number), now)
        elif word == "death":
            role = list(Role)[number]
            core.worker_dead(role, epochs[role], "signal SIGKILL", now)
            make_ready(core, epochs, role, now)
        else:
            say(core, epochs, word, number, attempt, now)
        accepted |= core.ledger.requests.keys()
        messages = [c.message for c in core.take_commands() if isinstance(c, ToClient)]
        ended += [m.request_id for m in messages if isinstance(m, PageResult | PageFailed)]
        outstanding = sum(RequestState.QUEUED < r.state < RequestState.DECODING for r in core.ledger.requests.values())
        assert 0 <= outstanding <= CREDITS
        assert len(ended) == len(set(ended)), "a page was answered twice"
        assert not set(ended) & core.ledger.requests.keys(), "an answered page is still in the ledger"
    assert accepted - core.ledger.requests.keys() == set(ended), "a page disappeared without an answer"
