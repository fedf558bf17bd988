"""Trains the demo model on rendered pages: ``python -m dotsctl.tools.train --seconds 6000 FOLDER``.

FOLDER gets ``state.pt`` (resumed from when it is there), ``log.jsonl`` and, at every save, the exported model in
``model/`` in the layout of a dots.ocr snapshot, float16. Needs the extra ``[train]``.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.multiprocessing
import torch.nn.functional as F
from dotsctl.encoder_worker.image import patchify
from dotsctl.protocol.geometry import CELL_PX, PixelLimits
from dotsctl.tools.demo_checkpoint import build_tokenizer, prompt_ids, write_files
from dotsctl.tools.demo_network import DemoNetwork, NetworkShape
from dotsctl.tools.demo_pages import CURRICULUM, grid_of, render_page
from safetensors.torch import save_file
from torch import Tensor, distributed
from torch.utils.data import DataLoader, IterableDataset

PAGES_A_STEP = (32, 24, 12, 10)
"""Pages of one training step, for each stage of the curriculum."""
PASS_ACCURACY = (0.80, 0.85, 0.89)
"""Teacher-forced character accuracy that opens the next stage."""
BYTES = 256
"""Token ids below this one are bytes of text."""
MISREAD_SHARE = 0.06
"""Share of the characters in front of the next one that are replaced at random. A reader that only ever saw its own
words spelled right loses its place at the first mistake."""
UNUSED = -100
"""Target that the loss leaves out."""
TRAINING_LIMITS = PixelLimits(CELL_PX**2, 11_289_600)
"""The smallest training pages are smaller than any page that is served."""


@dataclass
class Batch:
    """One training step's pages, all of the same grid."""

    stage: int
    rows: int
    columns: int
    patches: Tensor  # (pages, 4 rows columns, 588)
    after: Tensor  # (pages, m) ids behind the page's embeddings
    targets: Tensor  # (pages, m)
    cells: Tensor  # (pages, rows columns CELL_CHARACTERS)


class Pages(IterableDataset[Batch]):
    """Endless batches; the stage is read from a shared tensor, so that it can move on while pages are made."""

    def __init__(self, stage: Tensor, seed: int) -> None:
        self._stage, self._seed = stage, seed

    def __iter__(self) -> Iterator[Batch]:
        rng = random.Random(f"training {self._seed}")  # a text: no number that the evaluation takes gives its pages
        tokenizer = build_tokenizer()
        _, after = prompt_ids(tokenizer)
        end = tokenizer.encode("<|endofassistant|>").ids[0]
        while True:
            yield self._batch(rng, int(self._stage), tokenizer, after, end)

    def _batch(self, rng: random.Random, stage: int, tokenizer: Any, after: list[int], end: int) -> Batch:
        kind = CURRICULUM[stage]
        rows, columns = grid_of(rng, kind)
        pages = [render_page(rng, kind, rows, columns) for _ in range(PAGES_A_STEP[stage])]
        values = []
        for page in pages:
            image = page.image.resize((columns * CELL_PX, rows * CELL_PX), 3)  # 3: bicubic, as the encoder does
            values.append(patchify(image, image.size, 1, TRAINING_LIMITS).values)
        ids = [[*tokenizer.encode(page.text).ids, end] for page in pages]
        length = len(after) - 1 + max(map(len, ids))
        inputs = torch.full((len(pages), length), end)
        targets = torch.full((len(pages), length), UNUSED)
        for row, answer in enumerate(ids):
            inputs[row, : len(after) + len(answer) - 1] = torch.tensor(after + misread(rng, answer[:-1]))
            targets[row, len(after) - 1 : len(after) - 1 + len(answer)] = torch.tensor(answer)
        cells = torch.from_numpy(np.stack([page.cells.reshape(-1) for page in pages]))
        return Batch(stage, rows, columns, torch.from_numpy(np.stack(values)), inputs, targets, cells)


def misread(rng: random.Random, ids: list[int]) -> list[int]:
    """The ids with some of them replaced by other bytes."""
    return [rng.randrange(BYTES) if rng.random() < MISREAD_SHARE else token for token in ids]


def learning_rate(step: int, spent: float, peak: float) -> float:
    """Warm-up over 200 steps, then constant, then falling over the last 40 % of the time to 2 % of the peak."""
    return peak * min(1.0, (step + 1) / 200) * (1.0 if spent < 0.6 else max(0.02, (1 - spent) / 0.4))


def train_step(
    network: DemoNetwork, optimizer: torch.optim.Optimizer, batch: Batch, before: Tensor, seconds: float
) -> dict[str, float]:
    """One step of AdamW over the batches of all processes; returns means of loss, accuracy and ``seconds``."""
    logits, cell_logits = network(
        batch.patches, batch.rows, batch.columns, before.expand(len(batch.patches), -1), batch.after
    )
    text_loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=UNUSED)
    cell_loss = F.cross_entropy(cell_logits.flatten(0, 1), batch.cells.flatten())
    optimizer.zero_grad()
    (text_loss + cell_loss).backward()
    used = batch.targets != UNUSED
    accuracy = (logits.detach().argmax(-1)[used] == batch.targets[used]).float().mean()
    figures = torch.tensor([text_loss.item(), cell_loss.item(), accuracy.item(), seconds])
    _average([parameter.grad for parameter in network.parameters() if parameter.grad is not None] + [figures])
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return dict(zip(("text_loss", "cell_loss", "accuracy", "seconds"), figures.tolist(), strict=True))


def _average(tensors: list[Tensor]) -> None:
    """Replace tensors by their means over all processes, in one exchange."""
    if not distributed.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


def export(network: DemoNetwork, shape: NetworkShape, folder: Path) -> None:
    """Write the snapshot of the model that runs: without the auxiliary head, float16."""
    largest = CURRICULUM[-1]
    write_files(folder, shape, largest.rows[1] * largest.columns[1] * CELL_PX**2)
    tensors = {
        name: value.detach().half().contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("cell_head")
    }
    partial = folder / "model.safetensors.part"
    save_file(tensors, str(partial), metadata={"format": "pt"})
    partial.replace(folder / "model.safetensors")


@dataclass
class Progress:
    """What a resumed run goes on from."""

    seconds: float = 0.0
    step: int = 0
    stage: int = 0
    accuracy: float = 0.0

    def note(self, accuracy: float, stage: int) -> None:
        """Count one step and open the next stage when this one is learnt."""
        self.step += 1
        if stage != self.stage:
            return  # a batch that was made before the stage changed
        self.accuracy += 0.02 * (accuracy - self.accuracy)
        if self.stage < len(PASS_ACCURACY) and self.accuracy > PASS_ACCURACY[self.stage]:
            self.stage, self.accuracy = self.stage + 1, 0.0


@dataclass(frozen=True)
class Run:
    """The options of one run."""

    folder: Path
    seconds: float
    rate: float
    threads: int
    processes: int
    save_every: float
    seed: int


class Trainer:
    """One process of a run; all of them hold the same network and take the same steps."""

    def __init__(self, run: Run, rank: int) -> None:
        self.run, self.rank, self.progress = run, rank, Progress()
        torch.manual_seed(run.seed)
        self.shape = NetworkShape()
        self.network = DemoNetwork(self.shape)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=run.rate, betas=(0.9, 0.98), weight_decay=0.02)
        self.state_path = run.folder / "state.pt"
        if self.state_path.exists():
            state = torch.load(self.state_path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
        self.saved = self.progress.seconds

    def train(self) -> None:
        """Train until the time is over."""
        run, progress = self.run, self.progress
        stage = torch.tensor(progress.stage).share_memory_()
        seed = run.seed + progress.step + 1_000_003 * self.rank
        pages = DataLoader(Pages(stage, seed), batch_size=None, num_workers=1, prefetch_factor=4)
        before = torch.tensor(prompt_ids(build_tokenizer())[0])[None]
        start = time.monotonic() - progress.seconds
        for batch in pages:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(progress.step, progress.seconds / run.seconds, run.rate)
            figures = train_step(self.network, self.optimizer, batch, before, time.monotonic() - start)
            progress.note(figures["accuracy"], batch.stage)
            stage.fill_(progress.stage)
            progress.seconds = figures["seconds"]  # the mean, so that all processes end with the same step
            if self.rank == 0:
                self._report(figures)
            if progress.seconds >= run.seconds:
                return

    def _report(self, figures: dict[str, float]) -> None:
        """Log now and then, and save now and then and at the end."""
        progress = self.progress
        if progress.step % 50 == 0:
            with (self.run.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(figures | vars(progress)) + "\n")
            click.echo(
                f"{progress.step} steps, {progress.seconds:.0f} s, stage {progress.stage}, "
                f"loss {figures['text_loss']:.3f} + {figures['cell_loss']:.3f}, accuracy {progress.accuracy:.3f}"
            )
        if progress.seconds - self.saved > self.run.save_every or progress.seconds >= self.run.seconds:
            self.saved = progress.seconds
            contents = {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": vars(progress),
            }
            torch.save(contents, self.state_path.with_suffix(".part"))
            self.state_path.with_suffix(".part").replace(self.state_path)
            export(self.network, self.shape, self.run.folder / "model")


def _train_in_process(rank: int, run: Run, meeting_point: str) -> None:
    torch.set_num_threads(run.threads)
    if run.processes > 1:
        distributed.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=run.processes)
    Trainer(run, rank).train()
    if run.processes > 1:
        distributed.destroy_process_group()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seconds", default=6000.0, show_default=True, help="Time to train, earlier runs included.")
@click.option("--rate", default=1e-3, show_default=True, help="Peak learning rate of AdamW.")
@click.option("--processes", default=1, show_default=True, help="Processes that average their gradients.")
@click.option("--threads", default=1, show_default=True, help="PyTorch threads of each; more help little at this size.")
@click.option("--save-every", default=300.0, show_default=True, help="Seconds between saves.")
@click.option("--seed", default=0, show_default=True)
def main(**options: Any) -> None:
    """Train the demo model into FOLDER, going on where an earlier run stopped."""
    run = Run(**options)
    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (run, f"file://{meeting}/processes")
        if run.processes == 1:
            _train_in_process(0, *arguments)
        else:
            torch.multiprocessing.spawn(_train_in_process, arguments, run.processes)


if __name__ == "__main__":
    main()
