"""All workers of a runtime have one model, also those that come later. Pure."""

from dataclasses import dataclass

from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.protocol.messages import Ready


@dataclass(frozen=True)
class Model:
    """The model of a runtime, as its first worker reported it."""

    slot: WorkerSlot
    """The slot of that worker."""
    fingerprint: str
    width: int
    """Columns of the embeddings."""

    def difference(self, ready: Ready) -> str:
        """Return how the model of another worker differs, as the rest of a sentence; empty: it is the same."""
        if (ready.fingerprint, ready.width) == (self.fingerprint, self.width):
            return ""
        return (
            f"has model {ready.fingerprint[:12]} of width {ready.width}, the runtime began with model "
            f"{self.fingerprint[:12]} of width {self.width} ({self.slot})"
        )
