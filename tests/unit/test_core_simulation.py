"""The coordinator core under disordered schedules; and the proof that the simulation notices a broken core."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from dotsctl.client.runtime import admission, auto, blame, core, throughput
from dotsctl.client.runtime.auto import AutoChoice
from dotsctl.client.runtime.ledger import Ledger, Request, State
from dotsctl.client.runtime.pace import Pace
from dotsctl.client.runtime.seats import ENCODER
from dotsctl.client.runtime.views import Limits
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.measured_costs import Preference
from dotsctl.protocol.messages import Blank, Message, RequestFailed, Submit
from dotsctl.protocol.parts import Role
from dotsctl.tools.chaos.simulated_workers import BUCKET
from dotsctl.tools.chaos.simulation import BrokenPromise, run_schedule

SCHEDULES = int(os.environ.get("DOTSCTL_TEST_SCHEDULES", "3000"))


def test_disordered_schedules_lose_nothing_and_double_nothing() -> None:
    """A failing seed stands in the message; ``run_schedule(seed)`` plays it again."""
    deaths = done = failed = stale = 0
    for seed in range(SCHEDULES):
        schedule = run_schedule(seed)
        deaths += schedule.real_deaths
        done += schedule.core.counters.done
        failed += schedule.core.counters.failed
        stale += schedule.core.counters.stale_messages
    assert min(deaths, failed, stale) > SCHEDULES / 20, "the schedules are too calm to prove anything"
    assert done > 2 * SCHEDULES


def test_a_schedule_plays_again_in_the_same_way() -> None:
    first, second = run_schedule(1234), run_schedule(1234)
    assert vars(first.core.counters) == vars(second.core.counters)
    assert first.now == second.now


def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    def requeue(self: Ledger, request: Request, now: float) -> None:
        request.state, request.changed_at = State.QUEUED, now
        queue = self._suspects if request.suspect else self._queue_of(request.client)
        queue.appendleft(request)

    monkeypatch.setattr(Ledger, "requeue", requeue)


def _generous_credits(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(ledger: Ledger, limits: Limits, width: int, ready: set[int]) -> Request | None:
        return admission.choose(ledger, replace(limits, credits=limits.credits + 1), width, ready)

    monkeypatch.setattr(core, "choose", choose)


def _miscounted_credits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "outstanding", lambda self: [])


def _forgetful_of_sent_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Custody moves on the encoder's word: what it had sent and not delivered is lost with it."""
    original = core.Coordinator.worker_dead

    def worker_dead(self: core.Coordinator, role: Role, epoch: int, reason: str, now: float) -> None:
        sent = [r for r in self.ledger.in_flight() if r.state is State.SENT and role is Role.ENCODER]
        for request in sent:
            request.state = State.RECEIVED
        original(self, role, epoch, reason, now)

    monkeypatch.setattr(core.Coordinator, "worker_dead", worker_dead)
    monkeypatch.setattr(core.Coordinator, "tick", lambda *_: None)


def _merciless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blame, "SOLO_DEATHS", 0)


def _batch_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "choose", lambda ledger, limits, width, ready: _crowd(ledger, ready))


def _crowd(ledger: Ledger, ready: set[int]) -> Request | None:
    """Suspects are not isolated."""
    if len(ledger.outstanding()) >= 2:
        return None
    if suspect := ledger.next_suspect():
        return ledger.take_suspect() if suspect.place in ready else None
    return ledger.take_next(ready)


def _batch_condemned_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that does not fit beside others is not tried alone."""
    original = core.Coordinator.worker_message

    def worker_message(self: core.Coordinator, role: Role, epoch: int, message: Message, now: float) -> None:
        if isinstance(message, RequestFailed) and message.code is ErrorCode.OOM:
            message = replace(message, code=ErrorCode.INTERNAL)
        original(self, role, epoch, message, now)

    monkeypatch.setattr(core.Coordinator, "worker_message", worker_message)


def _careless_with_swapped_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old encoder is sent away at once, with the page that it has."""
    monkeypatch.setattr(Request, "is_with_encoder", lambda self, epoch: False)


def _confused_about_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages go to the first encoder, whichever they ask for."""
    original = Ledger.add

    def add(self: Ledger, client: bytes, submit: Submit, buffers: list[Buffer], now: float) -> Request:
        request = original(self, client, submit, buffers, now)
        request.place = ENCODER.place
        return request

    monkeypatch.setattr(Ledger, "add", add)


def _deaf_to_blank_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    original = core.Coordinator.worker_message

    def worker_message(self: core.Coordinator, role: Role, epoch: int, message: Message, now: float) -> None:
        if not isinstance(message, Blank):
            original(self, role, epoch, message, now)

    monkeypatch.setattr(core.Coordinator, "worker_message", worker_message)


def _blind_to_page_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page goes to the encoder with fixed page sizes."""
    monkeypatch.setattr(auto, "bucket_of", lambda request, limits, buckets: BUCKET)


def _stubborn_with_a_failing_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that an encoder failed with goes to it again."""
    monkeypatch.setattr(Request, "needs_first", property(lambda self: False, lambda self, value: None), raising=False)


def _pages_blamed_for_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the alternative is the page's failure."""
    monkeypatch.setattr(AutoChoice, "reason_to_fall_back", lambda self, request, role, message: "")


def _taking_the_slower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(names: tuple[str, str], paces: tuple[Pace, Pace], *facts: float) -> Preference | None:
        return throughput.compare(names, (paces[1], paces[0]), *facts)  # type: ignore[arg-type]

    monkeypatch.setattr(auto, "compare", compare)


def _waiting_for_ever_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoChoice, "_turns", lambda self, in_flight: None)


@pytest.mark.parametrize(
    "break_it",
    [
        _blind_to_page_sizes,
        _stubborn_with_a_failing_encoder,
        _pages_blamed_for_the_alternative,
        _taking_the_slower_one,
        _waiting_for_ever_for_its_turn,
        _no_fence,
        _generous_credits,
        _miscounted_credits,
        _forgetful_of_sent_pages,
        _merciless,
        _batch_condemned,
        _batch_condemned_for_memory,
        _deaf_to_blank_pages,
        _careless_with_swapped_encoders,
        _confused_about_encoders,
    ],
)
def test_the_simulation_notices_a_broken_coordinator(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(BrokenPromise, match=r"^seed \d+: "):
        for seed in range(2000):
            run_schedule(seed)
