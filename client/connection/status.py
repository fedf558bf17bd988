"""The status of a running runtime, once or again and again."""

import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dotsctl.client.connection.session import Session
from dotsctl.protocol.descriptors import naming_shortage
from dotsctl.protocol.endpoints import (
    InstanceDirectory,
    RuntimeFacts,
    instance_directory,
    instances,
    lock_holder,
    not_running,
)
from dotsctl.protocol.errors import OTHER_VERSION, DotsctlError, ErrorCode, ProtocolError
from dotsctl.protocol.messages import Status
from dotsctl.protocol.parts import Role

STATUS_TIMEOUT_S = 10.0


def query_status(instance: str) -> Status:
    """Request the status of a running runtime; raises RuntimeLostError when there is none."""
    directory = instance_directory(instance)
    if lock_holder(directory) is None:
        raise not_running(instance)
    with naming_shortage():
        session = Session(directory, STATUS_TIMEOUT_S, hello=False)
    try:
        return session.status()
    except ProtocolError as error:
        if error.code != ErrorCode.PROTO or (facts := directory.read_facts()) is None:
            raise
        return _of_other_version(facts)
    finally:
        session.close()


def _of_other_version(facts: RuntimeFacts) -> Status:
    """Return what is known of a runtime that does not understand this version of dotsctl."""
    return Status(
        instance=facts.instance,
        pid=facts.pid,
        version=facts.release,
        model=facts.model,
        fingerprint=facts.fingerprint,
        state=f"of another version ({OTHER_VERSION})",
        uptime_s=0.0,
        workers=(),
        clients=0,
        requests={},
        counters={},
    )


@dataclass(frozen=True)
class RuntimeSummary:
    """A running runtime, in one line."""

    name: str
    pid: int
    model: str
    encoder: str
    decoder: str
    state: str
    """The state, as in :class:`Status`; ``no answer`` where it gives none."""
    pages: int
    """Pages that were read since it started."""


def running_runtimes() -> list[RuntimeSummary]:
    """All runtimes of this user that run, by name; a runtime that hangs is waited for 10 s."""
    held = [(directory, pid) for directory in instances() if (pid := lock_holder(directory)) is not None]
    with ThreadPoolExecutor(max(1, len(held))) as pool:
        return list(pool.map(lambda each: _summary(*each), held))


def _summary(directory: InstanceDirectory, pid: int) -> RuntimeSummary:
    try:
        status = query_status(directory.name)
    except DotsctlError:
        facts = directory.read_facts()
        known = (facts.model, facts.encoder, facts.decoder) if facts is not None else ("", "", "")
        return RuntimeSummary(directory.name, pid, *known, "no answer", 0)
    encoder, decoder = (
        " and ".join(worker.plugin for worker in status.workers if worker.role is role)
        for role in (Role.ENCODER, Role.DECODER)
    )
    done = status.counters.get("done", 0)
    return RuntimeSummary(directory.name, status.pid, status.model, encoder, decoder, status.state, done)


def watch_status(instance: str, pause_s: float, show: Callable[[Status], None]) -> None:
    """Request the status again and again over one connection; raises RuntimeLostError when the runtime has ended."""
    directory = instance_directory(instance)
    show(query_status(instance))
    session = Session(directory, STATUS_TIMEOUT_S, hello=False)
    try:
        while True:
            select.select([], [], [], pause_s)
            show(session.status())
    finally:
        session.close()
