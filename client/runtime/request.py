"""One page with one task, on its way through the runtime. Pure."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.parts import Role

PIXELS_AN_EMBEDDING = 784


class RequestState(IntEnum):
    """The stage of a request; a message can only move it forward, a new attempt starts at the beginning."""

    QUEUED = 0
    ENCODING = 1
    """Dispatched to the encoder, which answers for it."""
    SENT = 2
    """The embeddings are on the way to the decoder; the encoder still answers for it."""
    RECEIVED = 3
    """The decoder's process has it, and answers for it from here on."""
    DECODING = 4
    """The page is in the decoder's batch; its credit is free."""


class Lane(NamedTuple):
    """All that the choice of an encoder for a request depends on; requests of one lane go to one encoder."""

    encoder: int | None
    """The slot of the encoder that the request names; none: the coordinator chooses."""
    bucket: int | None = None
    """Page size in patches, where the encoder is chosen by it."""
    needs_first: bool = False
    """Whether another encoder than the first one failed with the request."""


FIRST_LANE = Lane(0)


@dataclass(eq=False)
class Request:
    """One page with one task."""

    request_id: int
    client: bytes
    submit: Submit
    buffers: list[Buffer]
    accepted_at: float
    attempt: int = 1
    dispatched_at: float | None = None
    """The time of the first attempt; the page's deadline counts from here."""
    changed_at: float = 0.0
    suspect: bool = False
    """A worker died with this request in its compute; it runs alone until it is cleared."""
    solo_deaths: int = 0
    """Deaths of a worker during which this was the only request in flight."""
    gpu_faults: int = 0
    """Times that macOS ended or refused a worker's work on the GPU while the worker computed this request."""
    stalls: int = 0
    embedding_bytes: int = 0
    """The size of this attempt's embeddings, as the encoder reported; 0 before."""
    encoder_epoch: int = 0
    """The epoch of the encoder that this attempt was dispatched to."""
    encoder_name: str = ""
    """Plugin and options of that encoder."""
    encoder_index: int = 0
    """The index of the encoder that it was sent to last."""
    lane: Lane = FIRST_LANE
    is_decoder_busy: bool = False
    """Whether the decoder had work when this attempt was dispatched."""
    needs_first: bool = False
    """Whether another encoder than the first one failed with it, so that the first one is to read it."""
    by_state: dict[RequestState, dict[int, "Request"]] | None = field(default=None, repr=False)
    """The index of the ledger that the request stands in; none: it stands in no ledger."""
    _state: RequestState = RequestState.QUEUED

    @property
    def state(self) -> RequestState:
        """The stage of the request; the ledger's index follows each change."""
        return self._state

    @state.setter
    def state(self, state: RequestState) -> None:
        if self.by_state is not None:
            del self.by_state[self._state][self.request_id]
            self.by_state[state][self.request_id] = self
        self._state = state

    def is_with_encoder(self, epoch: int) -> bool:
        """Return whether the encoder of this epoch answers for the request."""
        return self.encoder_epoch == epoch and self.state in (RequestState.ENCODING, RequestState.SENT)

    @property
    def slot(self) -> WorkerSlot:
        """The slot of the encoder that it was sent to last."""
        return WorkerSlot(Role.ENCODER, self.encoder_index)

    @property
    def cost(self) -> int:
        """Embeddings that the page will about have; what fairness counts."""
        return max(1, sum(i.width * i.height for i in self.submit.images) // PIXELS_AN_EMBEDDING)

    @property
    def nbytes(self) -> int:
        """The bytes of the images."""
        return sum(image.nbytes for image in self.submit.images)

    @property
    def address(self) -> tuple[str, int, int, int]:
        """The fields that every message to the client about the page begins with."""
        return (self.submit.job_id, self.submit.page_index, self.request_id, self.attempt)

    @property
    def key(self) -> tuple[bytes, str, int]:
        """The key by which the client identifies it."""
        return (self.client, self.submit.job_id, self.submit.page_index)
