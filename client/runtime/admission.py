"""The requests that may be dispatched now: credits, and isolation of suspects. Pure.

A request holds a credit of its encoder from its dispatch until the decoder has consumed its embeddings. Credits are
counted from the ledger each time and never incremented, so a lost or repeated message cannot break them.
"""

from collections import Counter
from collections.abc import Set

from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.views import Limits

BYTES_A_VALUE = 4
"""The bytes of one value of an embedding, to estimate a page's size before it is encoded."""


def choose(ledger: Ledger, limits: Limits, width: int, ready: Set[int]) -> Request | None:
    """Take the request that may be dispatched now out of its queue.

    A suspect waits until nothing is in flight, and then runs alone.

    Args:
        ledger: all requests.
        limits: number of credits of each encoder, and bytes of embeddings that may be outstanding in all.
        width: columns of the embeddings.
        ready: indexes of the encoders that are ready.
    """
    if suspect := ledger.next_suspect():
        is_alone = ledger.count(RequestState.QUEUED) == len(ledger.requests)
        return ledger.take_suspect() if is_alone and ledger.encoder_index_of(suspect.lane) in ready else None
    if any(request.suspect for request in ledger.in_flight()):
        return None
    outstanding = ledger.outstanding()
    if outstanding and outstanding_bytes(ledger, width) >= limits.credit_bytes:
        return None
    used = Counter(request.encoder_index for request in outstanding)
    return ledger.take_next({index for index in ready if used[index] < limits.credits})


def outstanding_bytes(ledger: Ledger, width: int) -> int:
    """Return the bytes of embeddings in flight, as the encoder reported or as the page's size suggests."""
    return sum(r.embedding_bytes or r.cost * width * BYTES_A_VALUE for r in ledger.outstanding())
