"""Faults of the coordinator and of what lies around it that a review found: each test failed before its repair."""

import fcntl
import os
import resource
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.inbox import Inbox
from dotsctl.client.connection.launch import RuntimeProcess
from dotsctl.client.connection.session import Session
from dotsctl.client.connection.waiting import Blocking, Waiting, completed
from dotsctl.client.connection.window import Window
from dotsctl.client.connection.wire import JobMessage
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.jobs.job import Job
from dotsctl.client.results.page import Failure
from dotsctl.client.runtime.backlog import MAX_MESSAGES
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Kill, ToClient, ToWorker
from dotsctl.client.runtime.peers import ClientPeers
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol import codec, endpoints
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, PageError, RuntimeLostError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import (
    Busy,
    Bye,
    Consumed,
    Done,
    Dropped,
    Encode,
    Encoded,
    Message,
    PageFailed,
    PageResult,
    PageTokens,
    Ready,
    Received,
    RequestFailed,
    StatusRequest,
    Submit,
)
from dotsctl.protocol.parts import FinishReason, ImageHeader, ImageKind, PageOptions, Role

CLIENT = b"client"
GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
OPTIONS = PageOptions("text", None, None, None)


@pytest.fixture
def core() -> Coordinator:
    """Both workers are ready at time 0."""
    made = Coordinator(Limits(credits=2, stall_timeout_s=120.0, page_timeout_s=1800.0), ["fake"], "fake")
    for role in Role:
        epoch = made.table.launch(WorkerSlot(role)).epoch
        made.worker_ready(WorkerSlot(role), epoch, Ready("f" * 64, 8, "d.1", 1, ("text",), 0.0), 0.0)
    return made


def submit(core: Coordinator, index: int, now: float) -> None:
    image = ImageHeader(ImageKind.FILE, 1, 280, 280)
    core.submit(CLIENT, Submit("job", index, str(index), (image,), OPTIONS, False), [b"x"], now)


def say(core: Coordinator, role: Role, message: Message, now: float) -> None:
    core.worker_message(role, 1, message, now)


def kills(core: Coordinator) -> list[Role]:
    return [command.role for command in core.take_commands() if isinstance(command, Kill)]


def test_the_timeout_of_a_decoder_does_not_count_the_time_without_work(core: Coordinator) -> None:
    submit(core, 0, 0.0)
    submit(core, 1, 0.0)
    say(core, Role.ENCODER, Encoded(1, 1, 32), 100.0)
    say(core, Role.DECODER, Received(1, 1), 100.1)
    say(core, Role.DECODER, Consumed(1, 1), 100.2)
    submit(core, 2, 100.3)
    say(core, Role.DECODER, Done(1, 1, "", FinishReason.STOP, (GEOMETRY,), 1, 5, 2, {}), 101.0)
    say(core, Role.ENCODER, RequestFailed(2, 1, ErrorCode.BAD_IMAGE, "damaged"), 200.0)
    say(core, Role.ENCODER, Encoded(3, 1, 32), 300.0)
    core.take_commands()
    core.tick(300.1)  # 199 s after its last word, 0.1 s after it got work
    assert kills(core) == []


def test_nobody_is_killed_because_the_machine_slept(core: Coordinator) -> None:
    """Row 32: the clock may run on while everything stands still."""
    submit(core, 0, 0.0)
    core.take_commands()
    for second in range(5):
        core.tick(float(second))
    core.tick(90_000.0)
    assert core.take_commands() == []
    assert core.ledger.requests[1].attempt == 1
    for second in range(90_001, 90_122):
        core.tick(float(second))
    assert kills(core) == [Role.ENCODER], "the timeout ends at last"


def test_a_page_that_waits_for_another_attempt_while_the_machine_sleeps_keeps_its_time(core: Coordinator) -> None:
    submit(core, 0, 0.0)
    core.tick(1.0)
    core.worker_dead(Role.ENCODER, 1, "signal SIGKILL", 2.0)
    core.tick(2.0)
    core.tick(90_000.0)
    epoch = core.table.launch(WorkerSlot(Role.ENCODER)).epoch
    core.worker_ready(WorkerSlot(Role.ENCODER), epoch, Ready("f" * 64, 8, "", 1, (), 0.0), 90_001.0)
    core.take_commands()
    core.tick(90_002.0)
    assert core.ledger.requests[1].attempt == 2 and core.take_commands() == []


def test_nobody_is_killed_by_the_first_look_at_the_clock(core: Coordinator) -> None:
    """Row 32: the machine may sleep before the first tick."""
    submit(core, 0, 0.0)
    core.tick(90_000.0)
    assert kills(core) == []


def test_a_silent_worker_is_killed_once_and_not_at_every_tick(core: Coordinator) -> None:
    submit(core, 0, 0.0)
    assert any(isinstance(c, ToWorker) and isinstance(c.message, Encode) for c in core.take_commands())
    for second in range(122):
        core.tick(float(second))
    assert kills(core) == [Role.ENCODER]


@pytest.mark.parametrize("lost", [RequestFailed(1, 1, ErrorCode.STALL, "no page was taken"), Dropped(1, 1)])
def test_a_page_that_the_decoder_does_not_take_is_tried_again_but_not_for_ever(
    core: Coordinator, lost: RequestFailed | Dropped
) -> None:
    submit(core, 0, 0.0)
    for attempt in (1, 2, 3):
        assert core.ledger.requests[1].attempt == attempt
        core.take_commands()
        say(core, Role.ENCODER, replace(lost, attempt=attempt), 60.0 * attempt)
    failures = [c.message for c in core.take_commands() if isinstance(c, ToClient)]
    assert core.ledger.requests == {}
    assert isinstance(failures[0], PageFailed) and failures[0].code is ErrorCode.STALL


def test_a_relative_runtime_directory_means_the_same_in_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", "run")
    monkeypatch.chdir(tmp_path)
    assert endpoints.run_directory({"DOTSCTL_RUNTIME_DIR": "run"}) == tmp_path / "run"


class FullLink:
    """A client that takes no message until the test lets it."""

    def __init__(self) -> None:
        self.is_full = True
        self.taken: list[Message] = []

    def send(self, frames: list[codec.Buffer], to: bytes) -> bool:
        if not self.is_full:
            self.taken.append(codec.decode(frames).message)
        return not self.is_full


def test_a_client_that_was_dropped_is_informed_when_it_reads_again() -> None:
    link, gone = FullLink(), []
    peers = ClientPeers(link, gone.append)  # type: ignore[arg-type]
    for number in range(MAX_MESSAGES + 1):
        peers.send(CLIENT, PageTokens("job", number, number, 1, "x", 1, None))
    assert gone == [CLIENT]
    link.is_full = False
    peers.flush()
    assert len(link.taken) == 1 and isinstance(link.taken[0], Bye)
    assert "did not read" in link.taken[0].reason
    assert not peers.lagging


def test_an_answer_that_is_too_large_to_send_fails_its_page_alone() -> None:
    link = FullLink()
    link.is_full = False
    text = "x" * codec.MAX_HEADER_BYTES
    result = PageResult("job", 7, 1, 1, text, FinishReason.STOP, (GEOMETRY,), 1, 5, 2, "fake", "fake", {})
    ClientPeers(link, lambda _: None).send(CLIENT, result)  # type: ignore[arg-type]
    (answer,) = link.taken
    assert isinstance(answer, PageFailed) and answer.code is ErrorCode.TOO_LARGE and answer.page_index == 7


class BusySession:
    """A runtime that has no room at first; the page's file is gone when it is asked for again."""

    encoder_index = 0

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.window = Window(1)
        self._inbox: Inbox[JobMessage] = Inbox()

    def open_job(self, job_id: str) -> Inbox[JobMessage]:
        self.job_id = job_id
        return self._inbox

    def close_job(self, job_id: str, *, cancel: bool) -> None:
        assert not cancel, "nothing is in flight"

    def send(self, message: Message, buffers: tuple[codec.Buffer, ...] = ()) -> None:
        self.sent.append(message)
        self._inbox.put(Busy(self.job_id, 0, 1))

    async def message(self, inbox: Inbox[JobMessage], waiting: Waiting, timeout_s: float) -> JobMessage | None:
        found = inbox.take()
        assert timeout_s < 1 or found, "waits for an answer to a page that was not sent"
        return found


def test_a_page_that_disappears_before_its_second_submission_fails() -> None:
    loads: Iterator[bool] = iter((True, False))

    def read() -> tuple[ImageHeader, bytes, str]:
        if not next(loads):
            raise PageError("there is no such file")
        return ImageHeader(ImageKind.FILE, 4, 28, 28), b"page", "digest"

    session = BusySession()
    requests = [(PageInput("a.png", None, reader=read),)]
    job = Job(session, Blocking(), OPTIONS, requests, window=1, stream=False)  # type: ignore[arg-type]
    index, _, event = completed(anext(job))
    with pytest.raises(StopAsyncIteration):
        completed(anext(job))
    job.close()
    assert index == 0 and isinstance(event, Failure) and "no such file" in event.message
    assert len(session.sent) == 1


@pytest.fixture
def many_files() -> Iterator[int]:
    """A process with more than a thousand open files; gives a descriptor above 1023 to use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    while opened[-1] < 1030:
        opened.append(os.dup(opened[0]))
    yield opened[-1]
    for fd in opened[:-1]:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_long_reason_reaches_a_program_with_many_open_files_completely(many_files: int) -> None:
    class Ended:
        stdin = None
        returncode = 7

        def poll(self) -> int:
            return 7

        def wait(self, timeout_s: float) -> int:
            return 7

    reader, writer = os.pipe()
    os.dup2(reader, many_files)
    os.close(reader)
    reason = "x" * 300_000  # more than a pipe holds

    def tell() -> None:
        with os.fdopen(writer, "w") as pipe:
            pipe.write(f'{{"exit_code": 7, "reason": "{reason}"}}\n')

    thread = threading.Thread(target=tell)
    thread.start()
    runtime = RuntimeProcess(Ended(), None, many_files, False)  # type: ignore[arg-type]
    with pytest.raises(CommandFailedError) as caught:
        runtime.wait_ready(10.0)
    thread.join(10)
    assert str(caught.value) == reason


@pytest.fixture
def instance(run_folder: Path) -> Iterator[endpoints.InstanceDirectory]:
    directory = endpoints.instance_directory("test")
    endpoints.create(directory)
    yield directory
    endpoints.remove_stale(directory)
    directory.lock_path.unlink(missing_ok=True)


def test_two_who_look_for_a_runtime_do_not_take_each_other_for_it(instance: endpoints.InstanceDirectory) -> None:
    instance.lock_path.write_text("42\n")  # left by a runtime that was killed
    with instance.lock_path.open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert endpoints.lock_holder(instance) is None


def test_the_last_words_of_a_runtime_are_heard_after_its_end(
    instance: endpoints.InstanceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Links() as links:
        router = links.router(instance.client_endpoint)
        session = Session(instance, 1.0, hello=False)  # nobody holds the lock
        session.open_job("job")
        session.send(StatusRequest())
        assert links.wait(5.0, [router])
        incoming = router.receive()
        assert incoming
        result = PageResult("job", 0, 1, 1, "text", FinishReason.STOP, (GEOMETRY,), 1, 5, 2, "fake", "fake", {})
        late = threading.Timer(0.03, router.send, (codec.encode(result), incoming.sender))
        late.start()
        session.next_of("job", 0.001)  # hears nothing yet, and sees that nobody is there
        late.join()
        assert session.next_of("job", 5.0) == result
        with pytest.raises(RuntimeLostError, match="has ended"):
            session.next_of("job", 5.0)
        session.close()


def test_a_folder_for_logs_that_cannot_be_made_is_named(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(endpoints, "log_directory", lambda *_, **__: tmp_path / "file" / "log")
    fake = PluginChoice.parse("fake")
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(CommandFailedError, match=r"cannot be started.*file/log"):
        launch.start(RuntimeConfig("test", "fake", "", fake, fake), private=False)
    assert len(list(Path("/dev/fd").iterdir())) == before
