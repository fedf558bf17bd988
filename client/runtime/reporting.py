"""What the runtime tells clients about itself, from what its parts know."""

import os
import time
from dataclasses import replace

from dotsctl import __version__
from dotsctl.client.config import RuntimeConfig
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.client.runtime.supervisor import Supervisor
from dotsctl.client.runtime.views import has_work
from dotsctl.protocol.messages import Status, Welcome
from dotsctl.protocol.parts import Capability, Device, Role, WorkerReport


def welcome_of(config: RuntimeConfig, core: Coordinator, instance: str) -> Welcome:
    """The answer to a client's hello; all workers are ready."""
    decoder = core.workers[DECODER].ready
    return Welcome(
        instance=instance,
        pid=os.getpid(),
        window=core.window,
        model=config.model_name,
        fingerprint=decoder.fingerprint,
        encoders=tuple(core.encoder_names),
        decoder=str(config.decoder),
        tasks=decoder.tasks,
        model_path=config.model,
        capabilities=tuple(_capability(config, core, place) for place in range(len(core.encoder_names))),
        decoder_device=decoder.device,
        auto=config.auto is not None,
    )


def _capability(config: RuntimeConfig, core: Coordinator, place: int) -> Capability:
    """The device and page sizes of an encoder; as they are expected to be where it is not loaded."""
    if view := core.workers.get(Seat(Role.ENCODER, place)):
        return Capability(view.ready.device, view.ready.buckets)
    if config.auto is None:
        return Capability(Device.CPU)
    return Capability(config.auto.devices[place], config.auto.buckets if place else ())


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
    decoder = core.workers.get(DECODER)
    return Status(
        instance=instance,
        pid=os.getpid(),
        version=__version__,
        model=config.model_name,
        fingerprint=decoder.ready.fingerprint if decoder else "",
        state="stopping" if core.stopping else "ready" if core.all_ready else "starting",
        uptime_s=now - started,
        workers=tuple(_worker(config, seat, core, supervisor, now) for seat in supervisor.workers),
        clients=clients,
        requests=states,
        counters={**vars(core.counters), "bad_messages": bad_messages},
        memory_bytes=config.memory_bytes,
    )


def _worker(config: RuntimeConfig, seat: Seat, core: Coordinator, supervisor: Supervisor, now: float) -> WorkerReport:
    view = core.workers.get(seat)
    busy_share = view.busy_s / max(1e-9, now - view.since) if view else 0.0
    plugin = core.decoder_name if seat == DECODER else core.encoder_names[seat.place]
    busy_for_s = now - view.progress_at if view and has_work(seat.role, view.epoch, core.ledger) else 0.0
    report = supervisor.report(seat, plugin, core.pages[seat], min(1.0, busy_share), busy_for_s)
    is_encoder, refused = seat != DECODER, config.auto.refused if config.auto else ""
    return replace(report, note=(core.choice.note(seat.place) or refused) if is_encoder else "")
