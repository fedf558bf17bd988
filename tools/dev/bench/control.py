"""``python -P -m dotsctl.tools.dev.bench control``: how long a control message waits for its answer while large pages
flow."""

import threading
import time
from dataclasses import dataclass

from dotsctl.client.connection.session import Session
from dotsctl.encoder_worker.plugins import FAKE
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.tools.dev.chaos.fake_runtime import START_S, answers, fake_runtime

LIMIT_MS = 10.0
PAUSE_S = 0.005
BETWEEN_S = 60.0


@dataclass(frozen=True)
class ControlOutcome:
    """Milliseconds from a status question to its answer."""

    questions: int
    pages: int
    """Read meanwhile."""
    mib: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def measure(questions: int, mib: float, encode_ms: float = 20.0) -> ControlOutcome:
    """Query the status repeatedly while pages of ``mib`` MiB of embeddings go from encoder to decoder."""
    with fake_runtime(f"fake:embed_mib={mib},encode_ms={encode_ms}", FAKE) as directory:
        stream = PageStream(directory)
        session = Session(directory, START_S)
        try:
            stream.wait_started()
            before = session.status().counters["done"]
            taken = sorted(_ask(session) for _ in range(questions))
            pages = session.status().counters["done"] - before
        finally:
            stream.close()
            session.close()
    if not pages:
        raise CommandFailedError("no page was read meanwhile, so nothing was measured")
    p50, p99 = (taken[min(questions - 1, round(share * questions))] for share in (0.5, 0.99))
    return ControlOutcome(questions, pages, mib, p50, p99, taken[-1])


def _ask(session: Session) -> float:
    threading.Event().wait(PAUSE_S)  # a few hundred a second: the questions are not to be the load
    started = time.perf_counter()
    session.status()
    return (time.perf_counter() - started) * 1000


class PageStream:
    """Reads pages without an end, in a thread with a connection of its own."""

    def __init__(self, directory: InstanceDirectory) -> None:
        self._directory = directory
        self._started, self._stopped = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pages", daemon=True)
        self._thread.start()

    def wait_started(self) -> None:
        """Return when the first pages are read."""
        if not self._started.wait(BETWEEN_S) or self._error is not None:
            raise CommandFailedError(f"the pages do not flow: {self._error}")

    def close(self) -> None:
        """Stop after the pages in flight."""
        self._stopped.set()
        self._thread.join(BETWEEN_S)

    def _run(self) -> None:
        try:
            session = Session(self._directory, START_S)
            try:
                for _ in answers(session, [b"%d" % number for number in range(100_000)], "flow"):
                    self._started.set()
                    if self._stopped.is_set():
                        return
            finally:
                session.close()
        except BaseException as error:
            self._error = error
            self._started.set()
