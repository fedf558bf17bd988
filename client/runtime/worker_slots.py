"""The slots of the workers: one of the decoder, and one of each encoder. Pure."""

from dataclasses import dataclass

from dotsctl.protocol.parts import Role, worker_name


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """A worker's slot in the runtime; the process that replaces a dead one has the same slot."""

    role: Role
    index: int = 0
    """The number of an encoder among the encoders; what ``Submit.encoder`` counts."""

    def __str__(self) -> str:
        return worker_name(self.role, self.index)


ENCODER, DECODER = WorkerSlot(Role.ENCODER), WorkerSlot(Role.DECODER)


def identity_of(role: Role, epoch: int) -> bytes:
    """Name of a process on the control socket; a zombie can never be confused with its successor."""
    return f"{role}.{epoch}".encode()
