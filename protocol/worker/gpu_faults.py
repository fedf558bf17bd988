"""Errors with which MLX reports that macOS ended or refused work on the GPU.

The texts are Metal's, from reports of MLX users; MLX raises them as RuntimeError. After either the process is ended and
another one is started after a pause (``START_AGAIN``): what the GPU does with later work of the same process is not
known. The page is not considered the cause. From the second time on the new process computes in smaller pieces.
"""

SMALLER = 0.25
"""Factor of the size of pieces after each further fault."""
_faults = 0

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


def note_faults(count: int) -> None:
    """Note how many processes in a row were ended for such an error before this one."""
    global _faults
    _faults = count


def piece_share() -> float:
    """Return the share of their usual size that pieces of work have in this process, at most 1."""
    return SMALLER ** max(0, _faults - 1)


def is_gpu_fault(error: BaseException) -> bool:
    """Return whether macOS ended or refused work on the GPU: only a new process is sure to be able to use it."""
    return is_interrupted(error) or is_refused(error)


def is_interrupted(error: BaseException) -> bool:
    """Return whether macOS ended a computation on the GPU, as it took too long or another process failed."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in INTERRUPTED_TEXTS)


def is_refused(error: BaseException) -> bool:
    """Return whether the GPU takes no more work from this process after earlier errors; it needs a new process."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in REFUSED_TEXTS)
