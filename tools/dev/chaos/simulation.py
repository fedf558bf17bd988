"""Seeded schedules for the runtime: simulated clients and processes, and a network that delays, loses, reorders.

A schedule is one ``random.Random(seed)``: how many pages, how long everything takes, which messages are lost, when
which process dies or is stopped, which page kills its worker, which encoders are requested, which signals come.
:func:`run_schedule` plays it to the end with a simulated clock, in place of ``loop.py``, and checks the promises of the
runtime after every turn; a broken one raises :class:`BrokenPromise` with the seed.
"""

import logging
import random
import signal
from functools import partial
from pathlib import Path

from dotsctl.client.runtime.auto import MAX_FAILURES
from dotsctl.client.runtime.delivery import (
    Abandon,
    Announce,
    Command,
    Compared,
    Release,
    ReportStatus,
    Signal,
    Spawn,
    ToClient,
    ToWorker,
)
from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.settings.runtime_config import AutoEncoders, PluginChoice, RuntimeConfig
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import (
    Accepted,
    HintRequest,
    Message,
    PageFailed,
    PageResult,
    PageTokens,
    Restarted,
    SwapResult,
)
from dotsctl.protocol.parts import Role
from dotsctl.tools.dev.chaos.hint_promises import HintPromises
from dotsctl.tools.dev.chaos.process_promises import LATE_S, SupervisionPromises, SwapPromises
from dotsctl.tools.dev.chaos.promises import BrokenPromise, PagePromises
from dotsctl.tools.dev.chaos.schedule_plan import FOREVER_S, MAX_STARTS, Alternative, Clock, SchedulePlan
from dotsctl.tools.dev.chaos.simulated_clients import SimulatedClients
from dotsctl.tools.dev.chaos.simulated_workers import ALTERNATIVE_SLOT, DYING, SimulatedWorkers

ENCODER_FAILED = ("the encoder died", "encoder ")
"""Beginnings of the reasons for which a page is read again after an encoder's failure."""
FAILING = (*DYING, Alternative.FAILS, Alternative.REFUSES, Alternative.SHRINKS)
"""Alternatives that read no page."""
LONGEST_S = 20_000.0
"""Simulated time after which a schedule that is not finished has lost something."""
SETTLED_S = 90.0
"""Simulated time in which all trials, retirements and restarts have come to their end."""
SLEEP_S = 5000.0
MOST_ATTEMPTS = 40
"""Attempts of a page, after which it should have been given up."""
MOST_TURNS = 1000
"""Turns without any time between them after which the loop spins."""
RUNTIME_LOG = logging.getLogger("dotsctl.client.runtime")


def config_of(plan: SchedulePlan) -> RuntimeConfig:
    """The configuration of a simulated runtime."""
    encoders = [PluginChoice("simulated", {"place": str(place)}) for place in range(plan.encoders)]
    return RuntimeConfig(
        instance="simulated",
        model_name="simulated",
        model="",
        encoder=encoders[0],
        decoder=PluginChoice("simulated"),
        further_encoders=tuple(encoders[1:]),
        auto=AutoEncoders(idle_s=10.0) if plan.alternative else None,
        credit_bytes=plan.credit_bytes,
        load_timeout_s=30.0,
        stall_timeout_s=20.0,
        page_timeout_s=4000.0,
        max_starts=MAX_STARTS,
    )


class Schedule:
    """One run of the runtime through one plan."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.plan = plan = SchedulePlan.draw(rng)
        self._clock, self._rng = Clock(), rng
        self.machine = RuntimeMachine(config_of(plan), Path("log"), "simulated", 0.0)
        self.core = self.machine.core
        self.workers = SimulatedWorkers(plan, rng, self._clock, self.machine)
        self.hints = HintPromises(self.machine)
        self.clients = SimulatedClients(plan, rng, self._clock, self.machine, self._read, self.hints)
        self.pages = PagePromises(plan, self.machine, self.workers)
        self.swaps = SwapPromises(plan, self.machine, self.workers, list(self.core.encoder_names))
        self.supervision = SupervisionPromises(plan, self._clock, self.machine, self.workers)
        self._answers: dict[int, list[Message]] = {page: [] for page in range(plan.clients * plan.pages)}
        self._attempts: dict[int, int] = {}
        self._accepted: set[int] = set()
        self._num_signals = 0
        self._may_end_now = False
        """Whether the signals so far end the runtime before its pages are read."""
        self._settled_at = FOREVER_S
        """The time when the schedule ends."""
        self._turns = 0

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return self._clock.now

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play to the end; raises BrokenPromise."""
        at, plan, rng = self._clock.at, self.plan, self._rng
        self.clients.begin()
        for _ in range(plan.deaths):
            at(rng.uniform(0, 30), self.workers.kill_any)
        for delay_s in plan.gpu_faults:
            at(delay_s, self.workers.fault_of_gpu)
        for duration_s in plan.stops:
            at(rng.uniform(0, 20), partial(self.workers.stop_any, duration_s))
        for delay_s, number in plan.signals:
            at(delay_s, partial(self._signal, number))
        if plan.sleep_at < FOREVER_S:
            at(plan.sleep_at, self._sleep)
        self._carry_out()
        while not self.machine.ending.is_complete and self.now < self._settled_at:
            if self.now > LONGEST_S:
                raise BrokenPromise(f"pages {self._unanswered()} have no answer at {self.now:.0f} s")
            self._turn()
            if self._settled_at == FOREVER_S and not self._unanswered():
                self._settled_at = max(self.now, 30.0) + SETTLED_S if plan.swaps else self.now
        self.clients.unblock_all()
        self._check_end()

    def _turn(self) -> None:
        """One turn of the loop: an event, or the time at which something is due."""
        before, machine = self.now, self.machine
        self._clock.step(machine.next_due)
        self._turns = self._turns + 1 if self.now == before else 0
        if self._turns > MOST_TURNS:
            raise BrokenPromise(f"the loop spins at {self.now:.3f} s: something is due and never done")
        machine.advance(self.now)
        if self.now >= machine.next_tick:
            machine.tick(self.workers.stopped, self.now)
            self.clients.peers.ping_all()
        self._carry_out()
        for promises in (self.pages, self.swaps, self.supervision, self.hints):
            promises.after_turn()
        for name in self.clients.left_since(self.now - LATE_S):
            if not self.supervision.has_slept and self.core.ledger.of_client(name):
                raise BrokenPromise(f"{name!r} is gone for {LATE_S:g} s, and its pages are still read")

    def _carry_out(self) -> None:
        self.clients.peers.flush()
        while commands := self.machine.take_commands(self.now):
            for command in commands:
                self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case ToClient():
                self._check_client(command)
                self.clients.peers.send(command.client, command.message)
            case ToWorker():
                self.swaps.tell(command)
                self.pages.encode(command)
                self.hints.tell(command)
                if not isinstance(command.message, HintRequest):  # a decoder's answer does not depend on it
                    self.workers.tell(command.role, command.epoch, command.message)
            case Spawn():
                self.supervision.spawn(command)
                try:
                    self.workers.spawn(command)
                except OSError as error:
                    self.machine.not_started(command.slot.role, command.epoch, str(error), self.now)
            case Signal():
                if process := self.workers.processes.get((command.role, command.epoch)):
                    self.supervision.signal(command, process)
                    self.workers.signal(process, command.number)
            case Release():
                self.supervision.release(command)
                if process := self.workers.processes.get((command.role, command.epoch)):
                    self.workers.release(process)
            case Abandon():
                self.supervision.abandon(command, self.workers.processes.pop((command.role, command.epoch), None))
            case Compared():
                self.pages.compared(command.preference)
            case Announce() | ReportStatus():
                pass

    def _sleep(self) -> None:
        self.supervision.has_slept = True
        self._settled_at += SLEEP_S
        self._clock.sleep(SLEEP_S)

    def _signal(self, number: int) -> None:
        self._num_signals += 1
        self._may_end_now = self._num_signals > 1 or number == signal.SIGQUIT
        has_work = bool(self.core.ledger.requests)
        self.machine.ending.signalled(number, self.now)
        if self._may_end_now and not self.machine.ending.is_complete:
            raise BrokenPromise(
                f"the runtime continues after {self._num_signals} signals, the last of which is {number}"
            )
        if not self._may_end_now and self.machine.ending.is_complete and has_work:
            raise BrokenPromise(f"the runtime ends at the first signal {number} with pages in work")
        if not has_work and not self.machine.ending.is_complete:
            raise BrokenPromise(f"the runtime continues after signal {number}, and there is no page")

    def _unanswered(self) -> list[int]:
        """Pages without an answer whose client waits for one."""
        clients = self.clients.clients.values()
        waiting = [page for c in clients if not c.is_gone for page in (*c.to_submit, *c.outstanding)]
        return [page for page in sorted(waiting) if not self._answers[page]]

    # --- promises ----------------------------------------------------------------------------------------------------

    def _check_client(self, command: ToClient) -> None:
        message = command.message
        if isinstance(message, PageFailed) and message.code is ErrorCode.CANCELLED and message.request_id:
            is_asked_for = message.page_index in self.clients.cancelled
            if not (is_asked_for or self._may_end_now):
                raise BrokenPromise(f"page {message.page_index} was accepted and is cancelled: {message.message}")
        if isinstance(message, Accepted) and self._num_signals and message.page_index not in self._accepted:
            raise BrokenPromise(f"page {message.page_index} is accepted although the runtime stops")

    def _read(self, name: bytes, message: Message) -> None:
        """A client reads a message."""
        match message:
            case Accepted():
                self._accepted.add(message.page_index)
            case SwapResult():
                if (place := self.swaps.answered(message.swapped, message.encoder)) is not None:
                    self.supervision.replaced(place)
            case PageResult() | PageFailed():
                self._answers[message.page_index].append(message)
            case Restarted():
                if message.attempt <= self._attempts.get(message.page_index, 1):
                    raise BrokenPromise(f"page {message.page_index} starts attempt {message.attempt} again")
                if message.attempt > MOST_ATTEMPTS:
                    raise BrokenPromise(f"page {message.page_index} starts attempt {message.attempt}")
                self._attempts[message.page_index] = message.attempt
                if message.reason.startswith(ENCODER_FAILED) and message.request_id in self.pages.with_alternative:
                    self.pages.failed_by_alternative.add(message.request_id)
            case PageTokens():
                expected = self._attempts.get(message.page_index, 1)
                if message.attempt != expected or self._answers[message.page_index]:
                    raise BrokenPromise(f"tokens of attempt {message.attempt} of page {message.page_index} came late")
            case _:
                pass

    def _check_end(self) -> None:
        end = self.machine.ending.bye
        if self._num_signals and end is None:
            raise BrokenPromise(f"the runtime continues after {self._num_signals} signals")
        failed = end is not None and end.exit_code != 0
        if failed and not self.supervision.may_have_failed():
            raise BrokenPromise(f"the runtime ends without a reason: {end}")
        if end is not None and not failed and not self.plan.signals:
            raise BrokenPromise(f"the runtime ends although no client requested it: {end}")
        if end is None:
            self.swaps.settled(self.clients.swaps_asked) if self.plan.swaps else None
        left = [r for r in self.core.ledger.requests.values() if not self.clients.clients[r.client].is_gone]
        if left:
            raise BrokenPromise(f"requests {[request.request_id for request in left]} are left")
        for page, answers in self._answers.items():
            self._check_page(page, answers, has_ended=end is not None)

    def _may_lose_alternative(self) -> bool:
        """Return whether the second encoder may be given up, so that pages that request it fail."""
        plan = self.plan
        cannot_load = ALTERNATIVE_SLOT in plan.load_deaths or (plan.bad_load and plan.bad_load[0] == ALTERNATIVE_SLOT)
        is_killed = len(plan.stops) + plan.deaths >= MAX_FAILURES or (plan.killers and plan.killed_role is Role.ENCODER)
        return plan.alternative is not None and (plan.alternative in FAILING or bool(cannot_load or is_killed))

    def _check_page(self, page: int, answers: list[Message], *, has_ended: bool) -> None:
        client = self.clients.submitted.get(page)
        if len(answers) > 1:
            raise BrokenPromise(f"page {page} was answered {len(answers)} times")
        if not answers:
            if page in self._accepted and client is not None and not self.clients.clients[client].is_gone:
                raise BrokenPromise(f"page {page} was accepted and has no answer")
            return
        answer, expected = answers[0], "" if page in self.plan.blank else str(page)
        if isinstance(answer, PageResult) and answer.text != expected:
            raise BrokenPromise(f"page {page} got the text of page {answer.text}")
        asked, calm = self.clients.asks_for(page), not self.plan.loss and self.workers.real_deaths < 2
        hopeless = asked == 1 and self._may_lose_alternative()
        is_excused = not calm or hopeless or self.plan.killers or has_ended
        if isinstance(answer, PageFailed) and not is_excused and answer.code != ErrorCode.CANCELLED:
            raise BrokenPromise(f"page {page} failed without a reason: {answer.code} {answer.message}")
        if isinstance(answer, PageFailed) and asked is None and answer.code is ErrorCode.INTERNAL:
            raise BrokenPromise(f"page {page} failed although the first encoder could read it: {answer.message}")
        condemned = isinstance(answer, PageFailed) and answer.code in (ErrorCode.POISON, ErrorCode.CANCELLED)
        if page in self.plan.killers and not (self.plan.loss or condemned or hopeless or has_ended):
            raise BrokenPromise(f"page {page} kills its worker and was answered by {type(answer).__name__}")


def run_schedule(seed: int) -> Schedule:
    """Play one schedule; raises BrokenPromise that names the seed."""
    level = RUNTIME_LOG.level
    RUNTIME_LOG.setLevel(logging.CRITICAL + 1)
    try:
        schedule = Schedule(seed)
        schedule.run()
    except BrokenPromise as broken:
        raise BrokenPromise(f"seed {seed}: {broken}") from None
    finally:
        RUNTIME_LOG.setLevel(level)
    return schedule
