"""The answer to a client's hello: what this runtime reads pages with. Pure."""

import os

from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol.messages import Welcome
from dotsctl.protocol.parts import Capability, Device, Role


def welcome_of(config: RuntimeConfig, core: Coordinator, instance: str) -> Welcome:
    """The answer to a client's hello; all workers are ready."""
    decoder = core.workers[DECODER].ready
    assert decoder is not None, "a ready worker without its report"
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
        capabilities=tuple(_capability(config, core, index) for index in range(len(core.encoder_names))),
        decoder_device=decoder.device,
        auto=config.auto is not None,
    )


def _capability(config: RuntimeConfig, core: Coordinator, index: int) -> Capability:
    """The device and page sizes of an encoder; as they are expected to be where it is not loaded."""
    worker = core.workers.get(WorkerSlot(Role.ENCODER, index))
    if worker is not None and worker.ready is not None:
        return Capability(worker.ready.device, worker.ready.buckets)
    if config.auto is None:
        return Capability(Device.CPU)
    return Capability(config.auto.devices[index], config.auto.buckets if index else ())
