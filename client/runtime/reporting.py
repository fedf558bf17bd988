"""What the runtime tells clients about itself, from what its parts know."""

import os
import time

from dotsctl import __version__
from dotsctl.client.config import RuntimeConfig
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.supervisor import Supervisor
from dotsctl.client.runtime.views import has_work
from dotsctl.protocol.messages import Status, Welcome
from dotsctl.protocol.parts import Role, WorkerReport


def welcome_of(config: RuntimeConfig, core: Coordinator, instance: str) -> Welcome:
    """The answer to a client's hello; both workers are ready."""
    decoder = core.workers[Role.DECODER].ready
    return Welcome(
        instance=instance,
        pid=os.getpid(),
        window=core.window,
        model=config.model_name,
        fingerprint=decoder.fingerprint,
        encoder=str(config.encoder),
        decoder=str(config.decoder),
        tasks=decoder.tasks,
    )


def status_of(
    config: RuntimeConfig,
    core: Coordinator,
    supervisor: Supervisor,
    *,
    instance: str,
    started: float,
    clients: int,
    bad_messages: int,
) -> Status:
    """State of an instance that started at the monotonic time ``started``."""
    now = time.monotonic()
    states: dict[str, int] = {}
    for request in core.ledger.requests.values():
        name = request.state.name.lower()
        states[name] = states.get(name, 0) + 1
    decoder = core.workers.get(Role.DECODER)
    return Status(
        instance=instance,
        pid=os.getpid(),
        version=__version__,
        model=config.model_name,
        fingerprint=decoder.ready.fingerprint if decoder else "",
        state="stopping" if core.stopping else "ready" if core.all_ready else "starting",
        uptime_s=now - started,
        workers=tuple(_worker(role, config, core, supervisor, now) for role in Role),
        clients=clients,
        requests=states,
        counters={**vars(core.counters), "bad_messages": bad_messages},
        memory_bytes=config.memory_bytes,
    )


def _worker(role: Role, config: RuntimeConfig, core: Coordinator, supervisor: Supervisor, now: float) -> WorkerReport:
    view = core.workers.get(role)
    busy_share = view.busy_s / max(1e-9, now - view.since) if view else 0.0
    choice = config.encoder if role is Role.ENCODER else config.decoder
    busy_for_s = now - view.progress_at if view and has_work(role, view.epoch, core.ledger) else 0.0
    return supervisor.report(role, str(choice), core.counters.done, min(1.0, busy_share), busy_for_s)
