"""Random SIGKILLs of the two workers while fake pages are read: what is lost, doubled, condemned or changed."""

import os
import queue
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dotsctl.client.connection.session import Session
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import CommandFailedError, ErrorCode
from dotsctl.protocol.messages import PageResult, Status
from dotsctl.protocol.parts import Role
from dotsctl.tools.dev.chaos.fake_runtime import START_S, Answered, answers, fake_runtime

ENCODER, DECODER = "fake:encode_ms=4", "fake:batch=8,decode_ms=24"
LONGEST_DELAY_S = 0.05
PID_S = 60.0


@dataclass(frozen=True)
class WorkerChaos:
    """The results of all pages while workers were killed."""

    seed: int
    pages: int
    kills: int
    """SIGKILLs that were sent."""
    restarts: int
    """Deaths of workers that the runtime noticed."""
    lost: int
    """Pages without an answer."""
    doubled: int
    """Pages with more than one answer."""
    poisoned: int
    """Pages that were condemned; all of them are healthy."""
    failed: int
    """Pages that failed otherwise."""
    changed: int
    """Pages with another text than in the calm run."""
    most_outstanding: int
    left_in_ledger: int
    most_attempts: int
    calm_s: float
    wall_s: float

    @property
    def holds(self) -> bool:
        """Return whether all promises were kept."""
        broken = (self.lost, self.doubled, self.poisoned, self.failed, self.changed, self.left_in_ledger)
        return not any(broken) and self.most_outstanding <= 2


def kill_workers(pages: int, kills: int, seed: int, least_gap: int = 0) -> WorkerChaos:
    """Read pages calmly, then with random deaths.

    Args:
        pages: how many.
        kills: SIGKILLs, one at a random place in each part of ``pages / kills`` pages, to a random worker.
        seed: of the places and the choices; the timing of processes is never the same twice.
        least_gap: pages that must come to their end between two kills.
    """
    contents = [b"page %d of seed %d" % (number, seed) for number in range(pages)]
    with fake_runtime(ENCODER, DECODER) as directory:
        started = time.monotonic()
        calm = {each.index: each.message for each in _read(directory, contents)}
        calm_s = time.monotonic() - started
    with fake_runtime(ENCODER, DECODER) as directory:
        started = time.monotonic()
        killer = Killer(directory, random.Random(seed))
        seen: list[Answered] = []
        try:
            for each in _read(directory, contents):
                seen.append(each)
                killer.done(len(seen), pages, kills, least_gap)
        finally:
            killer.close()
        wall_s = time.monotonic() - started
        status = _status(directory)
    return _judge(seed, calm, seen, status, killer.num_kills, calm_s, wall_s)


def _read(directory: InstanceDirectory, contents: list[bytes]) -> Iterator[Answered]:
    session = Session(directory, START_S)
    try:
        yield from answers(session, contents, "chaos", listen_s=0.5)
    finally:
        session.close()


def _status(directory: InstanceDirectory) -> Status:
    session = Session(directory, START_S, hello=False)
    try:
        return session.status()
    finally:
        session.close()


class Killer:
    """Sends the signals, in a thread of its own, so that the reader continues."""

    def __init__(self, directory: InstanceDirectory, rng: random.Random) -> None:
        self._directory, self._rng = directory, rng
        self._next = 0
        self._last_at = 0
        self._due_at: float | None = None
        self.num_kills = 0
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self._thread.start()

    def done(self, num_done: int, pages: int, kills: int, least_gap: int) -> None:
        """Note that so many pages are complete, and request a kill when its turn is reached."""
        part = pages / max(1, kills)
        while self._next < kills:
            if self._due_at is None:
                self._due_at = max((self._next + self._rng.random()) * part, self._last_at + least_gap)
            if num_done < self._due_at:
                return
            self._next, self._last_at, self._due_at = self._next + 1, num_done, None
            self._orders.put(True)

    def close(self) -> None:
        """Wait until all ordered signals are sent. Raises what went wrong in the thread."""
        self._orders.put(False)
        self._thread.join(PID_S)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        session = Session(self._directory, START_S, hello=False)
        try:
            while self._orders.get():
                threading.Event().wait(self._rng.uniform(0, LONGEST_DELAY_S))
                self._kill(session, self._rng.choice(list(Role)))
        except BaseException as error:
            self._error = error
        finally:
            session.close()

    def _kill(self, session: Session, role: Role) -> None:
        """Kill the present process of a role, whatever it does; wait for one while there is none."""
        deadline = time.monotonic() + PID_S
        while time.monotonic() < deadline:
            pid = next(worker.pid for worker in session.status().workers if worker.role is role)
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # dead since the status was written
                self.num_kills += 1
                return
        raise CommandFailedError(f"the {role} had no process for {PID_S:.0f} s")


def _judge(
    seed: int,
    calm: Mapping[int, object],
    seen: list[Answered],
    status: Status,
    kills: int,
    calm_s: float,
    wall_s: float,
) -> WorkerChaos:
    times = Counter(each.index for each in seen)
    read = [each.message for each in seen if isinstance(each.message, PageResult)]
    failures = [each.message.code for each in seen if not isinstance(each.message, PageResult)]
    texts = {index: message.text for index, message in calm.items() if isinstance(message, PageResult)}
    if len(texts) != len(calm):
        raise CommandFailedError(f"{len(calm) - len(texts)} pages failed although nothing was killed")
    return WorkerChaos(
        seed=seed,
        pages=len(calm),
        kills=kills,
        restarts=status.counters["restarts"],
        lost=len(calm) - len(times),
        doubled=sum(count > 1 for count in times.values()),
        poisoned=failures.count(ErrorCode.POISON),
        failed=len(failures) - failures.count(ErrorCode.POISON),
        changed=sum(texts[message.page_index] != message.text for message in read),
        most_outstanding=status.counters["max_outstanding"],
        left_in_ledger=sum(status.requests.values()),
        most_attempts=max(each.message.attempt for each in seen),
        calm_s=calm_s,
        wall_s=wall_s,
    )
