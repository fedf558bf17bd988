"""Rows of ink: which rows of a block belong to which printed line. Uses NumPy."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

FLAT_EM = 0.3
"""The height below which ink is a dot, an accent or a dash and no line of letters, in em."""


def bands(ink: "Array", em_px: float) -> list[tuple[int, int]]:
    """Return the rows from and to of each printed line, from top to bottom.

    The bodies of small letters are dense, what stands above and below them is not: a band is where a part of the line
    of some em has much ink, and bands are divided where there is least.
    """
    import numpy as np

    density = _density(ink, em_px)  # (rows)
    if not density.any():
        return []
    cores: tuple[tuple[int, int], ...] = ()
    for top, bottom in runs_of(filled_lines(ink, 1)):  # a line of one short word has little ink beside a full one
        own = density[top:bottom]
        dense = closed(runs_of(own > 0.3 * float(np.percentile(own, 85))), max(1.0, 0.12 * em_px))
        cores += tuple((top + start, top + end) for start, end in dense)
    cores = _divided(_merged(cores, em_px), density, em_px)
    cores = tuple(core for core in cores if core[1] - core[0] >= 0.12 * em_px) or cores
    edges = [0]
    for (_, above), (below, _) in pairwise(cores):
        between = density[above:below]
        lowest = np.flatnonzero(between == between.min()) if len(between) else np.array([0])
        edges.append(above + int(lowest[len(lowest) // 2]))
    edges.append(len(density))
    found = []
    for top, bottom in pairwise(edges):
        filled = np.flatnonzero(filled_lines(ink[top:bottom], 1))
        if len(filled):
            found.append((top + int(filled[0]), top + int(filled[-1]) + 1))
    return found


def _density(ink: "Array", em_px: float) -> "Array":
    """Return the share of ink in the fullest part, some em wide, of each row; smoothed over a tenth of an em."""
    import numpy as np

    rows, columns = ink.shape
    width = min(columns, max(8, round(5 * em_px)))
    sums = np.zeros((rows, columns + 1), np.float32)
    np.cumsum(ink, axis=1, out=sums[:, 1:])
    starts = np.unique(np.linspace(0, columns - width, max(1, 2 * columns // width)).astype(int))
    fullest = (sums[:, starts + width] - sums[:, starts]).max(axis=1) / width  # (rows)
    reach = max(1, round(0.1 * em_px)) | 1
    return np.convolve(fullest, np.full(reach, 1 / reach, np.float32), "same")


def _merged(cores: tuple[tuple[int, int], ...], em_px: float) -> tuple[tuple[int, int], ...]:
    """Return bands with flat ones, as dots and accents, joined to the nearer neighbour whose line they are part of."""
    found = list(cores)
    flat = [core for core in found if core[1] - core[0] < FLAT_EM * em_px]
    for core in flat:
        at = found.index(core) if core in found else -1
        ways = []
        for first in (at - 1, at):
            if at >= 0 and 0 <= first < len(found) - 1:
                above, below = found[first], found[first + 1]
                if below[0] - above[1] < 0.4 * em_px and below[1] - above[0] < 1.25 * em_px:
                    ways.append((below[0] - above[1], first))
        if ways:
            _, first = min(ways)
            found[first : first + 2] = [(found[first][0], found[first + 1][1])]
    return tuple(found)


def _divided(cores: tuple[tuple[int, int], ...], density: "Array", em_px: float) -> tuple[tuple[int, int], ...]:
    """Return bands with those that hold several lines divided at the row of least ink."""
    found: list[tuple[int, int]] = []
    waiting = list(reversed(cores))
    while waiting:
        top, bottom = waiting.pop()
        margin = round(0.5 * em_px)
        if bottom - top < 1.6 * em_px or bottom - top <= 2 * margin + 1:
            found.append((top, bottom))
            continue
        inner = density[top + margin : min(bottom - margin, top + round(1.6 * em_px))]
        at = top + margin + int(inner.argmin())
        found.append((top, at))
        waiting.append((at, bottom))
    return tuple(found)


def filled_lines(ink: "Array", axis: int) -> "Array":
    """Return which columns (``axis`` 0) or rows (1) have ink."""
    import numpy as np

    filled: Array = np.logical_or.reduce(ink, axis=axis)
    return filled


def runs_of(filled: "Array") -> tuple[tuple[int, int], ...]:
    """Return from and to of each run of True, without the latter."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([0], filled.astype(np.int8), [0]))))
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def closed(runs: tuple[tuple[int, int], ...], least: float) -> tuple[tuple[int, int], ...]:
    """Return runs with those joined whose gap is smaller than ``least``."""
    found: list[tuple[int, int]] = []
    for start, end in runs:
        if found and start - found[-1][1] < least:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)
