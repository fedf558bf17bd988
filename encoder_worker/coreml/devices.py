"""The compute devices that Core ML offers on this machine."""

from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.residency import device_names


def available_devices() -> tuple[str, ...]:
    """Return the devices, ``cpu``, ``gpu`` and ``ne``, each once; macOS only.

    A virtual machine has no Neural Engine, and a load for one never ends there.
    """
    ct = import_coremltools()
    names = device_names()
    found = (names.get(type(device)) for device in ct.models.MLModel.get_available_compute_devices())
    return tuple(sorted({name for name in found if name is not None}))
