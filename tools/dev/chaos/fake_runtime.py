"""A private runtime of the two fake plugins, and pages for it without any picture: for measurements of the runtime."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.encoder_worker.plugins import FAKE
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.messages import PageFailed, PageResult, Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions

START_S = 120.0
ANSWER_S = 120.0
OPTIONS = PageOptions("text", None, None, None)


@dataclass(frozen=True)
class Answered:
    """The end of a page."""

    index: int
    message: PageResult | PageFailed
    latency_s: float
    """The seconds since its submission."""


@contextmanager
def fake_runtime(encoder: str, decoder: str, **limits: object) -> Iterator[InstanceDirectory]:
    """Run a private runtime; ``limits`` are fields of :class:`RuntimeConfig`."""
    config = RuntimeConfig(
        launch.private_name(), FAKE, "", PluginChoice.parse(encoder), PluginChoice.parse(decoder), backoff_s=0.05
    )
    runtime = launch.start(replace(config, **limits), private=True)  # type: ignore[arg-type]
    try:
        runtime.wait_ready(START_S)
        yield runtime.directory
    finally:
        runtime.end(now=True)


def submission(job: str, index: int, content: bytes) -> tuple[Submit, tuple[bytes]]:
    """A page of any bytes; the fake encoder looks into no picture."""
    header = ImageHeader(ImageKind.FILE, len(content), 280, 280)
    return Submit(job, index, hashlib.sha256(content).hexdigest(), (header,), OPTIONS, False), (content,)


def answers(session: Session, contents: Sequence[bytes], job: str, listen_s: float = 0.0) -> Iterator[Answered]:
    """Submit pages as the window allows, and give every answer as it comes, also a second one of the same page.

    Args:
        session: with the runtime.
        contents: bytes of each page.
        job: name of the job.
        listen_s: how long to wait for further answers when every page has one.
    """
    session.open_job(job)
    submitted_at: dict[int, float] = {}
    ended: set[int] = set()
    while True:
        while len(submitted_at) < len(contents) and len(submitted_at) - len(ended) < session.welcome.window:
            index = len(submitted_at)
            submitted_at[index] = time.monotonic()
            session.send(*submission(job, index, contents[index]))
        complete = len(ended) == len(contents)
        message = session.next_of(job, listen_s if complete else ANSWER_S)
        if message is None and not complete:
            raise CommandFailedError(f"no answer came for {ANSWER_S:.0f} s; {session.status()}")
        if message is None:
            break
        if isinstance(message, PageResult | PageFailed):
            ended.add(message.page_index)
            yield Answered(message.page_index, message, time.monotonic() - submitted_at[message.page_index])
    session.close_job(job)
