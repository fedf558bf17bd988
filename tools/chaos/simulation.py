"""Seeded schedules for the coordinator core: simulated clients, workers and a network that delays, loses and reorders.

A schedule is one ``random.Random(seed)``: how many pages, how long everything takes, which messages are lost, when
which worker dies, which page kills its worker. :func:`run_schedule` plays it to the end with a simulated clock and
checks the promises of the coordinator after every event; a broken one raises :class:`BrokenPromise` with the seed.
"""

import random
from collections import Counter
from functools import partial

from dotsctl.client.runtime.auto import AutoChoice
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Compared, GiveUp, Kill, Retire, ToClient, ToWorker, Wake
from dotsctl.client.runtime.ledger import State
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.client.runtime.views import Limits
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.measured_costs import Preference
from dotsctl.protocol.messages import CancelJob, Encode, Message, PageFailed, PageResult, PageTokens, Restarted, Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions, Role
from dotsctl.tools.chaos.simulated_workers import ALTERNATIVE_SEAT, DYING, Alternative, Clock, Plan, SimulatedWorkers

OPTIONS = PageOptions("text", None, None, None, "")
ENCODER_FAILED = ("the encoder died", "encoder ")
"""Beginnings of the reasons for which a page is read again after an encoder's failure."""
FAILING = (*DYING, Alternative.FAILS, Alternative.REFUSES, Alternative.SHRINKS)
"""Alternatives that read no page."""
LONGEST_S = 20_000.0
"""Simulated time after which a schedule that is not finished has lost something."""


class BrokenPromise(AssertionError):
    """The coordinator did what it must never do."""


class Schedule:
    """One run of the coordinator through one plan."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.plan = Plan.draw(self._rng)
        limits = Limits(credits=2, credit_bytes=1 << 30, stall_timeout_s=20.0, page_timeout_s=4000.0)
        names = [f"simulated {place}" for place in range(self.plan.encoders)]
        choice = AutoChoice(idle_s=10.0) if self.plan.alternative else None
        self.core = Coordinator(limits, names, "simulated", auto=choice)
        self._clock = Clock()
        self._workers = SimulatedWorkers(self.plan, self._rng, self._clock, self.core)
        self._to_submit: dict[bytes, list[int]] = {}
        self._answers: dict[int, list[Message]] = {}
        self._attempts: dict[int, int] = {}
        self._gone: set[bytes] = set()
        self._with_alternative: set[int] = set()
        """Requests that went to the alternative last, without having asked for it."""
        self._failed_by_alternative: set[int] = set()
        """Requests that the alternative must not get again."""

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return self._clock.now

    @property
    def real_deaths(self) -> int:
        """Workers that have died, killed by the coordinator included."""
        return self._workers.real_deaths

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play to the end; raises BrokenPromise."""
        seats = [*(Seat(Role.ENCODER, place) for place in range(self.plan.encoders)), DECODER]
        for seat in seats:
            if seat == DECODER or self.core.choice.is_started_first(seat.place):
                self._workers.start(seat)
        plan, rng = self.plan, self._rng
        for number in range(plan.clients):
            client = b"client%d" % number
            pages = [number * plan.pages + page for page in range(plan.pages)]
            self._to_submit[client] = pages
            self._answers.update({page: [] for page in pages})
            self._clock.at(rng.uniform(0, 3), partial(self._submit_more, client))
        for _ in range(plan.deaths):
            self._clock.at(rng.uniform(0, 30), lambda: self._workers.kill(rng.choice(seats)))
        for _ in range(plan.swaps):
            self._clock.at(rng.uniform(0, 30), self._workers.swap)
        for _ in range(plan.cancels):
            self._clock.at(rng.uniform(0, 20), self._cancel_one)
        for number in range(plan.leaving):
            self._clock.at(rng.uniform(0, 20), partial(self._leave, b"client%d" % number))
        self._clock.at(1.0, self._tick)
        while self._unanswered():
            if self.now > LONGEST_S:
                raise BrokenPromise(f"pages {self._unanswered()} have no answer at {self.now:.0f} s")
            self._clock.step()
            self._obey()
            self._check_credits()
        self._check_end()

    def _obey(self) -> None:
        """Carry out the coordinator's commands."""
        while commands := self.core.take_commands():
            for command in commands:
                match command:
                    case ToClient():
                        self._receive(command.client, command.message)
                    case Kill():
                        if worker := self._workers.find(command.role, command.epoch):
                            self._workers.kill_process(worker)
                    case Retire():
                        self._check_retired(command.epoch)
                        self._workers.retire(command.epoch)
                    case Wake():
                        self._workers.start(command.seat)
                    case GiveUp():
                        self._workers.give_up(command.seat)
                    case Compared():
                        self._check_comparison(command.preference)
                    case ToWorker():
                        if isinstance(command.message, Encode):
                            self._check_encoder(command.epoch, command.message.request_id)
                        self._workers.tell(command.role, command.epoch, command.message)

    def _tick(self) -> None:
        self.core.tick(self.now)
        self._clock.at(1.0, self._tick)

    def _unanswered(self) -> list[int]:
        return [
            page
            for client, pages in self._pages_of_clients()
            if client not in self._gone
            for page in pages
            if not self._answers[page]
        ]

    def _pages_of_clients(self) -> list[tuple[bytes, range]]:
        count_ = self.plan.pages
        return [(b"client%d" % n, range(n * count_, (n + 1) * count_)) for n in range(self.plan.clients)]

    # --- promises ----------------------------------------------------------------------------------------------------

    def _check_credits(self) -> None:
        # Counted here from the states, so that a ledger that counts wrongly is noticed too.
        outstanding = [r for r in self.core.ledger.requests.values() if State.QUEUED < r.state < State.DECODING]
        for place, count in Counter(r.place for r in outstanding).items():
            if count > self.core.limits.credits:
                raise BrokenPromise(f"{count} pages of encoder {place} with {self.core.limits.credits} credits")
        suspects = [r for r in self.core.ledger.in_flight() if r.suspect]
        if suspects and len(self.core.ledger.in_flight()) > 1:
            raise BrokenPromise(f"request {suspects[0].request_id} is a suspect and does not run alone")

    def _check_retired(self, epoch: int) -> None:
        for request in self.core.ledger.in_flight():
            if request.encoder_epoch == epoch and request.state in (State.ENCODING, State.SENT):
                raise BrokenPromise(f"encoder {epoch} is sent away while it answers for request {request.request_id}")

    def _check_encoder(self, epoch: int, request_id: int) -> None:
        submit, worker = self.core.ledger.requests[request_id].submit, self._workers.find(Role.ENCODER, epoch)
        if worker is None:
            return
        if submit.encoder is not None and worker.seat.place != submit.encoder:
            raise BrokenPromise(f"request {request_id} asks for encoder {submit.encoder} and goes to {worker.seat}")
        self._with_alternative.discard(request_id)
        if submit.encoder is not None or worker.seat != ALTERNATIVE_SEAT or self.plan.alternative is None:
            return
        self._with_alternative.add(request_id)
        if submit.page_index in self.plan.large:
            raise BrokenPromise(f"page {submit.page_index} does not fit the alternative and goes to it")
        if request_id in self._failed_by_alternative:
            raise BrokenPromise(f"the alternative failed with request {request_id} and gets it again")
        if worker.seat in self._workers.given_up:
            raise BrokenPromise(f"request {request_id} goes to an encoder that is given up")

    def _check_comparison(self, preference: Preference) -> None:
        if preference.is_faster and self.plan.alternative is Alternative.SLOW:
            raise BrokenPromise(f"an encoder that takes ten times as long is preferred: {preference}")

    def _check_end(self) -> None:
        calm = not self.plan.loss and self.real_deaths < 2
        if self.real_deaths and not (self.plan.loss or self.plan.deaths or self.plan.killers):
            raise BrokenPromise(f"{self.real_deaths} workers were killed, and nothing was wrong with them")
        if self.core.retiring.keys() - self._workers.retiring.keys():
            raise BrokenPromise(f"encoders {list(self.core.retiring)} are gone and still counted on")
        for page, answers in self._answers.items():
            if len(answers) > 1:
                raise BrokenPromise(f"page {page} was answered {len(answers)} times")
            answer = answers[0] if answers else None
            expected = "" if page in self.plan.blank else str(page)
            if isinstance(answer, PageResult) and answer.text != expected:
                raise BrokenPromise(f"page {page} got the text of page {answer.text}")
            hopeless = self._asks_for(page) == 1 and self.plan.alternative in FAILING
            is_excused = not calm or hopeless or self.plan.killers
            if isinstance(answer, PageFailed) and not is_excused and answer.code != ErrorCode.CANCELLED:
                raise BrokenPromise(f"page {page} failed without a reason: {answer.code} {answer.message}")
            if isinstance(answer, PageFailed) and self._asks_for(page) is None and answer.code is ErrorCode.INTERNAL:
                raise BrokenPromise(f"page {page} failed although the first encoder could read it: {answer.message}")
            poisoned = isinstance(answer, PageFailed) and answer.code in (ErrorCode.POISON, ErrorCode.CANCELLED)
            poisoned = poisoned or hopeless
            if page in self.plan.killers and answer is not None and not self.plan.loss and not poisoned:
                raise BrokenPromise(f"page {page} kills its worker and was answered by {type(answer).__name__}")

    # --- clients -----------------------------------------------------------------------------------------------------

    def _submit_more(self, client: bytes) -> None:
        """Submit up to the window, as a client does."""
        if client in self._gone:
            return
        room = self.core.window - len(self.core.ledger.of_client(client))
        pages = self._to_submit[client]
        while pages and room > 0:
            page = pages.pop(0)
            room -= 1
            size = self._rng.choice((28, 280, 1700))
            if self.plan.alternative:
                size = 1700 if page in self.plan.large else self._rng.choice((28, 280))
            place = self._asks_for(page)
            image = ImageHeader(ImageKind.FILE, 1, size, size)
            self.core.submit(client, Submit("job", page, str(page), (image,), OPTIONS, True, place), [b"x"], self.now)

    def _asks_for(self, page: int) -> int | None:
        """The place of the encoder that a page asks for; where the coordinator may choose, most pages ask for none."""
        return None if self.plan.alternative and page % 7 else page % self.plan.encoders

    def _cancel_one(self) -> None:
        client, pages = self._rng.choice(self._pages_of_clients())
        page = self._rng.choice(pages)
        if client not in self._gone and page not in self._to_submit[client]:
            self.core.cancel(client, CancelJob("job", page), self.now)

    def _leave(self, client: bytes) -> None:
        self._gone.add(client)
        self.core.client_gone(client, self.now)

    def _receive(self, client: bytes, message: Message) -> None:
        if client in self._gone:
            raise BrokenPromise(f"{type(message).__name__} for a client that is gone")
        match message:
            case PageResult() | PageFailed():
                self._answers[message.page_index].append(message)
                self._clock.at(0.0, lambda: self._submit_more(client))
            case Restarted():
                if message.attempt <= self._attempts.get(message.page_index, 1):
                    raise BrokenPromise(f"page {message.page_index} starts attempt {message.attempt} again")
                self._attempts[message.page_index] = message.attempt
                if message.reason.startswith(ENCODER_FAILED) and message.request_id in self._with_alternative:
                    self._failed_by_alternative.add(message.request_id)
            case PageTokens():
                expected = self._attempts.get(message.page_index, 1)
                if message.attempt != expected or self._answers[message.page_index]:
                    raise BrokenPromise(f"tokens of attempt {message.attempt} of page {message.page_index} came late")


def run_schedule(seed: int) -> Schedule:
    """Play one schedule; raises BrokenPromise that names the seed."""
    schedule = Schedule(seed)
    try:
        schedule.run()
    except BrokenPromise as broken:
        raise BrokenPromise(f"seed {seed}: {broken}") from None
    return schedule
