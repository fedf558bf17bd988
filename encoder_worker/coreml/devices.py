"""The compute devices that Core ML offers on this machine."""

from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.residency import NEURAL_ENGINE, device_names
from dotsctl.protocol.errors import MissingError


def available_devices() -> tuple[str, ...]:
    """Return the devices, ``cpu``, ``gpu`` and ``ne``, each once; macOS only.

    A virtual machine has no Neural Engine, and a load for one never ends there.
    """
    ct = import_coremltools()
    names = device_names()
    found = (names.get(type(device)) for device in ct.models.MLModel.get_available_compute_devices())
    return tuple(sorted({name for name in found if name is not None}))


def require_neural_engine(units: str) -> None:
    """Raise MissingError at once where compute units need a Neural Engine that this machine does not have.

    In a virtual machine a load for it never ends; with the compute units ``all`` Core ML uses what there is.
    """
    if units == "cpu_and_ne" and NEURAL_ENGINE not in (found := available_devices()):
        raise MissingError(
            f"compute_units={units}: this machine offers Core ML no Neural Engine (its devices: {', '.join(found)})",
            "use --encoder mlx",
        )
