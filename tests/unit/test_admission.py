"""Which page may go now: each encoder has its credits, bytes count for all, and a suspect waits for its encoder."""

from dotsctl.client.runtime.admission import choose
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.views import Limits
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions
from hypothesis import given
from hypothesis import strategies as st

OPTIONS = PageOptions("text", None, None, None)
IMAGE = ImageHeader(ImageKind.FILE, 1, 280, 280)
WIDTH = 8
PAGE_BYTES = 100 * WIDTH * 4


def filled(places: list[int]) -> Ledger:
    """A page for each of these places of encoders."""
    ledger = Ledger()
    for index, place in enumerate(places):
        ledger.add(b"client", Submit("job", index, "", (IMAGE,), OPTIONS, False, place), [], 0.0)
    return ledger


def dispatch(ledger: Ledger, limits: Limits, ready: set[int]) -> list[Request]:
    """All that may go."""
    sent = []
    while request := choose(ledger, limits, WIDTH, ready):
        request.state = RequestState.ENCODING
        sent.append(request)
    return sent


@given(st.lists(st.integers(0, 3), max_size=20), st.sets(st.integers(0, 3)), st.integers(1, 3))
def test_each_ready_encoder_gets_as_many_pages_as_it_has_credits(places: list[int], ready: set[int], k: int) -> None:
    sent = [request.submit.encoder for request in dispatch(filled(places), Limits(credits=k), ready)]
    assert {place: sent.count(place) for place in range(4)} == {
        place: min(k, places.count(place)) if place in ready else 0 for place in range(4)
    }


def test_the_bytes_of_all_encoders_count_together_and_one_page_may_always_pass() -> None:
    assert len(dispatch(filled([0, 1, 1]), Limits(credits=2, credit_bytes=PAGE_BYTES), {0, 1})) == 1
    assert len(dispatch(filled([0, 1, 1]), Limits(credits=2, credit_bytes=PAGE_BYTES + 1), {0, 1})) == 2


def test_a_suspect_waits_for_its_encoder_and_then_runs_alone() -> None:
    ledger = filled([1, 0])
    suspect, other = dispatch(ledger, Limits(), {0, 1})
    for request in (suspect, other):
        request.suspect = request is suspect
        ledger.requeue(request, 1.0)
    assert dispatch(ledger, Limits(), {0}) == []
    assert dispatch(ledger, Limits(), {0, 1}) == [suspect]
    suspect.suspect = False
    assert dispatch(ledger, Limits(), {0, 1}) == [other]
