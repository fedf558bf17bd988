"""The places that workers fill: the decoder, and one or more encoders that stand side by side. Pure."""

from dataclasses import dataclass

from dotsctl.protocol.parts import Role, worker_name


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place in the runtime; a process that dies is followed by another one in the same seat."""

    role: Role
    place: int = 0
    """Of an encoder among the encoders; what ``Submit.encoder`` counts."""

    def __str__(self) -> str:
        return worker_name(self.role, self.place)


ENCODER, DECODER = Seat(Role.ENCODER), Seat(Role.DECODER)
