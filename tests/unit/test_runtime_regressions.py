"""Faults of the coordinator and of what lies around it that a review found: each test failed before its repair."""

from pathlib import Path

import pytest
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Kill, ToWorker
from dotsctl.client.runtime.views import Limits
from dotsctl.protocol import endpoints
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import (
    Consumed,
    Done,
    Encode,
    Encoded,
    FinishReason,
    Message,
    Ready,
    Received,
    RequestFailed,
    Role,
    Submit,
)
from dotsctl.tools.simulation import GEOMETRY, OPTIONS

CLIENT = b"client"


@pytest.fixture
def core() -> Coordinator:
    """Both workers are ready at time 0."""
    made = Coordinator(Limits(credits=2, stall_timeout_s=120.0, page_timeout_s=1800.0), "fake", "fake")
    for role in Role:
        made.worker_ready(role, 1, Ready("f" * 64, 8, "d.1", 1, ("text",), 0.0), 0.0)
    return made


def submit(core: Coordinator, index: int, now: float) -> None:
    from dotsctl.protocol.messages import ImageHeader, ImageKind

    image = ImageHeader(ImageKind.FILE, 1, 280, 280)
    core.submit(CLIENT, Submit("job", index, str(index), image, OPTIONS, False), [b"x"], now)


def say(core: Coordinator, role: Role, message: Message, now: float) -> None:
    core.worker_message(role, 1, message, now)


def kills(core: Coordinator) -> list[Role]:
    return [command.role for command in core.take_commands() if isinstance(command, Kill)]


def test_a_decoder_is_not_blamed_for_the_time_in_which_it_had_nothing_to_do(core: Coordinator) -> None:
    submit(core, 0, 0.0)
    submit(core, 1, 0.0)
    say(core, Role.ENCODER, Encoded(1, 1, 32), 100.0)
    say(core, Role.DECODER, Received(1, 1), 100.1)
    say(core, Role.DECODER, Consumed(1, 1), 100.2)
    submit(core, 2, 100.3)
    say(core, Role.DECODER, Done(1, 1, "", FinishReason.STOP, GEOMETRY, 1, 5, 2, {}), 101.0)
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
    assert kills(core) == [Role.ENCODER], "patience ends at last"


def test_a_silent_worker_is_killed_once_and_not_at_every_tick(core: Coordinator) -> None:
    submit(core, 0, 0.0)
    assert any(isinstance(c, ToWorker) and isinstance(c.message, Encode) for c in core.take_commands())
    for second in range(122):
        core.tick(float(second))
    assert kills(core) == [Role.ENCODER]


def test_a_relative_runtime_directory_means_the_same_in_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", "run")
    monkeypatch.chdir(tmp_path)
    assert endpoints.run_directory({"DOTSCTL_RUNTIME_DIR": "run"}) == tmp_path / "run"
