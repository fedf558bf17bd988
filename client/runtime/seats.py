"""The places that workers fill: the decoder, and one or more encoders that stand side by side. Pure."""

from dataclasses import dataclass

from dotsctl.protocol.parts import Role, worker_name


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's slot in the runtime; a process that dies is followed by another one in the same slot."""

    role: Role
    place: int = 0
    """The number of an encoder among the encoders; what ``Submit.encoder`` counts."""

    def __str__(self) -> str:
        return worker_name(self.role, self.place)


ENCODER, DECODER = Seat(Role.ENCODER), Seat(Role.DECODER)


def identity_of(role: Role, epoch: int) -> bytes:
    """Name of a process on the control socket; a zombie can never be confused with its successor."""
    return f"{role}.{epoch}".encode()
