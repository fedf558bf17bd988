"""The check that a model fits into the memory of this machine, and the test for exhausted memory.

The need is estimated before anything of the model is loaded.

The weights are known exactly, the working sets are fitted to measurements of MLX 0.32 on a CPU (Linux x86-64): at
the true width, float32 and attention in chunks of 256 queries, the tower took 63 MiB above its weights for 400 patches,
318 MiB for 2,024 and 601 MiB for 3,968.
"""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine.sysctl import sysctl_number
from dotsctl.protocol.model.directory import SMALL_BUILD

if TYPE_CHECKING:  # this is imported for its figures as well, by processes without a model
    from dotsctl.protocol.model.layout import TextSizes, VisionSizes
    from dotsctl.protocol.model.validation import CheckpointFacts

log = logging.getLogger(__name__)

NUMBERS_A_PATCH = 27
"""Numbers that the tower has in memory at its peak for each patch, in units of its width."""
PREPARED_BYTES_A_PATCH = 6 * 14 * 14 * 3
"""The page that is prepared while another one is computed: its pixels before and after resizing, and its patches in
float32."""
SMALL_PAGE_PATCHES = 2520
"""A4 at 72 dpi, below which hardly any page can be read."""
SMALL_PAGE_POSITIONS = 2048
"""630 embeddings of it, its prompt, and about a thousand tokens of answer."""
PROCESS_BYTES = 200 << 20
"""A worker without a model: Python, MLX and a BLAS."""
PATCH_AREA_PX = 14 * 14
LARGE_MAC_BYTES = 36 << 30
"""Memory of a Mac from which Metal's working set is three quarters of it, and no longer two thirds."""
EXHAUSTION_TEXTS = (
    "[malloc",  # "[malloc] Unable to allocate N bytes.", and "[malloc_or_wait] ..." of older versions
    "[metal::malloc]",  # more than the largest buffer, or too many buffers
    "Insufficient Memory",  # "[METAL] Command buffer execution failed: Insufficient Memory (...OutOfMemory)"
    "out of memory",  # CUDA
    "std::bad_alloc",
)
"""Parts of MLX's message when it cannot allocate."""


@dataclass(frozen=True)
class MemoryLimit:
    """The memory that is available at best."""

    physical_bytes: int
    limit_bytes: int | None = None
    """The limit of this process's control group under Linux, or Metal's working set on macOS; None without one."""

    @property
    def usable_bytes(self) -> int:
        """The smaller of both."""
        return min(self.physical_bytes, self.limit_bytes or self.physical_bytes)


@dataclass(frozen=True)
class Need:
    """Bytes that loaded halves take; a half that is not loaded here takes none."""

    encoder_bytes: int
    """Its weights as they are computed with."""
    decoder_bytes: int
    small_page_bytes: int
    """Working sets of one small page, and the processes themselves."""
    largest_page_bytes: int = 0
    """Working set of the tower for the largest page that the model allows."""
    cache_bytes: int = 0
    """Keys and values of all pages at most."""
    small_tower_bytes: int = 0
    """Working set of the tower for the small page, which is part of ``small_page_bytes``."""
    small_keys_bytes: int = 0
    """Keys and values of the small page, likewise."""

    @property
    def least_bytes(self) -> int:
        """The bytes below which nothing at all can be read."""
        return self.encoder_bytes + self.decoder_bytes + self.small_page_bytes

    @property
    def most_bytes(self) -> int:
        """The bytes with which nothing can run short."""
        return self.encoder_bytes + self.decoder_bytes + 2 * PROCESS_BYTES + self.largest_page_bytes + self.cache_bytes

    def __add__(self, other: "Need") -> "Need":
        """Return what two workers take together."""
        return Need(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


def tower_bytes(vision: "VisionSizes", num_patches: int, item_bytes: int) -> int:
    """Working set of the tower above its weights for a page of so many patches, and the next such page, prepared."""
    return (NUMBERS_A_PATCH * vision.embed_dim * item_bytes + PREPARED_BYTES_A_PATCH) * num_patches


def position_bytes(text: "TextSizes", item_bytes: int) -> int:
    """Keys and values of one position in all layers; 28,672 in dots.ocr with bfloat16."""
    return 2 * text.num_hidden_layers * text.key_width * item_bytes


def encoder_need(facts: "CheckpointFacts", item_bytes: int) -> Need:
    """Return the need of the encoder alone, which may run without a decoder.

    Args:
        facts: of the model.
        item_bytes: of a number: 4 for float32, 2 for bfloat16.
    """
    largest = facts.limits.max_pixels // PATCH_AREA_PX
    small = tower_bytes(facts.vision, min(SMALL_PAGE_PATCHES, largest), item_bytes)
    return Need(
        encoder_bytes=facts.encoder.loaded_bytes(item_bytes),
        decoder_bytes=0,
        small_page_bytes=PROCESS_BYTES + small,
        largest_page_bytes=tower_bytes(facts.vision, largest, item_bytes),
        small_tower_bytes=small,
    )


def decoder_need(facts: "CheckpointFacts", item_bytes: int, cache_bytes: int, decoder_bytes: int | None = None) -> Need:
    """Return the need of the decoder alone; see :func:`pipeline_need` for the arguments."""
    keys = min(position_bytes(facts.text, item_bytes) * SMALL_PAGE_POSITIONS, cache_bytes)
    return Need(
        encoder_bytes=0,
        decoder_bytes=facts.decoder.loaded_bytes(item_bytes) if decoder_bytes is None else decoder_bytes,
        small_page_bytes=PROCESS_BYTES + keys,
        cache_bytes=cache_bytes,
        small_keys_bytes=keys,
    )


def pipeline_need(
    facts: "CheckpointFacts", item_bytes: int, cache_bytes: int, decoder_bytes: int | None = None
) -> Need:
    """Return the need of both halves; a decoder never runs without an encoder.

    Args:
        facts: of the model.
        item_bytes: of a number: 4 for float32, 2 for bfloat16.
        cache_bytes: most for keys and values.
        decoder_bytes: the weights of a decoder that is used in place of the model's own; else none.
    """
    return encoder_need(facts, item_bytes) + decoder_need(facts, item_bytes, cache_bytes, decoder_bytes)


def require_memory(need: Need, machine: MemoryLimit | None = None) -> None:
    """Refuse a model that cannot run here; one that may run short leaves a warning in the log.

    Args:
        need: of the model.
        machine: the memory to have; this machine's where it is none.

    Raises:
        MissingError: weights and a small page exceed the memory.
    """
    machine = machine or memory_limit()
    if need.least_bytes > machine.usable_bytes:
        raise MissingError(
            f"the model is too large for this machine: {_weights(need)} and one small page takes "
            f"{_gb(need.small_page_bytes)}, together {_gb(need.least_bytes)}; {_memory(machine)}. Closing programs, "
            "--max-pixels and cache_mib cannot make up for that",
            f"take a build of fewer bits, as that of 'dotsctl pull {SMALL_BUILD}', or make a smaller decoder with "
            "'dotsctl convert MODEL --decoder-bits 4'; or use a machine with more memory",
        )
    if need.most_bytes > machine.usable_bytes:
        log.warning(
            "memory may run short: %s, the largest page takes %s and keys and values up to %s, together %s; %s. "
            "Close other programs, or lower --max-pixels or cache_mib",
            _weights(need),
            _gb(need.largest_page_bytes),
            _gb(need.cache_bytes),
            _gb(need.most_bytes),
            _memory(machine),
        )


def is_exhaustion(error: BaseException) -> bool:
    """Return whether an exception reports that memory ran out."""
    is_reported = isinstance(error, RuntimeError) and any(text in str(error) for text in EXHAUSTION_TEXTS)
    return is_reported or isinstance(error, MemoryError)


def memory_limit() -> MemoryLimit:
    """Return the physical memory of this machine and how much of it a model may take."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        return MemoryLimit(physical, metal_working_set_bytes(physical, sysctl_number("iogpu.wired_limit_mb")))
    limits = list(group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))
    return MemoryLimit(physical, min(limits, default=None))


def metal_working_set_bytes(physical_bytes: int, wired_limit_mib: int | None = None) -> int:
    """Return the memory that macOS lets a GPU hold at a time (Metal's recommendedMaxWorkingSetSize).

    Apple does not document the default. ``llama.cpp``, which logs Metal's answer, shows two thirds up to 32 GiB
    (5,461 of 8,192 MiB, 21,845 of 32,768 MiB) and at least three quarters from 36 GiB (27,648 of 36,864 MiB).

    Args:
        physical_bytes: memory of the machine.
        wired_limit_mib: ``iogpu.wired_limit_mb`` of the kernel, which replaces the default unless it is 0 or None.
    """
    if wired_limit_mib:
        return wired_limit_mib << 20
    return physical_bytes * 3 // 4 if physical_bytes >= LARGE_MAC_BYTES else physical_bytes * 2 // 3


def group_limits(membership: Path, root: Path) -> Iterator[int]:
    """Memory limits of a process's control group and of all groups above it.

    Args:
        membership: ``/proc/PID/cgroup``; without it there is no group.
        root: where the groups are mounted. Version 2 has them there, version 1 in its folder ``memory``.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            try:
                text = (base / folder / file).read_text().strip()
            except OSError:
                continue  # the root group has no such file, and a container sees only its own groups
            if text.isdecimal():  # else it is the word max
                yield int(text)


def _weights(need: Need) -> str:
    if not need.decoder_bytes:
        return f"the encoder's weights take {_gb(need.encoder_bytes)}"
    return f"the weights take {_gb(need.encoder_bytes)} (encoder) and {_gb(need.decoder_bytes)} (decoder)"


def _memory(machine: MemoryLimit) -> str:
    has = f"there are {_gb(machine.physical_bytes)}"
    if machine.usable_bytes < machine.physical_bytes:
        return f"{has}, of which this process may use {_gb(machine.usable_bytes)}"
    return has


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"
