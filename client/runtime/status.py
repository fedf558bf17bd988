"""The status of a runtime, collected from its parts."""

import os

from dotsctl import __version__
from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.runtime.processes import WorkerProcesses
from dotsctl.client.runtime.request import RequestState
from dotsctl.client.runtime.views import has_work
from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot
from dotsctl.client.runtime.worker_table import WorkerState
from dotsctl.protocol.messages import Status
from dotsctl.protocol.parts import WorkerReport


def status_of(
    machine: RuntimeMachine, processes: WorkerProcesses, *, started: float, now: float, clients: int, bad_messages: int
) -> Status:
    """State at ``now`` of an instance that started at the monotonic time ``started``."""
    core, config = machine.core, machine.config
    states = {state.name.lower(): number for state in RequestState if (number := core.ledger.count(state))}
    decoder = core.workers.get(DECODER)
    return Status(
        instance=machine.instance,
        pid=os.getpid(),
        version=__version__,
        model=config.model_name,
        fingerprint=decoder.ready.fingerprint if decoder and decoder.ready else "",
        state="stopping" if core.stopping else "ready" if core.all_ready else "starting",
        uptime_s=now - started,
        workers=tuple(_worker(machine, slot, processes, now) for slot in machine.table.slots),
        clients=clients,
        requests=states,
        counters={**vars(core.counters), "bad_messages": bad_messages},
        memory_bytes=config.memory_bytes,
    )


def _worker(machine: RuntimeMachine, slot: WorkerSlot, processes: WorkerProcesses, now: float) -> WorkerReport:
    core, auto, worker = machine.core, machine.config.auto, machine.table.in_slot(slot)
    is_serving, is_encoder = worker.ready is not None, slot != DECODER
    is_busy = is_serving and has_work(slot.role, worker.epoch, core.ledger)
    memory = processes.memory(slot.role, worker.epoch)
    return WorkerReport(
        role=slot.role,
        plugin=core.encoder_names[slot.index] if is_encoder else core.decoder_name,
        state=WorkerState.SUSPECTED if worker.stopped_at is not None else worker.state,
        pid=processes.pid(slot.role, worker.epoch),
        epoch=worker.epoch,
        restarts=max(0, worker.starts - 1),
        last_exit=worker.last_exit,
        pages=core.outcomes.pages[slot],
        busy_share=min(1.0, worker.busy_s / max(1e-9, now - worker.since)) if is_serving else 0.0,
        log=str(worker.log),
        busy_for_s=now - worker.progress_at if is_busy else 0.0,
        rss_bytes=memory.rss_bytes,
        peak_bytes=memory.peak_bytes,
        place=slot.index,
        readiness=worker.readiness,
        readiness_age_s=now - worker.readiness_at if worker.readiness else 0.0,
        note=(core.choice.note(slot.index) or (auto.refused if auto else "")) if is_encoder else "",
    )
