"""The accuracy that an encoder must have: noise of known size on the embeddings, and its effect on the text.

Each token gets noise at a right angle to it, as long as it takes for the required cosine between the token with and
without noise. The decoder reads the page without and with it. So the curve shows at which cosine between two encoders
their texts begin to differ; ``encoder_worker/coreml/golden.py`` has the limit that was set from it.

python -P -m dotsctl.tools.dev.noise --pages 40 -o plots
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.client.settings.defaults import AUTO_FIRST
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.coreml.golden import judge
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import REINSTALL, MissingError, UsageError
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.derived import watched
from dotsctl.tools.dev.noise.point import Point
from dotsctl.tools.dev.noise.report import NOISE, table, write_report
from dotsctl.tools.measuring.distance import Distance
from dotsctl.tools.measuring.encoding import PageEncoder, as_float32, kept
from dotsctl.tools.measuring.scores import edit_distance
from dotsctl.tools.pages.source import MeasuredPage, measured_pages
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dotsctl.tools.dev.noise.text_change import TextChange

COSINES = (0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99995, 0.99999)
PAGES = 40


def noise_length(cosine: float) -> float:
    """Length of noise at a right angle to a token of length 1 that gives this cosine."""
    return math.sqrt(1 / cosine**2 - 1)


def perturbed(embeddings: NDArray[np.float32], cosine: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Embeddings (num_embeddings, width), each of which has the given cosine to what it was before."""
    wide = embeddings.astype(np.float64)
    squares = np.maximum((wide * wide).sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)  # (num_embeddings, 1)
    noise = rng.normal(size=wide.shape)
    noise -= (noise * wide).sum(axis=1, keepdims=True) / squares * wide
    noise *= noise_length(cosine) * np.sqrt(squares) / np.linalg.norm(noise, axis=1, keepdims=True)
    return (wide + noise).astype(np.float32)


def encode(model: Path, encoder: str, pages: Sequence[MeasuredPage]) -> list[EncodedPage]:
    """Return the embeddings of the pages by an encoder, in float32. Raises PageError for one that it cannot encode."""
    loaded = PageEncoder(PluginChoice.parse(encoder), model, lambda note: None)
    try:
        found = [kept(loaded.encode(page.page, None)) for page in watched(pages, "encoding")]
    finally:
        loaded.close()
    return [replace(page, embeddings=as_float32(page.embeddings)) for page in found]


def measure(
    model: Path,
    encoded: Sequence[EncodedPage],
    truths: Sequence[str | None],
    cosines: Sequence[float],
    seeds: int,
    others: Mapping[str, Sequence[EncodedPage]],
) -> list[Point]:
    """The curve, beginning with the point without noise, then a point for each other encoder.

    Args:
        model: whose decoder reads.
        encoded: pages as the encoder made them, in float32.
        truths: what stands on them.
        cosines: between 0 and 1.
        seeds: times that each page gets other noise at each cosine.
        others: the same pages as other encoders made them, by their names.

    Raises:
        PageError: a page leaves no position for an answer.
        MissingError: rapidfuzz, MLX, or a part of the model, is missing.
    """
    edit_distance("", "")  # a missing rapidfuzz is reported now, and not after minutes
    preload_blas()
    try:
        from dotsctl.tools.dev.noise.text_change import Baseline, TextChange
        from dotsctl.tools.measuring.reading import Reader
    except ImportError as error:
        raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
    reader = Reader(model, prefer="text")
    noisy, real = {cosine: TextChange() for cosine in (1.0, *cosines)}, {name: TextChange() for name in others}
    for place, page in watched(list(enumerate(encoded)), "reading with noise"):
        baseline = Baseline.of(reader, page, truths[place])
        noisy[1.0].add(baseline, baseline.answer.text, baseline.best)
        for cosine in cosines:
            for seed in range(seeds):
                rng = np.random.default_rng([place, seed])  # the same directions at every cosine
                other = replace(page, embeddings=perturbed(page.embeddings, cosine, rng))
                noisy[cosine].read(reader, other, baseline)
        for name, pages in others.items():
            real[name].read(reader, pages[place], baseline)
    points = [_point(NOISE, cosine, noise_length(cosine), change) for cosine, change in noisy.items()]
    return points + [_point(name, *_distance(others[name], encoded), change) for name, change in real.items()]


def _point(source: str, cosine: float, error: float, change: "TextChange") -> Point:
    truth, answers = change.truth_error_rate, change.ours
    return Point(source, cosine, error, change.error_rate, truth, change.token_agreement, answers.exact, answers.pages)


def _distance(pages: Sequence[EncodedPage], reference: Sequence[EncodedPage]) -> tuple[float, float]:
    """Mean cosine over tokens and relative error of all pages; not a number where a page has another grid."""
    if [page.grid for page in pages] != [page.grid for page in reference]:
        return math.nan, math.nan
    ours, theirs = (np.concatenate([page.embeddings for page in side]) for side in (pages, reference))
    return float(judge(ours, theirs)[0].mean()), Distance.between(ours, theirs).relative_error


def _record(point: Point) -> dict[str, Any]:
    """The JSON output; JSON has no number that is none."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(point).items()
    }


def parse_cosines(text: str) -> tuple[float, ...]:
    """Cosines as in ``0.99,0.999``. Raises UsageError."""
    try:
        found = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 < cosine < 1 for cosine in found):
        raise UsageError(f"--cosines {text!r}: numbers between 0 and 1, with commas between them, as in 0.99,0.999")
    return found


def run(
    model: str,
    pages: tuple[str, ...],
    encoder: str,
    others: tuple[str, ...],
    cosines: str,
    seeds: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure and report; see the command's options.

    Raises:
        UsageError: an option that makes no sense.
        MissingError: the model or a library is missing.
        NoInputError: a file is no page.
        OutputError: the folder cannot be written.
    """
    chosen = parse_cosines(cosines)
    name, folder = find_model(model)
    found = measured_pages(pages, PAGES)
    encoded = encode(folder, encoder, found)
    real = {other: encode(folder, other, found) for other in others}
    points = measure(folder, encoded, [page.truth for page in found], chosen, seeds, real)
    about = {"model": name, "fingerprint": fingerprint(folder), "encoder": encoder, "pages": len(found), "seeds": seeds}
    content = {**about, "points": [_record(point) for point in points]}
    print(json.dumps(content, indent=2) if as_json else table(points))
    if output is not None:
        write_report(output, points, content)


@click.command()
@click.argument("model", default="demo")
@click.option(
    "--pages",
    multiple=True,
    metavar="N|FILE",
    help=f"How many pages to print, or a page, PDF or folder; may be repeated. [default: {PAGES}]",
)
@click.option("--encoder", default=AUTO_FIRST, show_default=True, help="Encoder plugin, NAME[:key=value,...].")
@click.option(
    "--also",
    "others",
    multiple=True,
    metavar="NAME[:...]",
    help="Another encoder to measure; may be repeated.",
)
@click.option("--cosines", default=",".join(map(str, COSINES)), show_default=True, help="Numbers between 0 and 1.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Times that a page gets noise.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for noise.json and noise.png.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cli(**options: Any) -> None:
    """Measure how noise on the embeddings changes the text of MODEL."""
    run(**options)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; ``words`` instead of the process's own arguments."""
    with exiting_on_error():
        cli(words, prog_name="python -P -m dotsctl.tools.dev.noise")
