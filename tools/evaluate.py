"""Measures how well a model reads rendered pages: ``python -P -m dotsctl.tools.evaluate --limit 0.08``.

Pages of the last stage of the demo model's curriculum, drawn from seeds that training does not use, go through a
private runtime with its two workers. The error rate is the sum of edits over the sum of characters; a run of blanks
and line ends counts as one blank, on both sides. A page that fails counts as one of which nothing was read.

Needs the extra ``[test]`` or ``[train]`` for the fonts and the edit distance.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import click
from dotsctl.protocol.errors import DotsctlError, MissingError, UsageError
from dotsctl.tools.demo_pages import CURRICULUM, RenderedPage, grid_of, render_page
from PIL import Image

NO_TEXT = "(no text)"
"""Stands for the face of pages without text."""


class Answer(Protocol):
    """What is used of a ``Page`` of the client."""

    @property
    def index(self) -> int:
        """Position of the page among those that were submitted, from 0."""

    @property
    def text(self) -> str:
        """What was read."""

    @property
    def error(self) -> object | None:
        """Why nothing was read."""


Read = Callable[[Iterable[Image.Image]], Iterable[Answer]]
"""Reads pages in any order."""


@dataclass
class Score:
    """Sums over some pages."""

    pages: int = 0
    characters: int = 0
    edits: int = 0
    exact: int = 0
    """Pages without an edit."""
    failed: int = 0

    @property
    def error_rate(self) -> float:
        """Edits a character; infinite where there is nothing to read and something was read."""
        if self.characters == 0:
            return float("inf") if self.edits else 0.0
        return self.edits / self.characters

    def add(self, characters: int, edits: int, *, failed: bool) -> None:
        """Count one page."""
        self.pages += 1
        self.characters += characters
        self.edits += edits
        self.exact += edits == 0 and not failed
        self.failed += failed


@dataclass
class Evaluation:
    """Score of all pages and of those of each font face."""

    total: Score = field(default_factory=Score)
    faces: dict[str, Score] = field(default_factory=dict)
    seconds: float = 0.0


def normal(text: str) -> str:
    """Text with one blank for each run of blanks and line ends, and none at its ends."""
    return " ".join(text.split())


def edit_distance(truth: str, answer: str) -> int:
    """Fewest insertions, deletions and replacements of characters between normal forms.

    Raises:
        MissingError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise MissingError("rapidfuzz is not installed: pip install 'dotsctl[train]'") from None
    return int(Levenshtein.distance(normal(truth), normal(answer)))


def rendered_pages(num_pages: int, seed: int) -> Iterator[RenderedPage]:
    """Pages of the last stage of the curriculum; page ``i`` depends on ``seed + i`` alone.

    The stage's own sizes, 2 to 10 by 5 to 12 cells of 28 px, give 116 characters a page on average.
    """
    kind = CURRICULUM[-1]
    for number in range(num_pages):
        rng = random.Random(seed + number)
        yield render_page(rng, kind, *grid_of(rng, kind))


def evaluate(read: Read, pages: Iterable[RenderedPage]) -> Evaluation:
    """Send pages through ``read`` and score every answer against the truth."""
    evaluation, truths = Evaluation(), list[RenderedPage]()

    def images() -> Iterator[Image.Image]:
        for page in pages:
            truths.append(page)
            yield page.image

    start, answered = time.monotonic(), set[int]()
    for answer in read(images()):
        truth = truths[answer.index]
        answered.add(answer.index)
        text = "" if answer.error else answer.text
        edits = edit_distance(truth.text, text)
        for score in (evaluation.total, evaluation.faces.setdefault(truth.face or NO_TEXT, Score())):
            score.add(len(normal(truth.text)), edits, failed=answer.error is not None)
    evaluation.seconds = time.monotonic() - start
    if len(answered) != len(truths) or evaluation.total.pages != len(truths):
        raise DotsctlError(f"{evaluation.total.pages} answers to {len(truths)} pages: the client lost or doubled some")
    return evaluation


def table(evaluation: Evaluation) -> str:
    """The evaluation for people: a line for each face, worst first, and one for all."""
    width = max(map(len, ["face", *evaluation.faces]))
    faces = sorted(evaluation.faces.items(), key=lambda item: -item[1].error_rate)
    lines = [f"{'face':{width}}  pages  characters  edits  error rate  exact  failed"]
    for name, score in [*faces, ("all", evaluation.total)]:
        lines.append(
            f"{name:{width}}  {score.pages:5}  {score.characters:10}  {score.edits:5}  {score.error_rate:10.2%}"
            f"  {score.exact:5}  {score.failed:6}"
        )
    total = evaluation.total
    mean = total.characters / max(1, total.pages)
    lines.append(f"{mean:.0f} characters a page on average, {evaluation.seconds:.1f} s")
    return "\n".join(lines)


def record(evaluation: Evaluation, **facts: Any) -> dict[str, Any]:
    """The evaluation for machines; an infinite error rate is none."""

    def entry(score: Score) -> dict[str, Any]:
        rate = score.error_rate
        return {**asdict(score), "error_rate": rate if rate != float("inf") else None}

    faces = {name: entry(score) for name, score in sorted(evaluation.faces.items())}
    return {**facts, **entry(evaluation.total), "seconds": round(evaluation.seconds, 3), "faces": faces}


def run(model: str, encoder: str | None, pages: list[RenderedPage]) -> tuple[Evaluation, dict[str, str]]:
    """Evaluate with a private runtime; also what it ran with."""
    from dotsctl.client.api import Client  # not for --help

    with Client(model=model, encoder=encoder, private=True) as client:
        facts = {
            "model": client.model_name,
            "fingerprint": client.fingerprint,
            "encoder": client.encoder,
            "decoder": client.decoder,
        }
        return evaluate(lambda images: client.ocr(images, task="text"), pages), facts


@click.command()
@click.option("--pages", "num_pages", default=100, show_default=True, type=click.IntRange(1), help="Pages to render.")
@click.option("--seed", default=1_000_000, show_default=True, help="Seed of the first page.")
@click.option(
    "--min-characters", default=90.0, show_default=True, help="Refuse pages with fewer characters on average."
)
@click.option("--model", default="demo", show_default=True, help="Name or path of the model.")
@click.option("--encoder", help="Encoder plugin, NAME[:key=value,...].")
@click.option("--limit", type=float, help="Exit 1 above this error rate, as 0.08, or when a page failed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(
    num_pages: int,
    seed: int,
    min_characters: float,
    model: str,
    encoder: str | None,
    limit: float | None,
    as_json: bool,
) -> None:
    """Measure the character error rate of a model on rendered pages."""
    try:
        pages = list(rendered_pages(num_pages, seed))
        mean = sum(len(normal(page.text)) for page in pages) / num_pages
        if mean < min_characters:
            raise UsageError(f"these pages have {mean:.0f} characters on average, not {min_characters:.0f}: take more")
        evaluation, facts = run(model, encoder, pages)
    except DotsctlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps(record(evaluation, **facts, seed=seed), indent=2))
    else:
        click.echo(table(evaluation))
    if limit is not None and (evaluation.total.error_rate > limit or evaluation.total.failed):
        rate, failed = evaluation.total.error_rate, evaluation.total.failed
        click.echo(f"above the limit: error rate {rate:.2%} of at most {limit:.2%}, {failed} pages failed", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
