"""Draws how the errors of a model grow: ``python -P -m dotsctl.tools.dev.curves --vary noise=0;1;2 FOLDER``.

Each ``--vary`` gives one curve; its values are separated by semicolons. ``type-px``, ``max-pixels``, ``noise``,
``encoder`` and ``decoder`` can be varied, the last two by plugins with their options, so weights of fewer bits are a
value as any.
FOLDER gets ``curves.json`` and a picture for each curve. Every point is the same pages, read by a runtime of its own,
with the seconds and the operations of a page.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import find_model
from dotsctl.tools.dev.evaluate.evaluation import Evaluation, record
from dotsctl.tools.dev.evaluate.main import run
from dotsctl.tools.measuring.plots import write_result
from dotsctl.tools.pages import fonts as page_fonts
from dotsctl.tools.pages.generator import STYLES
from dotsctl.tools.pages.truths import folder_pages, generated_pages

VARIED = ("type-px", "max-pixels", "noise", "encoder", "decoder")
DRAWN = ("type-px", "noise")
"""The settings that only drawn pages can have."""


@dataclass(frozen=True)
class CurveSetting:
    """The settings that one point is measured with."""

    model: str
    task: str
    pages: int
    style: str
    fonts: str
    seed: int
    folder: Path | None
    type_px: int | None = None
    noise: float | None = None
    max_pixels: int | None = None
    encoder: str | None = None
    decoder: str | None = None

    def with_value(self, name: str, value: str) -> "CurveSetting":
        """The setting with one thing changed.

        Raises:
            UsageError: the value is no number where one is needed, or the pages are not drawn.
        """
        if name in DRAWN and self.folder is not None:
            raise UsageError(f"--vary {name} draws pages with more and less of it", "leave --folder out")
        try:
            if name == "type-px":
                return replace(self, type_px=int(value))
            if name == "noise":
                return replace(self, noise=float(value))
            if name == "max-pixels":
                return replace(self, max_pixels=int(value))
        except ValueError:
            raise UsageError(f"--vary {name}: {value!r} is no number") from None
        return replace(self, encoder=value) if name == "encoder" else replace(self, decoder=value)


def values_of(text: str) -> tuple[str, list[str]]:
    """Name and values of ``NAME=VALUE;VALUE``.

    Raises:
        UsageError: there is no such thing to vary, or nothing to vary it by.
    """
    name, _, rest = text.partition("=")
    values = [value.strip() for value in rest.split(";") if value.strip()]
    if name not in VARIED or not values:
        raise UsageError(f"--vary {text!r}", f"write NAME=VALUE;VALUE with one of {', '.join(VARIED)}")
    return name, values


def operations(config: dict[str, Any], embeddings: int, prompt: int, completion: int) -> float:
    """Multiplications and additions of one page in both halves, from the shapes of config.json.

    Args:
        config: of the model.
        embeddings: of the page; the tower sees four patches for each.
        prompt: tokens in front of the answer, embeddings included.
        completion: tokens of the answer.
    """
    seen = config["vision_config"]
    patches, wide = 4 * embeddings, seen["embed_dim"]
    block = 2 * patches * (4 * wide**2 + 3 * wide * seen["intermediate_size"]) + 4 * patches**2 * wide
    merger = 2 * embeddings * ((4 * wide) ** 2 + 4 * wide * seen["hidden_size"])
    tower = seen["num_hidden_layers"] * block + 2 * patches * 3 * seen["patch_size"] ** 2 * wide + merger
    width, heads = config["hidden_size"], config["num_attention_heads"]
    keys = width * config["num_key_value_heads"] // heads
    tokens = prompt + completion
    layer = 2 * tokens * (2 * width**2 + 2 * width * keys + 3 * width * config["intermediate_size"])
    layer += 2 * tokens**2 * width  # each token attends to half of them on average
    return float(tower + config["num_hidden_layers"] * layer + 2 * completion * width * config["vocab_size"])


def point(setting: CurveSetting, value: str) -> dict[str, Any]:
    """Measure one point of a curve."""
    if setting.folder is None:
        families = page_fonts.families(setting.fonts)
        drawn = setting.pages, setting.seed, setting.style, families, setting.noise, setting.type_px
        pages = list(generated_pages(*drawn))
    else:
        pages = list(folder_pages(setting.folder))[: setting.pages]
    choices = {"model": setting.model, "encoder": setting.encoder, "decoder": setting.decoder}
    evaluation, facts = run(pages, setting.task, setting.max_pixels, **choices)
    work = _mean_operations(setting.model, evaluation)
    per_page = evaluation.seconds / max(1, evaluation.total.pages)
    return {"value": value, **record(evaluation, **facts), "seconds_a_page": per_page, "operations_a_page": work}


def _mean_operations(model: str, evaluation: Evaluation) -> float:
    config = read_json(find_model(model)[1], "config.json")
    counts = [reading.tokens for reading in evaluation.readings]
    works = [operations(config, count["image"], count["prompt"], count["completion"]) for count in counts]
    return sum(works) / max(1, len(works))


def line_of(name: str, found: dict[str, Any]) -> str:
    """One point as readable text."""
    rate = "-" if found["error_rate"] is None else f"{found['error_rate']:.2%}"
    work = found["operations_a_page"] / 1e9
    return (
        f"{name} {found['value']}: error rate {rate}, {found['seconds_a_page']:.2f} s, {work:.1f} G operations a page"
    )


def draw(name: str, points: list[dict[str, Any]], target: Path) -> None:
    """Write one curve: the error rate, and next to it the seconds a page."""
    from matplotlib.figure import Figure  # heavy

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    right_axis = axes.twinx()
    places, labels = range(len(points)), [point["value"] for point in points]
    axes.plot(places, [100 * (point["error_rate"] or 0) for point in points], "o-", color="tab:red")
    right_axis.plot(places, [point["seconds_a_page"] for point in points], "s:", color="tab:blue")
    axes.set_xticks(list(places), labels)
    axes.set_xlabel(name)
    axes.set_ylabel("characters read wrongly, %", color="tab:red")
    right_axis.set_ylabel("seconds a page", color="tab:blue")
    axes.set_ylim(bottom=0)
    right_axis.set_ylim(bottom=0)
    write_result(target, figure, dpi=110)


@click.command()
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.option("--vary", "varied", multiple=True, required=True, metavar="NAME=VALUE;VALUE", help=", ".join(VARIED))
@click.option("--model", default="demo", show_default=True, help="Name or path of the model.")
@click.option("--task", default="text", show_default=True, help="text, layout or layout-only.")
@click.option("--pages", default=40, show_default=True, type=click.IntRange(1))
@click.option("--style", default="full", show_default=True, type=click.Choice(list(STYLES)), help="Drawn pages.")
@click.option("--fonts", default="everywhere", show_default=True, help="Families or groups, comma-separated.")
@click.option("--seed", default=1_000_000, show_default=True, help="Seed of the first drawn page.")
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Pictures with .md or .txt files beside them, in place of drawn pages.")  # fmt: skip
def main(target: Path, varied: tuple[str, ...], **options: Any) -> None:
    """Measure curves and write them to TARGET."""
    curves: dict[str, list[dict[str, Any]]] = {}
    with exiting_on_error():
        for name, values in [values_of(text) for text in varied]:
            curves[name] = []
            for value in values:
                curves[name].append(found := point(CurveSetting(**options).with_value(name, value), value))
                click.echo(line_of(name, found))
            write_result(target / "curves.json", curves)
            draw(name, curves[name], target / f"{name}.png")


if __name__ == "__main__":
    main()
