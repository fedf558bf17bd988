"""Draws the course of a training: ``python -P -m dotsctl.tools.dev.training_plot FOLDER`` writes ``FOLDER/loss.png``.

Needs matplotlib, which ``[train]`` and ``[test]`` install.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.measuring.plots import write_result

LOSSES = ("loss", "box_loss", "characters_loss", "row_loss", "column_loss", "kind_loss")
ACCURACIES = ("text_accuracy", "layout_accuracy", "layout-only_accuracy")
SMOOTHED = 0.9
"""Share of the running mean that each point keeps."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of ``log.jsonl``; a last line that is still being written is left out.

    Raises:
        MissingError: there is no log.
        UsageError: there is nothing to draw in it.
    """
    if not path.is_file():
        raise MissingError(f"{path} is missing: this is no folder of a training")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    if len(entries) < 2:
        raise UsageError(f"{path} has {len(entries)} lines: let the training run for some minutes")
    return entries


def smooth(entries: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Hours of processor time and running mean of one figure, where the log has it."""
    hours, values = list[float](), list[float]()
    for entry in entries:
        if name in entry:
            before = values[-1] if values else entry[name]
            hours.append(entry["seconds"] / 3600)
            values.append(SMOOTHED * before + (1 - SMOOTHED) * entry[name])
    return hours, values


def draw(entries: list[dict[str, Any]], target: Path) -> None:
    """Write the picture: losses above, accuracies below, a line where a stage of the curriculum began."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, names in ((above, LOSSES), (below, ACCURACIES)):
        for name in names:
            axes.plot(*smooth(entries, name), label=name.replace("_", " "))
        for before, after in itertools.pairwise(entries):
            if after["stage"] != before["stage"]:
                axes.axvline(after["seconds"] / 3600, color="0.7", linestyle=":")
        axes.grid(alpha=0.3)
        axes.legend()
    above.set_yscale("log")
    above.set_ylabel("loss")
    below.set_ylabel("right tokens after the right beginning")
    below.set_xlabel("processor time, hours")
    write_result(target, figure, dpi=110)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Draw the losses and accuracies of a training into FOLDER/loss.png."""
    with exiting_on_error():
        draw(read_log(folder / "log.jsonl"), folder / "loss.png")


if __name__ == "__main__":
    main()
