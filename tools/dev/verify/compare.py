"""The distance between two implementations, and whether it is small enough. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from dotsctl.tools.dev.verify.stages import LOGITS, STAGES, Inputs, Results
from numpy.typing import NDArray

FLOAT32_MEAN = 1e-5
"""Most mean absolute error of a stage."""
LOGITS_MAX = 1e-3
"""Most absolute error of any logit."""
BFLOAT16_RELATIVE = 2e-2
"""Most mean absolute error of a stage over the mean absolute value, at up to six layers."""
BFLOAT16_RATIO = 1.2
"""The largest ratio of our error to that of mlx-vlm in the same type."""


class Errors(NamedTuple):
    """Distance between two arrays."""

    max_abs: float
    mean_abs: float
    relative: float
    """Mean absolute error over the mean absolute value of the reference."""
    cosine: float


@dataclass(frozen=True)
class TensorRow:
    """One line of the table."""

    reference: str
    component: str
    match: bool
    limit: str
    """The limit as text, with the number."""
    errors: Errors | None = None
    """The errors; none for answers, which are equal or not."""
    note: str = ""


def errors(found: NDArray[Any], expected: NDArray[Any]) -> Errors:
    """Measures of the distance between two arrays of one shape, in float64; numbers that are not finite are far."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return Errors(np.inf, np.inf, np.inf, 0.0)
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    difference = np.abs(a - b)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return Errors(
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        relative=float(difference.mean() / max(float(np.abs(b).mean()), 1e-30)),
        cosine=float(a @ b) / lengths if lengths else float(not difference.any()),
    )


def float32_rows(reference: str, own: Results, other: Results) -> list[TensorRow]:
    """Stages, logits and answers against those of one reference, as far as it has them."""
    rows = []
    if own.inputs is not None and other.inputs is not None:
        rows.append(_inputs(reference, own.inputs, other.inputs))
    for stage in STAGES:
        found = errors(own.stages[stage], other.stages[stage])
        near = found.mean_abs <= FLOAT32_MEAN
        rows.append(TensorRow(reference, stage, near, f"mean abs <= {FLOAT32_MEAN:g}", found))
    if own.logits is not None and other.logits is not None:
        found = errors(own.logits, other.logits)
        rows.append(TensorRow(reference, LOGITS, found.max_abs <= LOGITS_MAX, f"max abs <= {LOGITS_MAX:g}", found))
    if own.tokens is not None and other.tokens is not None:
        rows.append(_answers(reference, own.tokens, other.tokens))
    return rows


def _inputs(reference: str, own: list[Inputs], other: list[Inputs]) -> TensorRow:
    """Prompt ids and pixel values of all pages, which must be the same to the last bit."""
    ids = sum(a.ids == b.ids for a, b in zip(own, other, strict=True))
    pixels = sum(np.array_equal(a.patches, b.patches) for a, b in zip(own, other, strict=True))
    note = f"prompt ids of {ids} and pixel values of {pixels} of {len(own)} pages equal"
    return TensorRow(reference, f"inputs of {len(own)} pages", ids == pixels == len(own), "difference 0", note=note)


def _answers(reference: str, own: list[list[int]], other: list[list[int]]) -> TensorRow:
    """All answers equal, token by token; else where each first differs."""
    differing = [
        f"page {index + 1} from token {_first_difference(a, b) + 1} on"
        for index, (a, b) in enumerate(zip(own, other, strict=True))
        if a != b
    ]
    same, count = len(own) - len(differing), sum(len(tokens) for tokens in own)
    note = "; ".join([f"{same} of {len(own)} pages equal, {count} tokens", *differing])
    return TensorRow(reference, f"answers of {len(own)} pages", not differing, "all tokens equal", note=note)


def _first_difference(a: list[int], b: list[int]) -> int:
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def bfloat16_rows(own: Results, truth: Results, peer: Results | None) -> list[TensorRow]:
    """Stages in bfloat16 against float64, and our error against that of mlx-vlm where it is installed."""
    ours = {stage: errors(own.stages[stage], truth.stages[stage]) for stage in STAGES}
    limit = f"relative <= {BFLOAT16_RELATIVE:g}"
    rows = [
        TensorRow("float64", stage, found.relative <= BFLOAT16_RELATIVE, limit, found) for stage, found in ours.items()
    ]
    if peer is None:
        return rows
    limit = f"<= {BFLOAT16_RATIO:g} times its own error"
    for stage in STAGES:
        theirs = errors(peer.stages[stage], truth.stages[stage]).mean_abs
        ratio = ours[stage].mean_abs / max(theirs, 1e-30)
        note = f"{ratio:.3f} times its own mean abs {theirs:.2e}"
        rows.append(TensorRow("mlx-vlm", stage, ratio <= BFLOAT16_RATIO, limit, ours[stage], note=note))
    return rows


def table(rows: Iterable[TensorRow]) -> str:
    """Text with one line for each row."""
    head = ("reference", "component", "max abs", "mean abs", "relative", "cosine", "limit", "")
    lines: list[Sequence[str]] = [head]
    for row in rows:
        numbers = [""] * 4
        if row.errors is not None:
            numbers = [f"{number:.2e}" for number in row.errors[:3]] + [f"{row.errors.cosine:.8f}"]
        verdict = ("match" if row.match else "NO MATCH") + (f" ({row.note})" if row.note else "")
        lines.append((row.reference, row.component, *numbers, row.limit, verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([cell.ljust(width) for cell, width in zip(line, widths, strict=False)] + [line[-1]]).rstrip()
        for line in lines
    )
