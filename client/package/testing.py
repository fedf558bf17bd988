"""``FakeClient``: a client without processes, for tests of programs that use dotsctl.

    from dotsctl.testing import FakeClient

    with FakeClient(["First page.", PageError("it is torn")]) as client:
        document = client.read(["a.png", "b.png"])

Inputs are opened and checked as ever; only the model's answers are given instead of decoded.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dotsctl import __version__
from dotsctl.client.api import Client
from dotsctl.client.async_api import AsyncClient
from dotsctl.client.connection.attach import Connection
from dotsctl.client.connection.inbox import Inbox
from dotsctl.client.connection.session import Session, T
from dotsctl.client.connection.suspending import Suspending
from dotsctl.client.connection.waiting import Blocking, Waiting
from dotsctl.client.connection.window import Window
from dotsctl.client.connection.wire import JobMessage
from dotsctl.client.jobs.calls import Calls
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ErrorCode, PageError, RuntimeLostError
from dotsctl.protocol.geometry import PageGeometry, PixelLimits, fit
from dotsctl.protocol.messages import Message, PageFailed, PageResult, PageTokens, Status, Submit, Welcome
from dotsctl.protocol.model.tasks import TASKS, TEXT
from dotsctl.protocol.parts import FinishReason, ImageHeader
from dotsctl.protocol.render.opening import DEFAULT_TIMEOUT_S

__all__ = ["FakeAsyncClient", "FakeClient"]

Answers = str | Sequence[str | PageError]
"""The answer to every page, or those to one page after the other."""
FAKE = "test"
WINDOW = 16
ALL_TASKS = (TEXT.name, *(name for name in TASKS if name != TEXT.name))
PIECE = re.compile(r"\s*\S+|\s+")


class _FakeSession(Session):
    """A session that answers by itself."""

    def __init__(self, answers: Answers, tasks: Sequence[str]) -> None:
        self._answers, self._num_read = answers, 0
        self._window = Window(WINDOW)
        self._inboxes: dict[str, Inbox[JobMessage]] = {}
        self.welcome = Welcome(FAKE, os.getpid(), WINDOW, FAKE, "0" * 64, (FAKE,), FAKE, tuple(tasks))

    @property
    def window(self) -> Window:
        return self._window

    def open_job(self, job_id: str) -> Inbox[JobMessage]:
        self._inboxes[job_id] = Inbox()
        return self._inboxes[job_id]

    def close_job(self, job_id: str, *, cancel: bool = False) -> None:
        del self._inboxes[job_id]
        self._window.forget(job_id)

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        if isinstance(message, Submit):
            for answer in self._messages(message):
                self._inboxes[message.job_id].put(answer)
            self._window.release(message.job_id)

    async def message(self, inbox: Inbox[T], waiting: Waiting, timeout_s: float) -> T | None:
        return inbox.take()

    async def query_status(self, waiting: Waiting) -> Status:
        return Status(FAKE, os.getpid(), __version__, FAKE, "0" * 64, "ready", 0.0, (), 1, {}, {})

    def _messages(self, page: Submit) -> list[JobMessage]:
        """Everything that a runtime would send about a page."""
        place = (page.job_id, page.page_index, page.page_index + 1, 1)
        try:
            text = self._next_answer()
            geometries = tuple(_geometry(image, page.options.pixel_limit) for image in page.images)
        except PageError as error:
            return [PageFailed(*place, ErrorCode(error.code), str(error))]
        pieces = PIECE.findall(text) if page.stream else []
        tokens: list[JobMessage] = [
            PageTokens(*place, piece, 1, None if number else geometries[0]) for number, piece in enumerate(pieces)
        ]
        counts = (1, 1, max(1, len(text.split())))
        hint = page.options.hint.origin if page.options.hint else ""
        return [*tokens, PageResult(*place, text, FinishReason.STOP, geometries, *counts, FAKE, FAKE, {}, hint=hint)]

    def _next_answer(self) -> str:
        """The answer to the next page. Raises PageError."""
        if isinstance(self._answers, str):
            return self._answers
        self._num_read += 1
        if self._num_read > len(self._answers):
            raise PageError(f"the fake client has {len(self._answers)} answers, and this is page {self._num_read}")
        answer = self._answers[self._num_read - 1]
        if isinstance(answer, PageError):
            raise answer
        return answer


def _geometry(image: ImageHeader, max_pixels: int | None) -> PageGeometry:
    """Return how a page is resized. Raises PageError."""
    return fit((image.width, image.height), 1, PixelLimits().lowered(max_pixels))


class _FakeConnection(Connection):
    """A connection that is open until it is closed."""

    def __init__(self, answers: Answers, tasks: Sequence[str]) -> None:
        self._fake: Session | None = _FakeSession(answers, tasks)
        self.welcome, self.encoder = self._fake.welcome, FAKE

    @property
    def render_timeout_s(self) -> float:
        return DEFAULT_TIMEOUT_S

    def live(self) -> Session:
        if self._fake is None:
            raise RuntimeLostError("this connection to the runtime is closed", "open a new one")
        return self._fake

    def session(self) -> Session:
        return self.live()

    def close(self) -> None:
        self._fake = None


class FakeClient(Client):
    """A :class:`dotsctl.Client` that answers with given texts and starts no process."""

    def __init__(self, answers: Answers = "", *, tasks: Sequence[str] = ALL_TASKS) -> None:
        """Keep the answers; nothing is opened.

        Args:
            answers: the model's answer to every page; or a list, of which each page that is read takes the next one,
                whichever call reads it. A :class:`dotsctl.PageError` in it is a page that fails.
            tasks: the tasks of the model; the first one, ``text``, is the default.
        """
        connection = _FakeConnection(answers, tasks)
        self._use(connection, Calls(connection, Blocking(), None))


class FakeAsyncClient(AsyncClient):
    """A :class:`dotsctl.AsyncClient` that answers with given texts and starts no process."""

    def __init__(self, answers: Answers = "", *, tasks: Sequence[str] = ALL_TASKS) -> None:
        """See :class:`FakeClient`."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dotsctl-client")
        connection = _FakeConnection(answers, tasks)
        self._use(connection, Calls(connection, Suspending(self._executor), None))
