"""Plays drafts on a recorded answer: ``python -P -m dotsctl.tools.dev.drafts --answer A --hint H --tokenizer T``.

It runs the decoder's own scheduler and drafter; the model is replaced by one that knows the answer. A pass with
``n`` rows takes ``1 + C (n - 1)`` times as long as one with a single row.
"""

from dataclasses import dataclass
from pathlib import Path

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.page_drafter import PageDrafter
from dotsctl.decoder_worker.prompt import plain_ids
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.tasks import LAYOUT, TEXT
from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.page_hint import PageHint
from dotsctl.tools.dev.drafts.hints import read_hint, read_text, texts_of, with_errors
from dotsctl.tools.dev.drafts.playing import play
from dotsctl.tools.dev.drafts.splitting import read_tokenizer
from tokenizers import Tokenizer

COSTS = (0.0, 0.03, 0.06, 0.12, 0.24, 0.30)
"""Costs of a row that are played where none is given."""
ERRORS = (0.05, 0.10)
"""Shares of wrong characters that are played besides the hint as it is."""
POINTS_AN_INCH = 72
SEED = 1
FULL_BOX = (1224, 1584)
"""A page of the size Letter at 144 dpi, where the hint does not state a size."""


@dataclass(frozen=True)
class Source:
    """A hint with its name in the report."""

    name: str
    hint: PageHint | None


@click.command()
@click.option("--answer", required=True, type=click.Path(path_type=Path), help="Answer of a model, as it wrote it.")
@click.option(
    "--hint",
    "hints",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Hint: PDF, JSON of blocks, or text; repeatable.",
)
@click.option("--page", default=1, show_default=True, type=click.IntRange(1), help="Page of a PDF that is a hint.")
@click.option("--tokenizer", required=True, help="tokenizer.json, model folder, .tiktoken file, or qwen2-split.")
@click.option("--cost", "costs", multiple=True, type=click.FloatRange(0, 1), help="Cost of a row, in passes of one.")
@click.option("--rows", default=16, show_default=True, type=click.IntRange(1), help="Most rows of a pass.")
@click.option("--dpi", default=144.0, show_default=True, type=click.FloatRange(1), help="Resolution of the boxes.")
@click.option("--pages", default=1, show_default=True, type=click.IntRange(1), help="Pages decoded at once.")
def cli(
    answer: Path,
    hints: tuple[Path, ...],
    page: int,
    tokenizer: str,
    costs: tuple[float, ...],
    rows: int,
    dpi: float,
    pages: int,
) -> None:
    """Print tokens a pass and the speed over decoding without drafts."""
    answers = _answers(read_text(answer))
    sources = [Source("no hint", None)]
    for file in hints:
        hint = read_hint(file, page)
        sources.append(Source(file.name, hint))
        sources += [Source(f"{file.name}, {share:.0%} errors", with_errors(hint, share, SEED)) for share in ERRORS]
    known = [block.text for source in sources if source.hint for block in source.hint.blocks]
    chosen, description = read_tokenizer(tokenizer, [*answers.values(), *known])
    click.echo(f"tokenizer: {description}")
    for task, text in answers.items():
        ids = plain_ids(chosen, text)
        click.echo(f"{task}: {len(ids)} tokens")
        for source in sources:
            for line in _lines(chosen, task, ids, source, costs or COSTS, rows, dpi, pages):
                click.echo(line)


def _answers(answer: str) -> dict[str, str]:
    """Return the answers by task: of a list of cells also the text alone. Raises UsageError."""
    if not answer.strip():
        raise UsageError("the answer is empty", "give a file with what the model wrote")
    texts = texts_of(answer)
    return {LAYOUT.name: answer, TEXT.name: texts} if texts else {TEXT.name: answer}


def _lines(
    tokenizer: Tokenizer,
    task: str,
    ids: list[int],
    source: Source,
    costs: tuple[float, ...],
    rows: int,
    dpi: float,
    pages: int,
) -> list[str]:
    """Return a line for each cost."""
    geometry = _geometry(source.hint, dpi)
    found = []
    for cost in costs:
        drafted = [(ids, PageDrafter(tokenizer, task, source.hint, geometry)) for _ in range(pages)]
        played = play(drafted, RowCosts.linear(cost), rows)
        tokens_a_pass = played.tokens_a_pass / pages
        found.append(
            f"  {source.name}, a row costs {cost:.2f}: {tokens_a_pass:.2f} tokens a pass, "
            f"{played.speedup:.2f} times as fast"
        )
    return found


def _geometry(hint: PageHint | None, dpi: float) -> PageGeometry:
    """Return the geometry of a page whose size in points the hint states."""
    size = FULL_BOX
    if hint is not None and hint.size is not None:
        width, height = (round(side * dpi / POINTS_AN_INCH) for side in hint.size)
        size = (width, height)
    return PageGeometry(source=size, orientation=1, resized=size, scale=(1.0, 1.0))


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.drafts")
