"""A worker's message costs the coordinator as much with 4,000 requests as with a few."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import RequestState
from dotsctl.tools.dev.bench.coordinator import LIMIT_RATIO, FullCoordinator

PAGES = 20


def steps_of(run: Callable[[], object]) -> int:
    """Number of bytecode instructions that a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def steps_with(requests: int, *, auto: bool) -> int:
    full = FullCoordinator(requests, auto=auto)
    full.read_page()
    return steps_of(lambda: [full.read_page() for _ in range(PAGES)])


@pytest.mark.parametrize("auto", [False, True])
def test_a_message_takes_about_as_many_steps_with_4000_requests_as_with_10(auto: bool) -> None:
    assert steps_with(4000, auto=auto) <= LIMIT_RATIO * steps_with(10, auto=auto)


def test_a_ledger_that_looks_through_all_requests_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_flight(self: Ledger) -> list[object]:
        return [request for request in self.requests.values() if request.state is not RequestState.QUEUED]

    monkeypatch.setattr(Ledger, "in_flight", in_flight)
    assert steps_with(4000, auto=False) > LIMIT_RATIO * steps_with(10, auto=False)
