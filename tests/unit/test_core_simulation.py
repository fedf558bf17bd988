"""The runtime under disordered schedules; and the proof that the simulation notices a broken one."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from dotsctl.client.runtime import (
    admission,
    auto,
    core,
    crash_attribution,
    dispatch,
    machine,
    one_model,
    supervisor,
    throughput,
    timeouts,
)
from dotsctl.client.runtime.auto import AutoChoice
from dotsctl.client.runtime.backlog import Backlog
from dotsctl.client.runtime.delivery import ToWorker
from dotsctl.client.runtime.device_sharing import DeviceSharing
from dotsctl.client.runtime.dispatch import Dispatcher
from dotsctl.client.runtime.ending import Ending
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.runtime.pace import Pace
from dotsctl.client.runtime.readiness import Readiness
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.supervisor import Supervisor
from dotsctl.client.runtime.swap import EncoderSwaps
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import DECODER, ENCODER, WorkerSlot
from dotsctl.client.runtime.worker_table import SwapTrial, Worker, WorkerState, WorkerTable
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.messages import (
    Blank,
    CancelRequest,
    Gather,
    HintPage,
    HintRequest,
    Message,
    Ready,
    RequestFailed,
    Submit,
    SwapResult,
)
from dotsctl.protocol.parts import Role
from dotsctl.tools.dev.chaos.promises import BrokenPromise
from dotsctl.tools.dev.chaos.simulated_workers import BUCKET
from dotsctl.tools.dev.chaos.simulation import run_schedule

from tests.conftest import sample

SCHEDULES = sample(1800, of=10_000)
"""Schedules with fixed seeds."""
NEW_SCHEDULES = 200
"""Schedules with seeds that no run before had."""
NOTICED_WITHIN = 2000


def play(seeds: range) -> dict[str, int]:
    """Play schedules and count what happened in them; a failing seed stands in the message."""
    counts = dict.fromkeys(("deaths", "done", "failed", "stale", "swaps", "ended", "late hints", "hints again"), 0)
    for seed in seeds:
        schedule = run_schedule(seed)
        counts["deaths"] += schedule.workers.real_deaths
        counts["done"] += schedule.core.counters.done
        counts["failed"] += schedule.core.counters.failed
        counts["stale"] += schedule.core.counters.stale_messages
        counts["swaps"] += schedule.swaps.num_answers
        counts["ended"] += schedule.machine.ending.bye is not None
        counts["late hints"] += schedule.hints.num_passed_on
        counts["hints again"] += schedule.hints.num_sent_again
    return counts


@pytest.mark.sampled
def test_disordered_schedules_lose_nothing_and_double_nothing() -> None:
    """``run_schedule(seed)`` plays a failing seed again."""
    counts = play(range(SCHEDULES))
    assert min(counts.values()) > SCHEDULES / 20, f"the schedules are too calm to prove anything: {counts}"
    assert counts["done"] > 2 * SCHEDULES


def test_schedules_that_were_never_played_before_keep_all_promises() -> None:
    first = time.time_ns() // 1_000_000
    play(range(first, first + NEW_SCHEDULES))


def test_a_schedule_plays_again_in_the_same_way() -> None:
    first, second = run_schedule(1234), run_schedule(1234)
    assert vars(first.core.counters) == vars(second.core.counters)
    assert first.now == second.now


def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    def requeue(self: Ledger, request: Request, now: float) -> None:
        request.state, request.changed_at = RequestState.QUEUED, now
        if request.suspect:
            self._suspects.appendleft(request)
        else:
            self._queue.add(request, first=True)

    monkeypatch.setattr(Ledger, "requeue", requeue)


def _generous_credits(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(ledger: Ledger, limits: Limits, width: int, ready: set[int]) -> Request | None:
        return admission.choose(ledger, replace(limits, credits=limits.credits + 1), width, ready)

    monkeypatch.setattr(dispatch, "choose", choose)


def _miscounted_credits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "outstanding", lambda self: [])


def _forgetful_of_sent_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Custody moves on the encoder's word: what it had sent and not delivered is lost with it."""
    original = core.Coordinator.worker_dead

    def worker_dead(self: core.Coordinator, role: Role, epoch: int, reason: str, now: float, **causes: bool) -> None:
        sent = [r for r in self.ledger.in_flight() if r.state is RequestState.SENT and role is Role.ENCODER]
        for request in sent:
            request.state = RequestState.RECEIVED
        original(self, role, epoch, reason, now, **causes)

    monkeypatch.setattr(core.Coordinator, "worker_dead", worker_dead)
    monkeypatch.setattr(core.Coordinator, "tick", lambda *_: None)


def _merciless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_attribution, "SOLO_DEATHS", 0)


def _batch_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "choose", lambda ledger, limits, width, ready: _crowd(ledger, ready))


def _crowd(ledger: Ledger, ready: set[int]) -> Request | None:
    """Suspects are not isolated."""
    if len(ledger.outstanding()) >= 2:
        return None
    if suspect := ledger.next_suspect():
        return ledger.take_suspect() if ledger.encoder_index_of(suspect.lane) in ready else None
    return ledger.take_next(ready)


def _batch_condemned_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that does not fit together with others is not retried alone."""
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
    monkeypatch.setattr(Ledger, "encoder_index_of", lambda self, lane: ENCODER.index)


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


def _failures_of_the_alternative_count_against_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the alternative is the page's failure."""
    monkeypatch.setattr(AutoChoice, "reason_to_fall_back", lambda self, request, role, message: "")


def _taking_the_slower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(names: tuple[str, str], paces: tuple[Pace, Pace], *facts: float) -> Preference | None:
        return throughput.compare(names, (paces[1], paces[0]), *facts)  # type: ignore[arg-type]

    monkeypatch.setattr(auto, "compare", compare)


def _waiting_for_ever_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoChoice, "_turns", lambda self, in_flight: None)


# --- supervision ---


def _no_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan_restart(self: Supervisor, worker: Worker, code: int | None, now: float) -> None:
        worker.state = WorkerState.DORMANT

    monkeypatch.setattr(Supervisor, "_plan_restart", plan_restart)


def _no_time_for_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "TRACEBACK_S", 0.1)


def _traceback_of_a_process_that_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Supervisor.kill

    def kill(self: Supervisor, worker: Worker, now: float, reason: str) -> None:
        worker.has_greeted = True
        original(self, worker, now, reason)

    monkeypatch.setattr(Supervisor, "kill", kill)


def _blind_to_stopped_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "watch_stopped", lambda self, stopped, now: None)


def _no_time_for_stopped_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Supervisor.watch_stopped

    def watch_stopped(self: Supervisor, stopped: set[tuple[Role, int]], now: float) -> None:
        original(self, stopped, now)
        original(self, stopped, now + 20.0)

    monkeypatch.setattr(Supervisor, "watch_stopped", watch_stopped)


def _second_process_in_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    original = RuntimeMachine.advance

    def advance(self: RuntimeMachine, now: float) -> None:
        original(self, now)
        if int(now) == 7 and len(self.table.rows) == len(self.table.slots) and not self.ending.is_complete:
            self.table.in_slot(DECODER).state = WorkerState.BACKOFF
            self.table.in_slot(DECODER).is_alive = False

    monkeypatch.setattr(RuntimeMachine, "advance", advance)


def _killing_what_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    original = WorkerTable.launch

    def launch(self: WorkerTable, slot: WorkerSlot, trial: SwapTrial | None = None) -> Worker:
        worker = original(self, slot, trial)
        worker.kill_at = 5.0
        return worker

    monkeypatch.setattr(WorkerTable, "launch", launch)


def _processes_that_survive_a_kill_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "undead", lambda self, now: [])
    monkeypatch.setattr(Supervisor, "next_due", lambda self: float("inf"))


def _restart_against_a_fault_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed_for_good(self: RuntimeMachine, worker: Worker, problem: str, exit_code: int, now: float) -> None:
        if worker.trial is not None:
            self._swaps.failed(worker, worker.trial, problem, now)

    monkeypatch.setattr(RuntimeMachine, "failed_for_good", failed_for_good)
    original = Supervisor._plan_restart  # which would not start a process again that ended itself in its load
    monkeypatch.setattr(Supervisor, "_plan_restart", lambda self, worker, _, now: original(self, worker, None, now))


def _endless_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "end_silent_loads", lambda self, now: None)
    monkeypatch.setattr(Worker, "is_loading", False)


# --- swaps ---


def _swap_to_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_model.Model, "difference", lambda self, ready: "")


def _failed_trial_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: EncoderSwaps, worker: Worker, trial: SwapTrial, problem: str, now: float) -> None:
        self._answer_failure(trial.client, worker.slot.index, problem)

    monkeypatch.setattr(EncoderSwaps, "failed", failed)


def _swap_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EncoderSwaps, "died", lambda self, worker, trial, tail, now: None)


def _two_swaps_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerTable, "on_trial", property(lambda self: None))


def _restart_of_the_old_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "with_encoder", lambda config, choice, place: config)


def _swap_before_the_new_one_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    original = RuntimeMachine._configure

    def configure(self: RuntimeMachine, worker: Worker) -> None:
        if worker.trial is not None:
            self._swaps._answer_failure(worker.trial.client, worker.slot.index, "no")
            self._swaps._answer(worker.trial.client, SwapResult(True, str(worker.trial.choice), ""))
        original(self, worker)

    monkeypatch.setattr(RuntimeMachine, "_configure", configure)


def _replaced_encoders_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "_let_go", lambda self: None)


# --- backoff ---


def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_pause(monkeypatch, lambda worker: 0.0)


def _equal_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_pause(monkeypatch, lambda worker: 0.5)


def _endless_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_pause(monkeypatch, lambda worker: 10.0 * worker.failures)


def _with_pause(monkeypatch: pytest.MonkeyPatch, pause: Callable[[Worker], float]) -> None:
    original = Supervisor._plan_restart

    def plan_restart(self: Supervisor, worker: Worker, code: int | None, now: float) -> None:
        original(self, worker, code, now)
        worker.start_at = now + pause(worker)

    monkeypatch.setattr(Supervisor, "_plan_restart", plan_restart)


def _restarts_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Supervisor._plan_restart

    def plan_restart(self: Supervisor, worker: Worker, code: int | None, now: float) -> None:
        worker.failures = min(worker.failures, 2)
        original(self, worker, code, now)

    monkeypatch.setattr(Supervisor, "_plan_restart", plan_restart)


def _deaths_that_are_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "progress", lambda self: None)


# --- clients and credits ---


def _deaf_to_leaving_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuntimeMachine, "client_gone", lambda self, client, now: None)


def _bytes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "outstanding_bytes", lambda ledger, width: 0)


def _forgotten_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read at once never gets the message."""
    monkeypatch.setattr(Backlog, "append", lambda self, message: None)


def _no_page_is_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_attribution, "SOLO_DEATHS", 99)


# --- signals ---


def _end_at_the_first_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Ending.stop

    def stop(self: Ending, reason: str, now: float, *, at_once: bool) -> None:
        original(self, reason, now, at_once=True)

    monkeypatch.setattr(Ending, "stop", stop)


def _deaf_to_the_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Ending.stop

    def stop(self: Ending, reason: str, now: float, *, at_once: bool) -> None:
        original(self, reason, now, at_once=at_once and self.bye is None)

    monkeypatch.setattr(Ending, "stop", stop)


def _deaf_to_sigquit(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Ending.stop

    def stop(self: Ending, reason: str, now: float, *, at_once: bool) -> None:
        original(self, reason, now, at_once=at_once and self.bye is not None)

    monkeypatch.setattr(Ending, "stop", stop)


def _new_pages_after_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    original = core.Coordinator.submit

    def submit(self: core.Coordinator, client: bytes, message: Submit, buffers: list[Buffer], now: float) -> None:
        reason, self.stopping = self.stopping, ""
        original(self, client, message, buffers, now)
        self.stopping = reason

    monkeypatch.setattr(core.Coordinator, "submit", submit)


# --- the readiness page ---


def _ready_without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get pages when they have loaded, and read the readiness page later."""
    original = Readiness._partner

    def partner(self: Readiness, worker: Worker) -> tuple[Worker, Ready] | None:
        found = original(self, worker)
        return (found[0], replace(found[1], reads_pages=False)) if found else None

    monkeypatch.setattr(Readiness, "_partner", partner)


def _readiness_page_that_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was lost with a worker, or on its way, is waited for."""
    monkeypatch.setattr(Readiness, "ended", lambda self, role, epoch, now: False)


# --- hints ---


def _hints_that_a_retry_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Ledger.requeue

    def requeue(self: Ledger, request: Request, now: float) -> None:
        request.submit = replace(request.submit, options=replace(request.submit.options, hint=None))
        original(self, request, now)

    monkeypatch.setattr(Ledger, "requeue", requeue)


def _hints_that_are_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "HintRequest", lambda *_: CancelRequest(0, 0))


def _hints_for_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    original = core.Coordinator.hint

    def hint(self: core.Coordinator, client: bytes, message: HintPage, now: float) -> None:
        others = self.ledger.of_client(client)
        index = others[0].submit.page_index if others else message.page_index
        original(self, client, replace(message, page_index=index), now)

    monkeypatch.setattr(core.Coordinator, "hint", hint)


def _hints_for_the_attempt_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "HintRequest", lambda request_id, _, hint: HintRequest(request_id, 1, hint))


# --- one device for both halves ---


def _gathering_goes_on_when_nothing_more_is_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    original = DeviceSharing.update

    def update(self: DeviceSharing, now: float) -> ToWorker | None:
        told = original(self, now)
        return told if told is not None and told.message != Gather(0.0) else None

    monkeypatch.setattr(DeviceSharing, "update", update)


def _streaming_pages_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "num_streaming", property(lambda self: 0, lambda self, value: None), raising=False)


def _gathering_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceSharing, "_gather_s", lambda self, now: 60.0)


# --- faults of the GPU ---


def _faults_of_the_gpu_make_suspects(monkeypatch: pytest.MonkeyPatch) -> None:
    original = core.Coordinator.worker_dead

    def worker_dead(
        self: core.Coordinator,
        role: Role,
        epoch: int,
        reason: str,
        now: float,
        *,
        by_page: bool = True,
        is_gpu_fault: bool = False,
    ) -> None:
        original(self, role, epoch, reason, now, by_page=by_page or is_gpu_fault)

    monkeypatch.setattr(core.Coordinator, "worker_dead", worker_dead)


def _no_cooling_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "COOL_DOWN", 0.0)


# --- sleep ---


def _sleep_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LONGEST_TICK_S", 1e9)


@pytest.mark.parametrize(
    "break_it",
    [
        _blind_to_page_sizes,
        _stubborn_with_a_failing_encoder,
        _failures_of_the_alternative_count_against_pages,
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
        _no_restarts,
        _no_time_for_a_traceback,
        _traceback_of_a_process_that_has_not_begun,
        _blind_to_stopped_processes,
        _no_time_for_stopped_processes,
        _second_process_in_a_slot,
        _killing_what_is_healthy,
        _processes_that_survive_a_kill_wait_for_ever,
        _restart_against_a_fault_that_stays,
        _endless_loads,
        _deaf_to_leaving_clients,
        _bytes_do_not_count,
        _forgotten_backlog,
        _no_page_is_condemned,
        _swap_to_another_model,
        _failed_trial_stays,
        _swap_without_an_answer,
        _two_swaps_at_once,
        _restart_of_the_old_encoder,
        _swap_before_the_new_one_is_ready,
        _replaced_encoders_stay,
        _no_pauses,
        _equal_pauses,
        _endless_pauses,
        _restarts_without_end,
        _deaths_that_are_never_forgotten,
        _end_at_the_first_signal,
        _deaf_to_the_second_signal,
        _deaf_to_sigquit,
        _new_pages_after_a_signal,
        _ready_without_reading,
        _readiness_page_that_is_never_repeated,
        _sleep_is_silence,
        _hints_that_a_retry_forgets,
        _hints_that_are_kept_back,
        _hints_for_another_page,
        _hints_for_the_attempt_before,
        _gathering_goes_on_when_nothing_more_is_coming,
        _streaming_pages_are_gathered,
        _gathering_for_a_minute,
        _faults_of_the_gpu_make_suspects,
        _no_cooling_down,
    ],
)
def test_the_simulation_notices_a_broken_runtime(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(BrokenPromise, match=r"^seed \d+: "):
        play(range(NOTICED_WITHIN))
