"""Measures how well a model reads pages whose content is known: ``python -P -m dotsctl.tools.dev.evaluate --limit
0.08``.

Pages go through a private runtime with its two workers. Without ``--folder`` they are drawn from seeds and, by
default, of words that training does not use. ``--set-by cairo`` has them set by Pango and Cairo, which set no training
page. The error rate is the sum of edits over the sum of characters; a run of blanks and line ends counts as one
blank, on both sides. A page that fails counts as one of which nothing was read.

Needs the extra ``[test]`` or ``[train]`` for the fonts and the edit distance.
"""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.encoder_worker.plugins import COREML
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.dev.evaluate.evaluation import Evaluation, evaluate, record
from dotsctl.tools.dev.evaluate.report import write_report
from dotsctl.tools.dev.evaluate.tables import table, verdict
from dotsctl.tools.dev.page_sets.cairo_pages import cairo_pages
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.report_text import text_report
from dotsctl.tools.measuring.scores import normal
from dotsctl.tools.pages import fonts as page_fonts
from dotsctl.tools.pages.generator import STYLES
from dotsctl.tools.pages.truths import Truth, folder_pages, generated_pages, omnidocbench_pages
from dotsctl.tools.pages.words import VOCABULARIES


@dataclass(frozen=True)
class Drawn:
    """The options of pages that are drawn."""

    pages: int
    """Pages of each vocabulary."""
    seed: int
    vocabularies: tuple[str, ...]
    style: str = "full"
    fonts: str = "everywhere"
    noise: float | None = None
    size: tuple[int, int] | None = None
    """Width and height in pixels; none: those of the style."""
    set_by: str = "pillow"

    def truths(self) -> Iterator[Truth]:
        """Yield the pages of each vocabulary; of several, each is a group.

        Raises:
            UsageError: Cairo has no size to draw, or a font family is unknown.
            MissingError: a font or a library is not installed.
        """
        for vocabulary in self.vocabularies:
            for truth in self._pages(vocabulary):
                yield replace(truth, group=vocabulary) if len(self.vocabularies) > 1 else truth

    def _pages(self, vocabulary: str) -> Iterator[Truth]:
        if self.set_by == "pillow":
            families = page_fonts.families(self.fonts)
            return generated_pages(
                self.pages, self.seed, self.style, families, self.noise, vocabulary=vocabulary, size=self.size
            )
        if self.size is None:
            raise UsageError("--set-by cairo needs the size of the pages", "add --size 336x280")
        return cairo_pages(self.pages, self.seed, self.size, vocabulary)


def folder_truths(folder: Path, images: Path | None, num_pages: int) -> Iterator[Truth]:
    """Yield the pages of a folder, or of an annotation file of OmniDocBench.

    Raises:
        UsageError: the folder holds no pages with their texts.
    """
    found = omnidocbench_pages(folder, images) if folder.suffix == ".json" else folder_pages(folder)
    return itertools.islice(found, num_pages)


def size_of(text: str | None) -> tuple[int, int] | None:
    """Return the width and height of ``WxH``; none for none.

    Raises:
        UsageError: it is not of that form.
    """
    if text is None:
        return None
    wide, _, high = text.partition("x")
    if not (wide.isdecimal() and high.isdecimal() and min(int(wide), int(high)) >= 56):
        raise UsageError(f"--size {text!r}", "write width and height in pixels, at least 56, as 336x280")
    return int(wide), int(high)


def vocabularies_of(text: str) -> tuple[str, ...]:
    """Return the vocabularies of a comma-separated list.

    Raises:
        UsageError: one is unknown.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in VOCABULARIES]:
        raise UsageError(f"--words {unknown[0]!r}", f"give one or more of {', '.join(VOCABULARIES)}")
    return names


def run(
    pages: Iterable[Truth], task: str, max_pixels: int | None, **choices: str | None
) -> tuple[Evaluation, dict[str, str]]:
    """Evaluate with a private runtime; also what it ran with.

    Args:
        pages: what is read.
        task: as the client knows it.
        max_pixels: pages are resized to at most so many; none: the model's own limit.
        choices: model, encoder and decoder, as the client takes them.
    """
    from dotsctl.client.api import Client  # not for --help

    with Client(private=True, **choices) as client:  # type: ignore[arg-type]
        facts = {
            "model": client.model_name,
            "fingerprint": client.fingerprint,
            "encoder": client.encoder,
            "decoder": client.decoder,
        }
        if task not in client.tasks:
            raise UsageError(f"{client.model_name} has no task {task!r}; it has {', '.join(client.tasks)}")

        def read(images: Iterable[Any]) -> Iterator[Any]:
            return client.ocr(images, task=task, max_pixels=max_pixels)

        return evaluate(read, pages, task), facts


def above_limits(evaluation: Evaluation, limit: float | None, least_json: float | None) -> str:
    """Return the requested limits that were not reached, as text; empty when all were."""
    total, valid = evaluation.total, evaluation.json_share
    if limit is not None and (total.error_rate > limit or total.failed):
        return f"above the limit: error rate {total.error_rate:.2%} of at most {limit:.2%}, {total.failed} pages failed"
    if least_json is not None and (valid is None or valid < least_json):
        share = "no page" if valid is None else f"{valid:.1%}"
        return f"below the limit: {share} of the answers are JSON, {least_json:.1%} are required"
    return ""


@click.command()
@click.option("--pages", "num_pages", default=100, show_default=True, type=click.IntRange(1),
              help="Pages at most; of drawn pages as many of each vocabulary.")  # fmt: skip
@click.option("--task", default="text", show_default=True, help="text, layout or layout-only.")
@click.option("--folder", type=click.Path(exists=True, path_type=Path),
              help="Pictures with .md or .txt files of the same names; or a JSON file of OmniDocBench.")  # fmt: skip
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Pictures of that file.")
@click.option("--style", default="full", show_default=True, type=click.Choice(list(STYLES)), help="Drawn pages.")
@click.option("--fonts", default="everywhere", show_default=True, help="Families or groups, comma-separated.")
@click.option("--words", "vocabularies", default="foreign", show_default=True,
              help="Words of drawn pages: foreign (never trained on), own, random, training.")  # fmt: skip
@click.option("--size", help="Width and height of drawn pages in pixels, as 336x280.")
@click.option("--set-by", default="pillow", show_default=True, type=click.Choice(["pillow", "cairo"]),
              help="Library that sets drawn pages; no training page is set by Cairo.")  # fmt: skip
@click.option("--noise", type=click.FloatRange(0, 3), help="Strength of the scan. [default: that of the style]")
@click.option("--seed", default=1_000_000, show_default=True, help="Seed of the first drawn page.")
@click.option("--min-characters", default=0.0, help="Refuse pages with fewer characters on average.")
@click.option("--max-pixels", type=click.IntRange(784), help="Resize pages to at most so many pixels.")
@click.option("--model", default="demo", show_default=True, help="Name or path of the model.")
@click.option("--encoder", help="Encoder plugin, NAME[:key=value,...].")
@click.option("--decoder", help="Decoder plugin, NAME[:key=value,...].")
@click.option("--limit", type=float, help="Exit 1 above this error rate, as 0.08, or when a page failed.")
@click.option("--min-json", type=float, help="Exit 1 when a smaller share of layout answers is JSON, as 0.9.")
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), help="Write JSON and an HTML page there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(
    num_pages: int,
    task: str,
    folder: Path | None,
    images: Path | None,
    style: str,
    fonts: str,
    vocabularies: str,
    size: str | None,
    set_by: str,
    noise: float | None,
    seed: int,
    min_characters: float,
    max_pixels: int | None,
    model: str,
    encoder: str | None,
    decoder: str | None,
    limit: float | None,
    min_json: float | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Measure what a model reads wrongly on pages whose content is known."""
    with exiting_on_error():
        drawn = Drawn(num_pages, seed, vocabularies_of(vocabularies), style, fonts, noise, size_of(size), set_by)
        pages = list(folder_truths(folder, images, num_pages) if folder else drawn.truths())
        mean = sum(len(normal(page.text)) for page in pages) / len(pages)
        if mean < min_characters:
            raise UsageError(
                f"these pages have {mean:.0f} characters on average, not {min_characters:.0f}", "take more"
            )
        evaluation, facts = run(pages, task, max_pixels, model=model, encoder=encoder, decoder=decoder)
        made_by, sentence = MadeBy.now(), verdict(evaluation, facts.get("model", model))
        about = {"verdict": sentence, "made_by": made_by.record(), **facts, **({} if folder else asdict(drawn))}
        found = record(evaluation, **about, max_pixels=max_pixels)
        if report is not None:
            write_report(report, evaluation, found, made_by)
    uses_coreml = COREML in facts.get("encoder", "")
    text = text_report(sentence, made_by, table(evaluation), uses_coreml=uses_coreml)
    click.echo(json.dumps(found, indent=2) if as_json else text)
    if short := above_limits(evaluation, limit, min_json):
        click.echo(short, err=True)
        sys.exit(1)
