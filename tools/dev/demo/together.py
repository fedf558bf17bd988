"""Several processes that train one network: each makes its own batches, and all take the same step.

After every backward pass the gradients are averaged over the processes, together with what decides how the training
continues, so that the copies of the network and of the progress never differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

TIMEOUT = timedelta(minutes=30)
"""The timeout for the others: the machine may be busy, or asleep."""


@dataclass(frozen=True)
class Shared:
    """The state that all processes share after a step."""

    seconds: float
    """Processor time of the first process."""
    accuracy: float | None
    """Mean over the processes whose batch had answers; none: no batch had."""
    is_stopped: bool
    """Whether any process was requested to stop."""


@dataclass(frozen=True)
class Together:
    """One process among those that train."""

    rank: int = 0
    count: int = 1

    def average(
        self, parameters: list[nn.Parameter], seconds: float, accuracy: float | None, *, is_stopped: bool
    ) -> Shared:
        """Average the gradients in place, and share what this process has seen.

        Args:
            parameters: of the network; those without a gradient count as zero, and get none when no process has one.
            seconds: processor time of this process.
            accuracy: of its batch, if that had answers.
            is_stopped: whether it was requested to stop.
        """
        if self.count == 1:
            return Shared(seconds, accuracy, is_stopped)
        seen = [seconds if self.rank == 0 else 0.0, accuracy or 0.0, float(accuracy is not None), float(is_stopped)]
        used = [float(parameter.grad is not None) for parameter in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        parts: list[Tensor] = [*(each.reshape(-1) for each in gradients), torch.tensor([*seen, *used])]
        everything = torch.cat(parts)
        torch.distributed.all_reduce(everything)
        *averaged, last = everything.split([part.numel() for part in parts])
        seen, used = last[: len(seen)].tolist(), last[len(seen) :].tolist()
        for parameter, gradient, times in zip(parameters, averaged, used, strict=True):
            parameter.grad = (gradient / self.count).view_as(parameter) if times else None
        return Shared(seen[0], seen[1] / seen[2] if seen[2] else None, seen[3] > 0)


def run_together(work: Callable[[Together], None], count: int, folder: Path) -> None:
    """Run ``work`` in so many processes; it can be pickled. They meet over a file in ``folder``.

    SIGTERM to this process is for the work in it, which is the first one.
    """
    if count == 1:
        work(Together())
        return
    meeting = folder / "together"
    meeting.unlink(missing_ok=True)
    context = torch.multiprocessing.get_context("spawn")
    others = [context.Process(target=_join, args=(work, Together(rank, count), meeting)) for rank in range(1, count)]
    for other in others:
        other.daemon = True  # ends with this process, whatever happens here
        other.start()
    _join(work, Together(0, count), meeting)
    for other in others:
        other.join(TIMEOUT.total_seconds())


def _join(work: Callable[[Together], None], together: Together, meeting: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", f"file://{meeting.absolute()}", TIMEOUT, world_size=together.count, rank=together.rank
    )
    try:
        work(together)
    finally:
        torch.distributed.destroy_process_group()
