"""What to do when memory runs out: how much an encoding needs, how to tell, and what to try instead. No MLX.

On a GPU an allocation that fails is an error which can be caught. On a CPU MLX 0.32 computes with the null pointer
that it got, and Linux may end the process before; so there the need is compared with what is free beforehand.
"""

from collections.abc import Iterator
from pathlib import Path

from dotsctl.encoder_worker.plugins.vision_config import VisionConfig

SMALLEST_CHUNK = 64
"""Queries below which less memory is not worth the time."""
TEXTS = (
    "[malloc",  # "[malloc] Unable to allocate N bytes.", and "[malloc_or_wait] ..." up to 0.21
    "[metal::malloc]",  # larger than the largest buffer, or too many buffers
    "kIOGPUCommandBufferCallbackErrorOutOfMemory",  # "[METAL] Command buffer execution failed: Insufficient Memory"
    "out of memory",  # CUDA
    "std::bad_alloc",
)
"""In what MLX says when it cannot allocate."""
ROW_WIDTHS = 12
"""Arrays of a patch by the tower's width that are alive at once in a block: measured 10.1 to 11.2 in float32."""
SCORES = 2
"""Score matrices of a chunk that are alive at once: those of attention and their exponentials."""


def is_exhaustion(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(t in str(error) for t in TEXTS))


def smaller_chunks(query_chunk: int, num_patches: int) -> Iterator[int]:
    """Query chunks to try in turn: the given one (0 is the whole image), then half of it, down to 64."""
    yield query_chunk
    chunk = query_chunk or num_patches
    while chunk > SMALLEST_CHUNK:
        chunk = max(SMALLEST_CHUNK, chunk // 2)
        yield chunk


def needed_bytes(config: VisionConfig, num_patches: int, query_chunk: int, item_bytes: int) -> int:
    """Memory above the weights that one image takes, where attention writes its scores down.

    Args:
        config: sizes of the tower.
        num_patches: of the image.
        query_chunk: patches that attend at a time; 0: all.
        item_bytes: of one number; scores are in the same type.
    """
    queries = min(query_chunk or num_patches, num_patches)
    rows = ROW_WIDTHS * num_patches * config.embed_dim
    scores = SCORES * config.num_attention_heads * queries * num_patches
    return (rows + scores) * item_bytes


def free_bytes() -> int | None:
    """Memory that Linux could give without swapping; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else int(kib) * 1024
