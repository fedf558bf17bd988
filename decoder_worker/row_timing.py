"""Measures what the rows of a pass cost, and by how much their scores differ from those of single rows.

Both depend on model, number format, chip and versions alone, so they are measured when a model is loaded for the first
time, and remembered in the user's cache folder. Imported by the MLX plugin alone.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import mlx.core as mx
import platformdirs
from dotsctl.decoder_worker.adapter import Network, RaggedCache, pass_scores, repeated_caches
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.model.files import read_cache, write_cache

FORMAT = 1
"""The version of the stored figures; others are measured anew."""
WIDTHS = (2, 4, 8, 16)
"""Rows of a page that are measured, besides one."""
PAGES = 2
"""Pages of the one pass with several."""
PROMPT = 32
"""Positions that are computed; their keys and values are repeated up to ``CONTEXT``."""
CONTEXT = 1024
"""Most positions behind which the rows stand, as those of a page; kernels change with them."""
POSITIONS_A_COLUMN = 8
"""Positions that a model can have for each of these: a small model reads small pages."""
SINGLE_ROWS = 4
"""Passes of one row, which are compared with the rows of the others."""
REPEATS = 2
"""Most passes of a width; the fastest counts."""
BUDGET_S = 0.004
"""Time after which a pass is not repeated on a CPU."""
SAFETY = 4.0
"""The gap of a tie, in differences that were measured: two scores move against each other, and other rows by more."""


@dataclass(frozen=True)
class RowTimes:
    """The figures of one model on one machine."""

    costs: RowCosts
    difference: float
    """Largest difference of a score between a row alone and among others; 0: there is none."""
    format: int = FORMAT

    @property
    def tie_gap(self) -> float:
        """The lead below which the best token of a row may be another one when it is computed alone."""
        return SAFETY * self.difference


def known_or_measured(network: Network, key: Sequence[str], machine: Machine) -> RowTimes:
    """Return what is known of a network, or measure and remember it.

    Args:
        network: loaded and evaluated.
        key: all that the figures depend on besides the machine: fingerprint, number format, versions.
        machine: this one.
    """
    digest = hashlib.sha256("\0".join((*key, *asdict(machine).values())).encode()).hexdigest()[:32]
    file = Path(platformdirs.user_cache_path("dotsctl")) / "row-times" / f"{digest}.json"
    known = read_cache(RowTimes, file)
    if known is None or known.format != FORMAT:
        known = measure(network)
        write_cache(file, known)
    return known


def measure(network: Network) -> RowTimes:
    """Time passes of one row and of several, and compare their scores."""
    vocabulary = network.args.vocab_size
    ids = [(7919 * place + 1) % vocabulary for place in range(PROMPT + max(WIDTHS))]
    columns = max(PROMPT, min(CONTEXT, network.args.max_position_embeddings // POSITIONS_A_COLUMN))
    caches = repeated_caches(network, ids[:PROMPT], columns)
    rows = ids[PROMPT:]
    singles, single_s = _single_rows(network, caches, rows[:SINGLE_ROWS])
    seconds, difference = [(1, single_s)], 0.0
    for width in WIDTHS:
        scores, spent_s = _fastest(partial(pass_scores, network, mx.array([rows[:width]]), caches))
        compared = min(width, len(singles))
        apart = mx.max(mx.abs(scores[0, :compared] - singles[:compared]))
        difference = max(difference, cast(float, apart.item()))
        seconds.append((width, max(spent_s, seconds[-1][1])))
    for cache in caches:
        cache.select([0] * PAGES)
    _, several_s = _fastest(lambda: pass_scores(network, mx.array([[row] for row in rows[:PAGES]]), caches))
    mx.clear_cache()  # of the caches of several pages
    page_s = max(0.0, several_s - dict(seconds)[PAGES]) / (PAGES - 1)
    return RowTimes(RowCosts(tuple(seconds), page_s), difference)


def _clock() -> Callable[[], float]:
    """Return what passes are timed with: on a CPU its own time, which does not depend on other work."""
    return time.perf_counter if _on_gpu() else time.process_time


def _on_gpu() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.gpu)


def _single_rows(network: Network, caches: list[RaggedCache], rows: list[int]) -> tuple[mx.array, float]:
    """Return the scores (rows, vocabulary) of tokens in passes of their own, and the seconds of the fastest."""
    clock = _clock()
    found: list[mx.array] = []
    fastest = float("inf")
    for row in rows:
        started = clock()
        scores = pass_scores(network, mx.array([[row]]), caches)
        mx.eval(scores)
        fastest = min(fastest, clock() - started)
        found.append(scores[0].astype(mx.float32))
        for cache in caches:
            cache.keep([1])
    for cache in caches:
        cache.keep([-len(found)])
    return mx.concatenate(found), fastest


def _fastest(run: Callable[[], mx.array]) -> tuple[mx.array, float]:
    """Return a result as float32, and the seconds of the fastest of a few runs."""
    clock, fewest = _clock(), REPEATS if _on_gpu() else 1  # the first pass of a shape compiles its kernels
    fastest, began = float("inf"), clock()
    for count in range(1, REPEATS + 1):
        started = clock()
        scores = run()
        mx.eval(scores)
        fastest = min(fastest, clock() - started)
        if count >= fewest and clock() - began > BUDGET_S:
            break
    return scores.astype(mx.float32), fastest
