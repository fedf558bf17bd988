"""Trains the demo model on generated pages: ``python -P -m dotsctl.tools.dev.train --seconds 20000 FOLDER``.

FOLDER gets ``state/`` (resumed from when it is there), ``tokenizer.json``, ``log.jsonl`` and, at every save, the
exported model in ``model/`` in the layout of a dots.ocr snapshot, float16. A GPU is used where there is one. Needs the
extra ``[train]``.
"""

import json
import signal
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from dotsctl.protocol.model.files import replacing
from dotsctl.tools.dev.demo.batches import CURRICULUM, Batches, Glances, PageSource
from dotsctl.tools.dev.demo.checkpoint import export
from dotsctl.tools.dev.demo.loss import NearNumbers, loss_of
from dotsctl.tools.dev.demo.network import DemoNetwork
from dotsctl.tools.dev.demo.start import order_numbers, start_from
from dotsctl.tools.dev.demo.state import AUXILIARY, TrainingState, read_facts, saved_state
from dotsctl.tools.dev.demo.together import Together, run_together
from dotsctl.tools.dev.demo.tokenizer import make_tokenizer, number_ids
from dotsctl.tools.dev.demo.tower import NetworkShape
from dotsctl.tools.dev.page_sets.page_set import PageSet
from dotsctl.tools.pages import fonts as page_fonts
from dotsctl.tools.pages.generator import CELL_PX, STYLES
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

AVERAGED = 0.999
"""Share of the old value in the running mean of the weights, which is what is exported."""
LOG_EVERY = 20
"""Steps between two lines of the log."""
SHOWN = ("loss", "glyphs_right", "accuracy", "waited")
"""Figures of the log that are printed; ``waited``: seconds a step for its pages."""
HEAD = 32
"""Width of an attention head."""


def learning_rate(step: int, spent: float, peak: float) -> float:
    """Warm-up over 200 steps, then constant, then falling over the last 40 % of the time to 2 % of the peak."""
    return peak * min(1.0, (step + 1) / 200) * (1.0 if spent < 0.6 else max(0.02, (1 - spent) / 0.4))


@dataclass
class Progress:
    """The state that a resumed run continues from."""

    seconds: float = 0.0
    """Processor time of the training process; on a GPU, which waits for nobody else, wall time."""
    step: int = 0
    stage: int = 0
    accuracy: float = 0.0
    """Running mean over the batches of this stage."""

    def note(self, accuracy: float | None, last: int, spent: float) -> None:
        """Count one step and open the next stage when this one is learnt, or its time is over.

        Args:
            accuracy: of the step; none: it had no answer, or was one of an earlier stage.
            last: stage that is to be opened.
            spent: share of the training's time.
        """
        self.step += 1
        if accuracy is not None:
            self.accuracy += 0.02 * (accuracy - self.accuracy)
        present = CURRICULUM[self.stage]
        if self.stage < last and (self.accuracy > present.pass_accuracy or spent > present.latest):
            self.stage, self.accuracy = self.stage + 1, 0.0


@dataclass
class Means:
    """Means over the steps since the last line of the log."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        """Count one step."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means; begins anew."""
        means = {name: round(value / self.counts[name], 5) for name, value in sorted(self.sums.items())}
        self.sums, self.counts = {}, {}
        return means


@dataclass(frozen=True)
class TrainingRun:
    """The options of one run."""

    folder: Path
    seconds: float
    rate: float
    source: PageSource
    first: int
    """Place of the stage of the curriculum that this call begins with, if the training has not opened it yet."""
    last: int
    """Place of the last stage of the curriculum."""
    vision_width: int
    width: int
    layers: int
    start: Path | None
    half: bool
    threads: int
    workers: int
    processes: int
    glances: float
    """Share of the batches that teach the tower alone."""
    save_every: float
    wall_seconds: float | None
    """Time after which this call saves and ends; none: not before ``seconds`` are over."""
    seed: int


class Trainer:
    """A run, or the part of one process in it."""

    def __init__(self, run: TrainingRun, together: Together | None = None) -> None:
        self.run, self.progress, self.together = run, Progress(stage=run.first), together or Together()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(run.seed)
        torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each shape: 0.5 s a step where 0.08 s will do
        self.tokenizer = read_tokenizer(run.folder)
        saved = saved_state(run.folder / "state")
        facts = read_facts(saved) if saved else None
        self.shape = NetworkShape(**facts["shape"]) if facts else self._new_shape()
        self.network = DemoNetwork(self.shape)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=run.rate, betas=(0.9, 0.98), weight_decay=0.02)
        if saved is None and run.start:
            start_from(self.network, self.tokenizer, run.start)
        elif saved is None:
            order_numbers(self.network, self.tokenizer)
        self.network.to(self.device)
        weights = self.network.state_dict().items()
        mean = {name: value.clone() for name, value in weights if not name.startswith(AUXILIARY)}
        self.state = TrainingState(self.network, self.optimizer, mean)
        if saved and facts:
            self.progress = Progress(**facts["progress"])
            self.progress.stage = max(self.progress.stage, run.first)
            lost = self.state.load(saved)
            if lost and self.together.rank == 0:
                click.echo(f"resumed without {', '.join(lost)}: their shape or meaning changed")
        self.numbers = NearNumbers(number_ids(self.tokenizer), self.shape.vocabulary, self.device)
        self.parameters = list(self.network.parameters())
        self.log, self.saved = Means(), time.monotonic()
        self.is_signalled = self.stopped = False
        self.clock = time.monotonic if self.device.type == "cuda" else time.process_time
        signal.signal(signal.SIGTERM, self._stop)

    def _new_shape(self) -> NetworkShape:
        run = self.run
        return NetworkShape(
            vision_width=run.vision_width,
            vision_layers=run.layers,
            vision_heads=run.vision_width // HEAD,
            vision_intermediate=run.vision_width * 11 // 4,
            width=run.width,
            text_layers=run.layers,
            heads=run.width // HEAD,
            kv_heads=max(1, run.width // HEAD // 2),
            text_intermediate=run.width * 5 // 4,  # at the usual widths full groups of 64 weights, as quantising needs
            vocabulary=self.tokenizer.get_vocab_size(),
        )

    def _stop(self, *_: object) -> None:
        self.is_signalled = True  # what all processes stop by is what they have shared

    def train(self) -> None:
        """Train until the time is over or SIGTERM comes; the state is saved in both cases."""
        run, progress = self.run, self.progress
        stage = torch.tensor(progress.stage).share_memory_()
        seed = f"training {run.seed} {progress.step}"
        glances = Glances(run.glances, seed)  # the same in all processes
        seed = f"{seed} {self.together.rank}" if self.together.rank else seed
        batches = Batches(stage, seed, self.tokenizer.to_str(), run.source, glances)
        prefetch = 4 if run.workers else None
        start, began = self.clock() - progress.seconds, time.monotonic()
        ended = began
        for batch in DataLoader(batches, batch_size=None, num_workers=run.workers, prefetch_factor=prefetch):
            waited = time.monotonic() - ended
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(progress.step, progress.seconds / run.seconds, run.rate)
            figures = self._step(batch.to(self.device))
            if run.wall_seconds is not None and time.monotonic() - began > run.wall_seconds:
                self._stop()
            present = figures.get("accuracy") if batch.stage == progress.stage else None
            shared = self.together.average(self.parameters, self.clock() - start, present, is_stopped=self.is_signalled)
            progress.seconds, self.stopped = shared.seconds, shared.is_stopped
            self._apply()
            progress.note(shared.accuracy, run.last, progress.seconds / run.seconds)
            stage.fill_(progress.stage)
            if self.together.rank == 0:
                self._report(figures | {"seconds": progress.seconds, "waited": waited})
            if self.stopped or progress.seconds >= run.seconds:
                return
            ended = time.monotonic()

    def _step(self, batch: Any) -> dict[str, float]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.half):
            loss = loss_of(self.network, batch, self.numbers)
        self.optimizer.zero_grad()
        loss.total.backward()
        return loss.figures

    def _apply(self) -> None:
        """One step of AdamW and of the running mean of the weights."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        keep = min(AVERAGED, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            weights = self.network.state_dict()
            for name, value in self.state.mean.items():
                value.lerp_(weights[name], 1 - keep)

    def _report(self, figures: dict[str, float]) -> None:
        """Log now and then, and save now and then and at the end."""
        progress = self.progress
        self.log.add(figures)
        if progress.step % LOG_EVERY == 0:
            means = self.log.take()
            with (self.run.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(means | vars(progress) | {"time": round(time.time())}) + "\n")
            shown = [f"{name} {means[name]:.3f}" for name in SHOWN if name in means]
            click.echo(f"{progress.step} steps, {progress.seconds:.0f} s, stage {progress.stage}, {', '.join(shown)}")
        is_last = self.stopped or progress.seconds >= self.run.seconds
        if is_last or time.monotonic() - self.saved > self.run.save_every:
            self.save()

    def save(self) -> None:
        """Write the state and the exported model, each completely or not at all."""
        self.saved = time.monotonic()
        facts = {"shape": asdict(self.shape), "progress": vars(self.progress)}
        self.state.save(self.run.folder / "state", facts)
        largest = STYLES[CURRICULUM[self.run.last].style]
        limit = largest.rows[1] * largest.columns[1] * CELL_PX**2
        export(self.run.folder / "model", self.shape, self.tokenizer, self.state.mean, limit)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return the run's tokenizer; made when the run begins."""
    path = folder / "tokenizer.json"
    if not path.exists():
        with replacing(path) as partial:
            make_tokenizer().save(str(partial))
    return Tokenizer.from_file(str(path))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    default=20_000.0,
    show_default=True,
    help="Processor time to train, on a GPU wall time, earlier runs included.",
)
@click.option("--rate", default=1e-3, show_default=True, help="Peak learning rate of AdamW.")
@click.option("--fonts", "families", default="first", show_default=True, help="Families or groups, comma-separated.")
@click.option("--first", default="small", show_default=True, type=click.Choice([stage.style for stage in CURRICULUM]),
              help="Stage that this call begins with; for weights that read already.")  # fmt: skip
@click.option("--last", default="full", show_default=True, type=click.Choice([stage.style for stage in CURRICULUM]),
              help="Last stage of the curriculum.")  # fmt: skip
@click.option("--vision-width", default=128, show_default=True, help="Of the tower, a multiple of 32.")
@click.option("--width", default=256, show_default=True, help="Of the embeddings and the text half, as well.")
@click.option("--layers", default=4, show_default=True, help="Of each half.")
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Model folder whose weights to begin with.")
@click.option("--half/--single", default=False, help="Compute in bfloat16 where PyTorch thinks it safe.")
@click.option("--threads", default=1, show_default=True, help="PyTorch threads; more help little at this size.")
@click.option("--workers", default=0, show_default=True, help="Processes that make pages; 0: the training process.")
@click.option("--processes", default=1, show_default=True, help="That train together; on a CPU one for each core.")
@click.option("--glances", default=0.0, show_default=True, type=click.FloatRange(0, 1),
              help="Share of the batches that ask for no answer and teach the tower alone.")  # fmt: skip
@click.option("--sets", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="File of pages made by dotsctl.tools.dev.page_sets; may be repeated.")  # fmt: skip
@click.option("--scale", default=1, show_default=True, type=click.IntRange(1),
              help="Times that a step has more pages, for a GPU.")  # fmt: skip
@click.option("--reuse", default=0.0, show_default=True, type=click.FloatRange(0, 1),
              help="Share of the batches with pages of an earlier one, for a GPU that waits for pages.")  # fmt: skip
@click.option("--wall-seconds", type=click.FloatRange(1), help="Save and end this call after so much time.")
@click.option("--save-every", default=300.0, show_default=True, help="Seconds between saves.")
@click.option("--seed", default=0, show_default=True)
def main(
    first: str, last: str, families: str, sets: tuple[Path, ...], scale: int, reuse: float, **options: Any
) -> None:
    """Train the demo model into FOLDER; resume where an earlier call stopped."""
    styles = [stage.style for stage in CURRICULUM]
    source = PageSource(page_fonts.families(families), sets, scale=scale, reuse=reuse)
    run = TrainingRun(first=styles.index(first), last=styles.index(last), source=source, **options)
    for family in run.source.families:
        page_fonts.font(family, 16, bold=True)  # a missing font is reported before an hour is spent
    PageSet(sets)  # and so is a file that is no set
    run.folder.mkdir(parents=True, exist_ok=True)
    read_tokenizer(run.folder)
    has_bfloat16 = torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
    if run.half and not has_bfloat16:
        click.echo("this processor emulates bfloat16 (no avx512_bf16): --single is many times faster", err=True)
    run_together(partial(_train, run), run.processes, run.folder)


def _train(run: TrainingRun, together: Together) -> None:
    torch.set_num_threads(run.threads)
    Trainer(run, together).train()


if __name__ == "__main__":
    main()
