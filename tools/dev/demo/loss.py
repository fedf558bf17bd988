"""The training target of the demo model: the next token, boxes that are near, and cells that know themselves."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from dotsctl.tools.dev.demo.batches import TASKS, UNUSED, Batch
from dotsctl.tools.dev.demo.network import NOTHING, DemoNetwork
from torch import Tensor

NEAR = 1.5
"""Deviation, in steps of 2 px, of what counts as nearly the right number of a box."""
GROUPS = 2
"""Parts of a batch that are padded to lengths of their own."""
WEIGHTS = {"glyphs": 2.5, "characters": 1.5, "row": 0.1, "column": 0.1, "kind": 0.2}
"""The weights of the auxiliary losses. Those of characters are means over all places, most of which are empty."""


NEXT_CELL_WEIGHT = 2.0
"""The weight of the loss of the cell that the text half is about to read."""


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
    """The loss of one batch."""

    total: Tensor
    figures: dict[str, float]
    """Means for the log: losses by kind and accuracies by task, as far as the batch has such."""


def loss_of(network: DemoNetwork, batch: Batch, numbers: NearNumbers) -> Loss:
    """Teacher-forced loss of one batch; one without answers has the auxiliary losses alone."""
    features = network.vision_tower.features(batch.patches, batch.rows, batch.columns)
    page = network.vision_tower.merger(features)
    named = network.auxiliary(features, page)
    parts = _auxiliary(batch, named)
    if not batch.tasks:
        del parts["kind"]  # a dense page has no elements
    seen = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    figures = {f"{name}_loss": part.item() for name, part in parts.items()} | _glyphs_right(batch, named)
    if not batch.tasks:
        return Loss(seen, figures)
    losses, read = _reading(network, batch, page, numbers)
    return Loss(losses + seen, figures | read)


def _reading(network: DemoNetwork, batch: Batch, page: Tensor, numbers: NearNumbers) -> tuple[Tensor, dict[str, float]]:
    """Mean loss () of the answers' tokens, and figures for the log."""
    logits, targets, answer_of, next_cell = _answer(network, batch, page)
    losses, of_box = numbers.loss(logits, targets)
    right = (logits.detach().argmax(-1) == targets).float()
    figures = {"loss": losses.mean().item()}
    if not of_box.all():  # near misses of boxes are no mistakes
        figures["accuracy"] = right[~of_box].mean().item()
    if of_box.any():
        figures["box_loss"] = losses[of_box].mean().item()
    for task in TASKS:
        rows = torch.tensor([name == task for name in batch.tasks], device=targets.device)
        chosen = rows[answer_of] & ~of_box
        if chosen.any():
            figures[f"{task}_accuracy"] = right[chosen].mean().item()
    figures["cell_loss"] = next_cell.item()
    return losses.mean() + NEXT_CELL_WEIGHT * next_cell, figures


def _answer(network: DemoNetwork, batch: Batch, page: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (n, vocabulary), targets (n,) and answers (n,) of all places that count, short answers apart from long.

    Last comes the mean loss () of the cells in which the next tokens begin.
    """
    pasts = network.read(page, batch.before)
    used = batch.targets != UNUSED  # (answers, m)
    places = torch.arange(1, used.shape[1] + 1, device=used.device)
    lengths = (used * places).amax(1)  # (answers,)
    hidden, targets, answer_of, cells, cell_targets = [], [], [], [], []
    for rows in lengths.argsort().chunk(GROUPS):
        longest = int(lengths[rows].max())
        chosen = used[rows, :longest]
        states, asked = network.answer(pasts, batch.page_of[rows], batch.after[rows, :longest])
        predicted = network.auxiliary.cells(asked, page[batch.page_of[rows]])  # (asked layers, answers, m, cells)
        cells.append(predicted.flatten(0, -2))
        cell_targets.append(batch.cells[rows, :longest].expand(predicted.shape[:-1]).flatten())
        hidden.append(states[chosen])
        targets.append(batch.targets[rows, :longest][chosen])
        answer_of.append(rows[:, None].expand_as(chosen)[chosen])
    next_cell = _mean_loss(torch.cat(cells), torch.cat(cell_targets))
    return network.lm_head(torch.cat(hidden)), torch.cat(targets), torch.cat(answer_of), next_cell


def _auxiliary(batch: Batch, answers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of the heads; places count where something stands."""
    cells = torch.arange(batch.kinds.shape[1], device=batch.kinds.device)
    blank = batch.kinds == 0  # (pages, cells)
    targets = {
        "glyphs": batch.characters,
        "characters": batch.characters,
        "row": (cells // batch.columns).expand_as(blank).masked_fill(blank, UNUSED),
        "column": (cells % batch.columns).expand_as(blank).masked_fill(blank, UNUSED),
        "kind": batch.kinds,
    }
    losses = {}
    for name, target in targets.items():
        losses[name] = _mean_loss(answers[name].flatten(0, -2), target.flatten())
    return losses


def _mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy () of logits (n, classes) over the targets (n,) that are used; 0 where there is none."""
    is_asked = bool((targets != UNUSED).any())  # a mean over nothing is no number
    return F.cross_entropy(logits.float(), targets, ignore_index=UNUSED) if is_asked else logits.sum() * 0


def _glyphs_right(batch: Batch, answers: dict[str, Tensor]) -> dict[str, float]:
    """Share of the printed characters that the heads name, for the log."""
    printed = batch.characters != NOTHING
    if not printed.any():
        return {}
    found = {name: answers[name].detach().argmax(-1) == batch.characters for name in ("glyphs", "characters")}
    return {f"{name}_right": right[printed].float().mean().item() for name, right in found.items()}
