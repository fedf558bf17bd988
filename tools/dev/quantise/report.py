"""The readable sweep over ways to store weights: a table, and files with numbers and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dotsctl.client.files.sizes import size_text
from dotsctl.tools.dev.quantise.outcome import StoredOutcome
from dotsctl.tools.measuring.plots import new_figure, write_results

SHOWN_COMPONENTS = 12


def table(outcomes: Sequence[StoredOutcome]) -> str:
    """A line for each build, then the scores of the components, evenly spaced where there are many."""
    width = max(len(each.build) for each in outcomes)
    lines = [
        f"{'build':{width}}      size  score   error    cosine    smallest  same tokens  other characters"
        "  against the truth"
    ]
    for each in outcomes:
        truth = "" if each.truth_error_rate is None else f"{each.truth_error_rate:.2%}"
        lines.append(
            f"{each.build:{width}}  {size_text(each.size_bytes):>8}  {each.components[-1].score:.4f}"
            f"  {each.relative_error:.1e}  {each.cosine:.6f}  {each.min_cosine:.6f}  {each.token_agreement:11.2%}"
            f"  {each.error_rate:16.2%}  {truth:>17}".rstrip()
        )
    lines += ["", "score of each component (1.0: identical)"]
    names = max(len(component.name) for component in outcomes[0].components)
    lines.append(" " * names + "".join(f"  {each.weights:>15}" for each in outcomes))
    count = len(outcomes[0].components)
    step = max(1, -(-count // SHOWN_COMPONENTS))
    for place in sorted({*range(0, count, step), count - 1}):
        scores = "".join(f"  {each.components[place].score:15.5f}" for each in outcomes)
        lines.append(f"{outcomes[0].components[place].name:{names}}{scores}")
    return "\n".join(lines)


def write_report(folder: Path, outcomes: Sequence[StoredOutcome], content: dict[str, Any]) -> None:
    """Write ``quantization_summary.json`` and ``quantization_summary.png``.

    Raises:
        OutputError: the folder cannot be written.
        MissingError: matplotlib is not installed.
    """
    figure = new_figure(13, 4.5)
    sizes, layers, text = figure.subplots(1, 3)
    for each in outcomes:
        (point,) = sizes.semilogy([each.size_bytes / 1e6], [each.relative_error], "o", label=each.weights)
        places = range(len(each.components))
        errors = [component.relative_error for component in each.components]
        layers.semilogy(places, errors, ".-", color=point.get_color())
    sizes.set(title="Size and error of the embeddings", xlabel="MB", ylabel="relative error")
    sizes.legend()
    components = outcomes[0].components
    layers.set(title=f"{components[0].name} to {components[-1].name}", xlabel="component", ylabel="relative error")
    names = [each.weights for each in outcomes]
    text.barh(names, [each.token_agreement for each in outcomes])
    lowest = min(each.token_agreement for each in outcomes)
    text.set(title="Same tokens as from exact embeddings", xlim=(min(0.99, max(0.0, 2 * lowest - 1)), 1.0))
    figure.suptitle(f"{content['model']}, {content['precision']}")
    write_results(folder, {"quantization_summary.json": content, "quantization_summary.png": figure})
