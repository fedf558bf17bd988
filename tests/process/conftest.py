"""Real runtimes with fake plugins, and a client without a picture library in between."""

import hashlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol.endpoints import instance_directory
from dotsctl.protocol.messages import PageFailed, PageResult, Restarted, Status, Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions, Role

pytestmark = pytest.mark.process
NAME = "test"
START_S = 30.0
WAIT_S = 40.0
OPTIONS = PageOptions("text", None, None, None)


def submit(
    job: str, index: int, content: bytes, *, stream: bool = False, encoder: int | None = None, size_px: int = 280
) -> tuple[Submit, tuple[bytes]]:
    """A page of any bytes; the fake encoder looks into no picture."""
    header = ImageHeader(ImageKind.FILE, len(content), size_px, size_px)
    digest = hashlib.sha256(content).hexdigest()
    return Submit(job, index, digest, (header,), OPTIONS, stream, encoder), (content,)


@dataclass
class Instance:
    """One private runtime with its first client."""

    runtime: launch.RuntimeProcess
    session: Session

    def read(
        self, contents: list[bytes], *, job: str = "job", timeout_s: float = 40.0, size_px: int = 280
    ) -> dict[int, object]:
        """Submit pages within the window and collect ``PageResult`` or ``PageFailed`` by index."""
        self.session.open_job(job)
        waiting = list(enumerate(contents))
        answers: dict[int, object] = {}
        in_flight = 0
        while len(answers) < len(contents):
            while waiting and in_flight < self.session.welcome.window:
                index, content = waiting.pop(0)
                self.session.send(*submit(job, index, content, size_px=size_px))
                in_flight += 1
            message = self.session.next_of(job, timeout_s)
            assert message is not None, f"nothing came for {timeout_s} s; {self.status()}"
            if isinstance(message, PageResult | PageFailed):
                assert message.page_index not in answers, "a page was answered twice"
                answers[message.page_index] = message
                in_flight -= 1
        return answers

    def read_in_background(self, contents: list[bytes], job: str = "job") -> Callable[[], dict[int, object]]:
        """Start :meth:`read` with a session of its own; the returned function waits for the answers."""
        other = Instance(self.runtime, Session(self.runtime.directory, START_S))
        outcome: list[object] = []

        def run() -> None:
            try:
                outcome.append(other.read(contents, job=job))
            except Exception as error:
                outcome.append(error)
            finally:
                other.session.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def wait() -> dict[int, object]:
            thread.join(50)
            assert outcome, "the pages are not read"
            if isinstance(outcome[0], Exception):
                raise outcome[0]
            return outcome[0]  # type: ignore[return-value]

        return wait

    def status(self) -> Status:
        return self.session.status()

    def pid(self, role: Role) -> int:
        return next(worker.pid for worker in self.status().workers if worker.role is role)

    def restarts(self, role: Role) -> int:
        return next(worker.restarts for worker in self.status().workers if worker.role is role)

    def kill(self, role: Role, number: int = signal.SIGKILL) -> int:
        pid = self.pid(role)
        os.kill(pid, number)
        return pid

    def wait_status(self, holds: Callable[[Status], bool], what: str) -> Status:
        """Ask for the status until it is as awaited, at most 100 times a second: without a pause, a runtime and a test
        that wait for a worker to start would take both cores from it."""
        until = time.monotonic() + WAIT_S
        pause = select.poll()
        while not holds(status := self.status()):
            assert time.monotonic() < until, f"{what} did not come in {WAIT_S:.0f} s: {status}"
            pause.poll(10)
        return status

    def wait_restarted(self, job: str) -> Restarted:
        while True:
            message = self.session.next_of(job, 20.0)
            assert message is not None
            if isinstance(message, Restarted):
                return message


@pytest.fixture
def start(run_folder: Path) -> Iterator[Callable[..., Instance]]:
    """Start a private runtime with fakes: ``start("fake:encode_ms=5", "fake", credits=2)``."""
    started: list[Instance] = []

    def start_instance(encoder: str = "fake", decoder: str = "fake", **limits: object) -> Instance:
        config = RuntimeConfig(
            launch.private_name(), "fake", "", PluginChoice.parse(encoder), PluginChoice.parse(decoder), backoff_s=0.05
        )
        runtime = launch.start(replace(config, **limits), private=True)  # type: ignore[arg-type]
        runtime.wait_ready(START_S)
        started.append(Instance(runtime, Session(runtime.directory, START_S)))
        return started[-1]

    yield start_instance
    for instance in started:
        instance.session.close()
        instance.runtime.end(now=True)


@pytest.fixture
def named(run_folder: Path) -> Iterator[Callable[..., Instance]]:
    """Start a named runtime with fakes: ``named("fake:encode_ms=0", "fake", "fake:encode_ms=1")``, encoders last."""
    opened: list[Instance] = []

    def start_named(encoder: str = "fake:encode_ms=0", decoder: str = "fake", *further_encoders: str) -> Instance:
        first, last, *others = map(PluginChoice.parse, (encoder, decoder, *further_encoders))
        config = RuntimeConfig(NAME, "fake", "", first, last, tuple(others), backoff_s=0.05)
        launch.start_detached(config, START_S)
        directory = instance_directory(NAME)
        runtime = SimpleNamespace(directory=directory)
        opened.append(Instance(runtime, Session(directory, START_S)))  # type: ignore[arg-type]
        return opened[-1]

    yield start_named
    for instance in opened:
        instance.session.close()
    if opened:
        launch.stop(NAME, now=True, timeout_s=10)


def dotsctl(*arguments: str, **options: object) -> "subprocess.Popen[str]":
    """The command line in a child process."""
    command = [sys.executable, "-P", "-m", "dotsctl", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options
    )  # type: ignore[call-overload]
