"""The cost of smaller weights: Core ML builds of a model with each way to store them, compared layer by layer.

Each build is executed by the reference interpreter on a few pages; its residual stream after each layer and its
embeddings are compared with the tower in float64, and the decoder reads the pages from both. Builds are made where they
are missing, and stay: they are those of ``dotsctl convert --encoder coreml --weights ...``.

python -P -m dotsctl.tools.dev.quantise demo --pages 4 -o plots
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.encoder_worker.coreml.golden import judge
from dotsctl.encoder_worker.coreml.manifest import Build, builds_directory
from dotsctl.encoder_worker.opening import read_limits
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import REINSTALL, MissingError, UsageError
from dotsctl.protocol.model.buckets import standard_buckets
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.command import existing_build, say
from dotsctl.tools.coreml.options import BITS, PRECISIONS, ConversionOptions
from dotsctl.tools.derived import watched
from dotsctl.tools.dev.quantise.layers import LayerErrors, exact_stages, prepared, run_build
from dotsctl.tools.dev.quantise.outcome import StoredOutcome
from dotsctl.tools.dev.quantise.report import table, write_report
from dotsctl.tools.measuring.encoding import page_image
from dotsctl.tools.measuring.scores import edit_distance
from dotsctl.tools.pages.source import MeasuredPage, measured_pages
from dotsctl.tools.reference.exact_tower import MERGER, ExactTower
from numpy.typing import NDArray

PAGES = 4
SWEEP = "sweep"
"""The prefix of the name of a build where another build has the usual name."""


@dataclass(frozen=True)
class Sweep:
    """All builds on all pages."""

    folders: dict[str, Path]
    """The folders of the builds, by their weights."""
    exact: list[EncodedPage]
    pages: dict[str, list[EncodedPage]]
    """The pages by weights."""
    errors: dict[str, LayerErrors]


def make_builds(model: Path, weights: Sequence[str], precision: str) -> dict[str, Path]:
    """Folders of builds by their weights, all with the standard buckets; made where there are none.

    Raises:
        UsageError: options that do not fit the model.
        MissingError: coremltools is not installed, or a file of the model is missing.
        CommandFailedError: the disk does not take them.
    """
    folders, buckets = dict[str, Path](), standard_buckets(read_limits(model))
    for name in weights:
        options = ConversionOptions(precision, name, buckets)
        if (builds_directory(fingerprint(model)) / options.build_name).exists() and not existing_build(model, options):
            options = replace(options, name=f"{SWEEP}-{options.build_name}")
        folders[name] = existing_build(model, options) or convert_encoder(model, options, say)
    return folders


def encode(model: Path, folders: dict[str, Path], pages: Sequence[MeasuredPage]) -> Sweep:
    """Send the pages through the tower in float64 and through all builds. Raises PageError."""
    builds = {name: Build.read(folder) for name, folder in folders.items()}
    limits, tower = read_limits(model), ExactTower.of(model)
    sweep = Sweep(folders, [], {name: [] for name in folders}, {name: LayerErrors() for name in folders})
    for page in watched(pages, "running the builds"):
        patches = prepared(page_image(page.page, None), limits, next(iter(builds.values())))
        with tempfile.TemporaryDirectory(prefix="dotsctl-quantise-") as scratch:
            exact = exact_stages(tower, patches, Path(scratch))
            rows = np.load(exact[MERGER]).astype(np.float32)  # (num_embeddings, width)
            sweep.exact.append(EncodedPage(rows, patches.grid, patches.geometry))
            for name, build in builds.items():
                found = run_build(folders[name], build, patches, exact, sweep.errors[name])
                sweep.pages[name].append(EncodedPage(found, patches.grid, patches.geometry))
    return sweep


def read(model: Path, sweep: Sweep, truths: Sequence[str | None]) -> list[StoredOutcome]:
    """Read all pages from the embeddings of each build.

    Raises:
        PageError: a page leaves no position for an answer.
        MissingError: rapidfuzz, MLX, or a part of the model, is missing.
    """
    from dotsctl.tools.dev.noise.text_change import Baseline, TextChange
    from dotsctl.tools.measuring.reading import Reader

    reader = Reader(model, prefer="text")
    baselines = [Baseline.of(reader, page, truth) for page, truth in zip(sweep.exact, truths, strict=True)]
    outcomes = []
    for name, pages in watched(list(sweep.pages.items()), "reading"):
        change = TextChange()
        for page, baseline in zip(pages, baselines, strict=True):
            change.read(reader, page, baseline)
        cosines, components = _cosines(pages, sweep.exact), sweep.errors[name].components()
        outcomes.append(
            StoredOutcome(
                weights=name,
                build=sweep.folders[name].name,
                size_bytes=Build.read(sweep.folders[name]).nbytes,
                relative_error=components[-1].relative_error,
                cosine=float(cosines.mean()),
                min_cosine=float(cosines.min()),
                error_rate=change.error_rate,
                truth_error_rate=change.truth_error_rate,
                token_agreement=change.token_agreement,
                components=components,
            )
        )
    return outcomes


def _cosines(pages: Sequence[EncodedPage], exact: Sequence[EncodedPage]) -> NDArray[np.float64]:
    pairs = zip(pages, exact, strict=True)
    return np.concatenate([judge(page.embeddings, other.embeddings)[0] for page, other in pairs])


def parse_weights(text: str) -> tuple[str, ...]:
    """Ways to store weights, as in ``same,int8``, each once. Raises UsageError."""
    names = tuple(dict.fromkeys(text.split(",")))
    if wrong := [name for name in names if name not in BITS]:
        raise UsageError(f"--weights {wrong[0]!r} is none of {', '.join(BITS)}")
    return names


def run(model: str, weights: str, precision: str, pages: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Make, measure and report; see the command's options.

    Raises:
        UsageError: an option that makes no sense.
        MissingError: the model or a library is missing.
        NoInputError: a file is no page.
        CommandFailedError: the disk does not take the builds.
        OutputError: the folder cannot be written.
    """
    names = parse_weights(weights)
    name, folder = find_model(model)
    validate_checkpoint(folder)
    found = measured_pages(pages, PAGES)
    edit_distance("", "")  # a missing rapidfuzz is reported now, and not after minutes
    preload_blas()
    try:
        import dotsctl.tools.measuring.reading  # noqa: F401 - MLX is needed at the end
    except ImportError as error:
        raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
    sweep = encode(folder, make_builds(folder, names, precision), found)
    outcomes = read(folder, sweep, [page.truth for page in found])
    about = {"model": name, "fingerprint": fingerprint(folder), "precision": precision, "pages": len(found)}
    content = {**about, "score": "1 - relative error, 1.0 = identical", "builds": [asdict(each) for each in outcomes]}
    print(json.dumps(content, indent=2) if as_json else table(outcomes))
    if output is not None:
        write_report(output, outcomes, content)


@click.command()
@click.argument("model")
@click.option("--weights", default=",".join(BITS), show_default=True, help="Ways to store them.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="float16", show_default=True)
@click.option(
    "--pages",
    multiple=True,
    metavar="N|FILE",
    help=f"How many pages to print, or a page, PDF or folder; may be repeated. [default: {PAGES}]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for quantization_summary.json and .png.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cli(**options: Any) -> None:
    """Measure what each way to store the weights of MODEL's Core ML packages costs, layer by layer.

    A page of dots.ocr takes the interpreter minutes for each build; the demo model's take a second.
    """
    run(**options)


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.quantise")
