"""Faults of the runtime that a review found: each test failed before its repair."""

import hashlib
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dotsctl.client.api import Client
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol import codec, endpoints
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, RuntimeLostError
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import PageFailed, PageResult, Ping, Status, StatusRequest
from dotsctl.protocol.parts import Role

from tests.conftest import HAS_PROC, Gate, processes_in
from tests.process.conftest import START_S, Instance, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]
NAME = "test"


@pytest.fixture
def named(run_folder: Path) -> Iterator[InstanceDirectory]:
    """Place of a named runtime; one that runs at the end is stopped."""
    directory = endpoints.instance_directory(NAME)
    yield directory
    if endpoints.lock_holder(directory) is not None:
        launch.stop(NAME, now=True, timeout_s=10)
    endpoints.create(directory)
    endpoints.remove_stale(directory)
    directory.lock_path.unlink(missing_ok=True)


def start_named(encoder: str = "fake", decoder: str = "fake") -> int:
    """Start the named runtime; returns its process id."""
    config = RuntimeConfig(NAME, "fake", "", PluginChoice.parse(encoder), PluginChoice.parse(decoder))
    return launch.start_detached(config, START_S).pid


def result_of(session: Session, job: str) -> PageResult:
    while not isinstance(message := session.next_of(job, 20.0), PageResult):
        assert message is not None, "no answer came"
    return message


@pytest.mark.parametrize("role", list(Role))
def test_a_worker_that_dies_while_the_runtime_drains_is_started_again(
    start: Start, gates: list[Gate], role: Role
) -> None:
    instance = start("fake", f"fake:gate={gates[0].path}")
    instance.session.open_job("job")
    for index, content in enumerate((b"first", b"second", b"third")):
        instance.session.send(*submit("job", index, content))
    gates[0].wait_entered()
    instance.runtime.process.send_signal(signal.SIGTERM)
    instance.wait_status(lambda status: status.state == "stopping", "the drain")
    gates[0].remove()
    instance.kill(role)
    gates[0].open()
    texts = {result_of(instance.session, "job").text for _ in range(3)}
    assert texts == {fake_text(content) for content in (b"first", b"second", b"third")}
    assert instance.runtime.process.wait(20) == 0


@pytest.mark.skipif(not HAS_PROC, reason="reads CPU time from /proc")
@pytest.mark.timing
def test_a_client_that_reads_nothing_does_not_make_the_runtime_spin(start: Start) -> None:
    instance = start()
    with Links() as links:
        deaf = links.dealer(instance.runtime.directory.client_endpoint)
        for _ in range(6000):  # more answers than both ends of a socket hold
            while not deaf.send(codec.encode(StatusRequest())):
                links.wait(1.0, writable=[deaf])
        instance.wait_status(lambda status: status.clients == 2, "the deaf client")
        instance.session.open_job("nothing")
        instance.session.next_of("nothing", 1.0)  # lets the runtime work its questions off
        before, started = cpu_s(instance.runtime.process.pid), time.monotonic()
        instance.session.next_of("nothing", 2.0)
        used = (cpu_s(instance.runtime.process.pid) - before) / (time.monotonic() - started)
        answers = 0
        while links.wait(2.0, [deaf]):
            incoming = deaf.receive()
            answers += bool(incoming) and isinstance(codec.decode(incoming.frames).message, Status)
            if answers == 6000:
                break
    assert answers == 6000
    assert used < 0.3, f"the runtime used {used:.0%} of a core while it had nothing to do"


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_client_of_a_dead_runtime_is_not_fooled_by_its_successor(named: InstanceDirectory, gates: list[Gate]) -> None:
    pid = start_named("fake", f"fake:gate={gates[0].path}")
    session = Session(named, START_S)
    try:
        session.open_job("job")
        session.send(*submit("job", 0, b"page"))
        gates[0].wait_entered()
        gates[0].remove()
        os.kill(pid, signal.SIGKILL)
        gates[0].open()
        launch._gone(named, time.monotonic() + 5)
        assert start_named() != pid
        with pytest.raises(RuntimeLostError, match="has ended"):
            while session.next_of("job", 10.0):
                pass  # the acceptance of the page, which the dead one had sent
    finally:
        session.close()


def test_a_worker_that_outlives_its_runtime_does_not_lock_out_the_next_one(named: InstanceDirectory) -> None:
    """A prediction may hold a worker of a killed runtime for seconds; its sockets connect to the next runtime."""
    endpoints.create(named)
    pid = start_named()
    os.kill(pid, signal.SIGKILL)
    assert launch._gone(named, time.monotonic() + 5)
    with Links() as links:
        for path in named.path.glob("w*.sock"):
            zombie = links.dealer(f"ipc://{path}", "encoder.1")
            zombie.send(codec.encode(StatusRequest()))
        started = time.monotonic()
        start_named()
        assert time.monotonic() - started < 10


def test_a_prompt_that_fills_a_message_does_not_end_the_runtime(start: Start) -> None:
    instance = start()
    message, buffers = submit("j", 0, b"page")
    frames = codec.encode(replace(message, digest=""), buffers)
    room = codec.MAX_HEADER_BYTES - len(frames[1]) - 4
    long = codec.msgpack.unpackb(frames[1])
    long["options"]["prompt"] = "x" * room
    header = codec.msgpack.packb(long)
    assert codec.MAX_HEADER_BYTES - 16 <= len(header) <= codec.MAX_HEADER_BYTES
    with Links() as links:
        link = links.dealer(instance.runtime.directory.client_endpoint)
        link.send([frames[0], header, *frames[2:]])
        assert links.wait(5.0, [link]), "no answer"
        incoming = link.receive()
        assert incoming and not isinstance(codec.decode(incoming.frames).message, Ping)
    assert isinstance(instance.read([b"other"])[0], PageResult)


def test_a_worker_that_cannot_be_started_again_ends_the_runtime_with_the_reason(start: Start) -> None:
    instance = start()
    instance.session.open_job("job")
    encoder = instance.pid(Role.ENCODER)
    shutil.rmtree(instance.runtime.directory.path)
    os.kill(encoder, signal.SIGKILL)
    with pytest.raises(CommandFailedError, match=r"a worker cannot be started.*No such file|folder .* was removed"):
        instance.session.next_of("job", 20.0)
    assert instance.runtime.process.wait(20) == 7


def test_a_client_receives_the_reason_why_its_runtime_ended(start: Start) -> None:
    for _ in range(5):
        instance = start()
        instance.session.open_job("job")
        instance.runtime.process.send_signal(signal.SIGQUIT)
        with pytest.raises(RuntimeLostError, match="stopped by SIGQUIT"):
            instance.session.next_of("job", 20.0)


def test_the_status_of_a_runtime_that_still_loads_is_reported(run_folder: Path) -> None:
    config = RuntimeConfig(
        launch.private_name(), "fake", "", PluginChoice.parse("fake:load_fault=hang"), PluginChoice.parse("fake")
    )
    runtime = launch.start(config, private=True)
    session = None
    try:
        pause, deadline = select.poll(), time.monotonic() + START_S
        while endpoints.lock_holder(runtime.directory) is None:  # before that nothing tells it from a dead one
            assert time.monotonic() < deadline
            pause.poll(5)
        session = Session(runtime.directory, START_S, hello=False)
        status = session.status()
        assert status.state == "starting"
    finally:
        if session:
            session.close()
        runtime.end(now=True)
        os.close(runtime.ready_fd)


def test_a_runtime_that_stands_still_is_given_up_by_its_clients(
    named: InstanceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start_named()
    session = Session(named, START_S)
    monkeypatch.setattr("dotsctl.client.connection.wire.SILENT_S", 1.0)
    session.open_job("job")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(RuntimeLostError, match=f"pid {pid}.*sent nothing"):
            while session.next_of("job", 20.0) is None:
                raise AssertionError("the client waits for ever")
    finally:
        os.kill(pid, signal.SIGCONT)
        session.close()


def test_a_client_that_cannot_be_made_leaves_no_runtime(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: launch.RuntimeProcess, timeout_s: float) -> None:
        os.close(self.ready_fd)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.RuntimeProcess, "wait_ready", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:  # which keeps the frame, and with it the client, alive
        Client(encoder="fake", decoder="fake", private=True)
    assert processes_in(run_folder) == []
    assert caught.value.__traceback__ is not None


def test_a_worker_that_is_given_up_while_the_runtime_drains_ends_it(start: Start, gates: list[Gate]) -> None:
    instance = start("fake", f"fake:gate={gates[0].path}", max_starts=1)
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page"))
    gates[0].wait_entered()
    gates[0].remove()
    instance.runtime.process.send_signal(signal.SIGTERM)
    instance.wait_status(lambda status: status.state == "stopping", "the drain")
    instance.kill(Role.DECODER)
    with pytest.raises(CommandFailedError, match="decoder worker died 1 times"):
        while instance.session.next_of("job", 20.0):
            pass
    assert instance.runtime.process.wait(20) == 7


def test_a_decoder_whose_plugin_raises_fails_the_page_alone_and_is_not_started_again(start: Start) -> None:
    bad = hashlib.sha256(b"bad").hexdigest()[:12]
    instance = start("fake", f"fake:fault=raise,on={bad}")
    started = time.monotonic()
    answers = instance.read([b"one", b"bad", b"two"])
    assert time.monotonic() - started < 15
    assert isinstance(answers[1], PageFailed) and answers[1].code is ErrorCode.INTERNAL
    assert answers[1].message.startswith("decoder 'fake' raised ZeroDivisionError: decoder fake is set to raise (")
    assert [type(answers[n]) for n in (0, 2)] == [PageResult, PageResult]
    assert instance.restarts(Role.DECODER) == 0
