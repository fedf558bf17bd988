"""What the demo model is trained for: the next token, boxes that are near, and cells that know themselves."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from dotsctl.tools.demo_batches import TASKS, UNUSED, Batch
from dotsctl.tools.demo_network import DemoNetwork
from torch import Tensor

NEAR = 1.5
"""Deviation, in steps of 2 px, of what counts as nearly the right number of a box."""
WEIGHTS = {"characters": 2.5, "row": 0.1, "column": 0.1, "kind": 0.2}
"""Of the auxiliary losses."""


class NearNumbers:
    """Numbers of boxes are ordered: the target is a bell around the right one, so that near misses teach as well."""

    def __init__(self, ids: list[int], vocabulary: int, device: torch.device) -> None:
        """Prepare the bells.

        Args:
            ids: token ids of the numbers in order.
            vocabulary: entries of the tokenizer.
            device: of the losses.
        """
        self._ids = torch.tensor(ids, device=device)
        self._place = torch.full((vocabulary,), -1, device=device)
        self._place[self._ids] = torch.arange(len(ids), device=device)
        self._place[self._ids[:5]] = -1  # single digits stand in texts too, and there they are nothing near
        order = torch.arange(len(ids), device=device, dtype=torch.float32)
        self._bells = torch.softmax(-((order[:, None] - order[None]) ** 2) / (2 * NEAR**2), -1)  # (numbers, numbers)

    def loss(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of each place, of logits (n, vocabulary); also which places are numbers of a box (n,)."""
        logarithms = F.log_softmax(logits.float(), -1)
        losses = -logarithms.gather(1, targets[:, None])[:, 0]  # (n,)
        places = self._place[targets]
        of_box = places >= 0
        if of_box.any():
            near = -(self._bells[places[of_box]] * logarithms[of_box][:, self._ids]).sum(-1)
            losses = losses.masked_scatter(of_box, near)
        return losses, of_box


@dataclass(frozen=True)
class Loss:
    """Of one batch."""

    total: Tensor
    figures: dict[str, float]
    """Means for the log: losses by kind and accuracies by task, as far as the batch has such."""


def loss_of(network: DemoNetwork, batch: Batch, numbers: NearNumbers) -> Loss:
    """Teacher-forced loss of one batch."""
    page = network.vision_tower(batch.patches, batch.rows, batch.columns)
    hidden = network(page[batch.page_of], batch.before, batch.after)
    used = batch.targets != UNUSED  # (answers, m)
    logits, targets = network.lm_head(hidden[used]), batch.targets[used]
    losses, of_box = numbers.loss(logits, targets)
    parts = _auxiliary(network, batch, page)
    total = losses.mean() + sum(weight * parts[name] for name, weight in WEIGHTS.items())
    right = (logits.detach().argmax(-1) == targets).float()
    figures = {"loss": losses.mean().item()}
    if not of_box.all():  # near misses of boxes are no mistakes
        figures["accuracy"] = right[~of_box].mean().item()
    figures |= {f"{name}_loss": part.item() for name, part in parts.items()}
    if of_box.any():
        figures["box_loss"] = losses[of_box].mean().item()
    answers = torch.arange(len(used), device=used.device)[:, None].expand_as(used)[used]  # (n,) answer of each place
    for task in TASKS:
        rows = torch.tensor([name == task for name in batch.tasks], device=used.device)
        chosen = rows[answers] & ~of_box
        if chosen.any():
            figures[f"{task}_accuracy"] = right[chosen].mean().item()
    return Loss(total, figures)


def _auxiliary(network: DemoNetwork, batch: Batch, page: Tensor) -> dict[str, Tensor]:
    """Losses of the heads on the cells; places count where something stands."""
    characters, row, column, kind = (head.float() for head in network.auxiliary(page))
    cells = torch.arange(page.shape[1], device=page.device)
    blank = batch.kinds == 0  # (pages, cells)
    rows = (cells // batch.columns).expand_as(blank).masked_fill(blank, UNUSED)
    columns = (cells % batch.columns).expand_as(blank).masked_fill(blank, UNUSED)
    some = 1.0 if not bool(blank.all()) else 0.0  # a mean over nothing is no number
    return {
        "characters": F.cross_entropy(characters.flatten(0, 2), batch.characters.flatten()),
        "row": F.cross_entropy(row.flatten(0, 1), rows.flatten()) if some else row.sum() * 0,
        "column": F.cross_entropy(column.flatten(0, 1), columns.flatten()) if some else column.sum() * 0,
        "kind": F.cross_entropy(kind.flatten(0, 1), batch.kinds.flatten()),
    }
