"""The files that ``verify`` leaves in its output folder: metadata as JSON, and two plots."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.protocol.errors import MissingError, OutputError
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.tools.dev.verify.compare import FLOAT32_MEAN, TensorRow
from dotsctl.tools.dev.verify.stages import STAGES, Results
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.plots import write_result


def write_report(
    folder: Path,
    rows: Sequence[TensorRow],
    own: Results,
    others: Mapping[str, Results],
    about: dict[str, Any],
    model: Path,
) -> None:
    """Write ``metadata.json``, ``errors.png`` and ``merger.png``.

    Args:
        folder: made where it is missing.
        rows: of the table.
        own: our results.
        others: those of each reference.
        about: what else belongs into the metadata: type, device, BLAS.
        model: folder of the model.

    Raises:
        OutputError: the folder cannot be written.
        MissingError: matplotlib is not installed.
    """
    metadata = {
        **MadeBy.now().record(),
        "command": shlex.join(["python", "-P", "-m", "dotsctl.tools.dev.verify", *sys.argv[1:]]),
        "model": {"folder": model.name, "fingerprint": fingerprint(model)},
        **about,
        "match": all(row.match for row in rows),
        "rows": [asdict(row) | {"errors": _errors(row)} for row in rows],
    }
    try:
        write_result(folder / "metadata.json", metadata)
        _plot(folder, rows, own, others)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error})", "choose another folder with --output") from None


def _errors(row: TensorRow) -> dict[str, float | None] | None:
    """Errors by name; JSON has no infinite numbers."""
    if row.errors is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in row.errors._asdict().items()}


def _plot(folder: Path, rows: Sequence[TensorRow], own: Results, others: Mapping[str, Results]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(
            f"plots need matplotlib ({error})", "pip install matplotlib, or leave --output away"
        ) from None
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row.reference for row in rows):
        means = {row.component: row.errors.mean_abs for row in rows if row.reference == name and row.errors}
        axes.semilogy(STAGES, [means.get(stage) or np.nan for stage in STAGES], "o-", label=name)
    if own.logits is not None:
        axes.axhline(FLOAT32_MEAN, color="black", linestyle=":", label="limit")
    axes.set(title="Error of our tower against each reference", ylabel="mean absolute error")
    axes.legend()
    write_result(folder / "errors.png", figure)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    bins = [float(edge) for edge in np.linspace(-10, 0, 81)]
    for name, other in others.items():
        found = np.abs(own.stages["merger"] - other.stages["merger"]).ravel()
        axes.hist(np.log10(np.maximum(found, 1e-10)), bins=bins, histtype="step", label=name)
    axes.set(title="Errors of the embeddings", xlabel="log10 of the absolute error, -10: or less", ylabel="numbers")
    axes.legend()
    write_result(folder / "merger.png", figure)
