"""The readable noise curve: a table, and files with numbers and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.golden import GOLDEN_COSINE
from dotsctl.tools.dev.noise.point import Point
from dotsctl.tools.measuring.plots import new_figure, write_results

NOISE = "noise"
SMALLEST = 1e-7
"""Distance at which an encoder is drawn that is nearer than that."""
NEAR_ZERO = 1e-4
"""The value where the axis of error rates becomes linear, so that zero has a place too."""


def table(points: Sequence[Point]) -> str:
    """A line for each cosine."""
    lines = [" cosine   error of a token  other characters  against the truth  same tokens  same answers"]
    for point in points:
        truth = "" if point.truth_error_rate is None else f"{point.truth_error_rate:.2%}"
        lines.append(
            f"{point.cosine:8.6f}  {point.relative_error:16.4f}  {point.error_rate:16.2%}  {truth:>17}"
            f"  {point.token_agreement:11.2%}  {point.same_answers:5} of {point.answers}"
            f"{'' if point.source == NOISE else f'  {point.source}'}"
        )
    return "\n".join(lines)


def write_report(folder: Path, points: Sequence[Point], content: dict[str, Any]) -> None:
    """Write ``noise.json`` and ``noise.png``.

    Raises:
        OutputError: the folder cannot be written.
        MissingError: matplotlib is not installed.
    """
    figure = new_figure(8, 4)
    axes = figure.subplots()
    noisy = [point for point in points if point.source == NOISE and point.cosine < 1]
    distances = [1 - point.cosine for point in noisy]
    axes.plot(distances, [point.error_rate for point in noisy], "o-", label="characters other than without noise")
    axes.plot(distances, [1 - point.token_agreement for point in noisy], "s-", label="other tokens")
    if all(point.truth_error_rate is not None for point in noisy):
        axes.plot(distances, [point.truth_error_rate for point in noisy], "^-", label="characters other than the truth")
    for point in points:
        if point.source != NOISE:
            axes.plot([max(1 - point.cosine, SMALLEST)], [point.error_rate], "*", markersize=12, label=point.source)
    axes.axvline(1 - GOLDEN_COSINE, color="black", linestyle=":", label=f"limit of the golden check, {GOLDEN_COSINE}")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=NEAR_ZERO)
    axes.set(title=f"Noise on the embeddings of {content['model']}", xlabel="1 - cosine of each token", ylabel="share")
    axes.set_ylim(bottom=0)
    axes.legend()
    write_results(folder, {"noise.json": content, "noise.png": figure})
