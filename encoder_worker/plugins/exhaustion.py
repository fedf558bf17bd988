"""Memory that runs out: what an encoding needs, and what to try instead. Imports no MLX.

On a GPU a failed allocation is an error that can be caught. On a CPU MLX 0.32 computes on with the null pointer that it
got, or Linux ends the process before that; so there the need is compared with what is free beforehand.
"""

from collections.abc import Iterator
from pathlib import Path

from dotsctl.encoder_worker.plugins.vision_config import VisionConfig

SMALLEST_CHUNK = 64
"""Queries below which less memory is not worth the time."""
ROW_WIDTHS = 26
"""Arrays of all patches by the tower's width that are alive at once; MLX allocates ahead of what it computes. Measured
in float32 with 1,000 to 4,000 patches: 21 to 26. In bfloat16 fewer bytes."""
SCORES = 2
"""Score matrices of a chunk that are alive at once."""
ITEM_BYTES = 4


def smaller_chunks(query_chunk: int, num_patches: int) -> Iterator[int]:
    """Query chunks to try in turn: the given one (0 is the complete image), then half of it, down to 64."""
    yield query_chunk
    chunk = min(query_chunk or num_patches, num_patches)
    while chunk > SMALLEST_CHUNK:
        chunk = max(SMALLEST_CHUNK, chunk // 2)
        yield chunk


def needed_bytes(config: VisionConfig, num_patches: int, query_chunk: int) -> int:
    """Memory above the weights that one image takes where attention writes its scores down, as it does on a CPU.

    Args:
        config: sizes of the tower.
        num_patches: of the image.
        query_chunk: patches that attend at a time; 0: all.
    """
    queries = min(query_chunk or num_patches, num_patches)
    rows = ROW_WIDTHS * num_patches * config.embed_dim
    scores = SCORES * config.num_attention_heads * queries * num_patches
    return (rows + scores) * ITEM_BYTES


def free_bytes() -> int | None:
    """Memory that Linux can give without swapping; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else int(kib) * 1024
