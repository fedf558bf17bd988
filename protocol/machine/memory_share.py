"""One limit of memory for a runtime, shared out to its workers before anything is loaded. Pure.

First comes what nothing can be read without: the weights, the two processes, one small page
(:class:`dotsctl.protocol.machine.memory.Need`), and what the user has fixed. The rest is for speed and large pages, in
these parts: an eighth for pages on their way from the encoder to the decoder, an eighth for each worker's freed
buffers, half of what then remains for the tower at work on a large page, and the keys and values of the pages that are
decoded together. No part gets more than it can use; what one leaves goes to the tower.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.machine.memory import Need

MIB = 1 << 20
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
KEYS_BYTES = 4096 * MIB
"""The default limit of the decoder's keys and values; more than pages ever fill."""
FREED_BYTES = 1024 * MIB
"""Buffers that each worker may keep for reuse by default."""
IN_FLIGHT_BYTES = 128 * MIB
"""Embeddings between the workers by default."""

LEAST_REST_BYTES = 16 * MIB
"""The smallest rest to share out, in bytes; with less some part would be nothing."""


@dataclass(frozen=True)
class Fixed:
    """The limits that the user has set, in bytes; none: to be shared out."""

    keys_bytes: int | None = None
    encoder_freed_bytes: int | None = None
    decoder_freed_bytes: int | None = None


@dataclass(frozen=True)
class Share:
    """The limit of each part of the runtime, in bytes."""

    keys_bytes: int
    """Keys and values of all pages that are decoded together."""
    encoder_freed_bytes: int
    """Buffers that the encoder's MLX keeps for reuse."""
    decoder_freed_bytes: int
    in_flight_bytes: int
    """Embeddings on their way from the encoder to the decoder."""
    page_bytes: int
    """Working set of the tower; a page that needs more than this goes over the limit while it is encoded."""

    @property
    def credits(self) -> int:
        """Pages that the encoder may be ahead; it needs two only where there is room for two."""
        return 2 if self.in_flight_bytes == IN_FLIGHT_BYTES else 1


def share(limit_bytes: int, need: Need, fixed: Fixed | None = None, smaller: str = "") -> Share:
    """Share a limit out; all parts together, with the weights and the processes, never exceed it.

    Args:
        limit_bytes: for all workers together.
        need: of the model.
        fixed: what the user has decided.
        smaller: how to make the decoder take less, as an imperative; empty: not known.

    Raises:
        UsageError: with so little nothing can be read; the message has the numbers.
    """
    fixed = fixed or Fixed()
    keys_bytes = max(need.small_keys_bytes, fixed.keys_bytes or 0)
    decided = keys_bytes - need.small_keys_bytes + (fixed.encoder_freed_bytes or 0) + (fixed.decoder_freed_bytes or 0)
    rest = limit_bytes - need.least_bytes - decided
    if rest < LEAST_REST_BYTES:
        raise _refusal(limit_bytes, need, decided, smaller)
    eighth = rest // 8
    in_flight = min(IN_FLIGHT_BYTES, eighth)
    rest -= in_flight
    freed = min(FREED_BYTES, eighth)
    encoder_freed, decoder_freed = fixed.encoder_freed_bytes, fixed.decoder_freed_bytes
    if encoder_freed is None:
        encoder_freed, rest = freed, rest - freed
    if decoder_freed is None:
        decoder_freed, rest = freed, rest - freed
    wish = max(0, need.largest_page_bytes - need.small_tower_bytes)
    tower = min(wish, rest // 2)
    if fixed.keys_bytes is None:
        more = min(max(0, KEYS_BYTES - keys_bytes), rest - tower)
        keys_bytes, rest = keys_bytes + more, rest - more
    return Share(keys_bytes, encoder_freed, decoder_freed, in_flight, need.small_tower_bytes + min(wish, rest))


def _refusal(limit_bytes: int, need: Need, decided: int, smaller: str) -> UsageError:
    least = need.least_bytes + decided + LEAST_REST_BYTES
    chosen = f", the sizes that you chose {_size(decided)}" if decided else ""
    advice = f"raise it to {math.ceil(least / (1 << 30) * 10) / 10:g}G"
    if decided:
        advice += ", or choose smaller sizes"
    if smaller and need.decoder_bytes > least // 4:
        advice += f", or {smaller}"
    return UsageError(
        f"a memory limit of {_size(limit_bytes)} is too small: the encoder's weights take {_size(need.encoder_bytes)}, "
        f"the decoder's {_size(need.decoder_bytes)}, the processes and one small page {_size(need.small_page_bytes)}"
        f"{chosen}, together {_size(least)}",
        f"{advice}",
    )


def parse_size(text: str) -> int:
    """Bytes of a size as ``8G``, ``512M``, ``1.5GiB`` or a number of bytes; units are powers of 1024.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(?:I?B)?", text.strip().upper())
    size_bytes = int(Fraction(found[1]) * (1 << UNITS[found[2]])) if found else 0
    if not 1 <= size_bytes < 1 << 60:
        raise UsageError(f"memory = {text!r} is not a size", "write it as 8G or 512M")
    return size_bytes


def _size(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.0f} MiB" if size_bytes < 1000 * MIB else f"{size_bytes / (1 << 30):.2f} GiB"
