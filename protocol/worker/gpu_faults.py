"""Errors with which MLX reports that macOS ended or refused work on the GPU.

The texts are Metal's, from reports of MLX users; MLX raises them as RuntimeError.
"""

INTERRUPTED_TEXTS = (
    "kIOGPUCommandBufferCallbackErrorTimeout",  # "Caused GPU Timeout Error": one kernel took some 5 s
    "kIOGPUCommandBufferCallbackErrorHang",  # "Caused GPU Hang Error"
    "kIOGPUCommandBufferCallbackErrorImpactingInteractivity",  # the window server had to wait
    "kIOGPUCommandBufferCallbackErrorInnocentVictim",  # "Discarded": another process made the GPU recover
    "GPU Timeout",  # without the code, as older versions of MLX write it
    "GPU Hang",
    "Impacting Interactivity",
    "victim of GPU error",
)
REFUSED_TEXTS = (
    "kIOGPUCommandBufferCallbackErrorSubmissionsIgnored",
    "Ignored (for causing prior/excessive GPU errors)",
)


def is_interrupted(error: BaseException) -> bool:
    """Return whether macOS ended a computation on the GPU; a shorter one may succeed in the same process."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in INTERRUPTED_TEXTS)


def is_refused(error: BaseException) -> bool:
    """Return whether the GPU takes no more work from this process after earlier errors; it needs a new process."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in REFUSED_TEXTS)
