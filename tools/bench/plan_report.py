"""The report of ``dotsctl bench plan``: the setting that reads pages fastest, and what others would cost."""

import json
from collections.abc import Sequence
from pathlib import Path

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.files import read_file
from dotsctl.protocol.typed_values import WrongValueError, from_plain
from dotsctl.tools.bench.plan import Costs, PlannedPipeline, patches_of, play, settings
from dotsctl.tools.measuring.report_text import LegendEntry

HEAD = "encoder    quality   patches  batch  drafts  s a page  pages/h  first page s  busy enc/dec"
LEGEND = (
    LegendEntry("patches", "size of the page at this quality, 14x14 pixels each"),
    LegendEntry("batch", "pages that are decoded together"),
    LegendEntry("drafts", "tokens that are drafted for each page and pass"),
    LegendEntry("first page s", "time until the first page is read"),
    LegendEntry("busy enc/dec", "shares of the time in which encoder and decoder work"),
)


def read_costs(path: Path) -> Costs:
    """Read a file of costs.

    Raises:
        UsageError: there is none, or it describes something else.
    """
    try:
        return from_plain(Costs, json.loads(read_file(path)))
    except (OSError, ValueError, WrongValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"{path} has no costs ({reason})", "write it as 'Plan' in tools/README.md shows") from None


def best_first(costs: Costs, size: tuple[int, int], pages: int) -> list[PlannedPipeline]:
    """Play every setting; the fastest first. Raises PageError."""
    return sorted((play(costs, each, size, pages) for each in settings(costs)), key=lambda outcome: outcome.page_s)


def verdict(outcomes: Sequence[PlannedPipeline]) -> str:
    """Return the winner at full quality and the winner of all, in one or two sentences."""
    best = outcomes[0]
    full = next(outcome for outcome in outcomes if outcome.setting.quality == "full")
    if best is full:
        return f"Fastest: {_named(best)}."
    return f"Fastest: {_named(best)}. At full quality: {_named(full)}."


def table(outcomes: Sequence[PlannedPipeline], size: tuple[int, int]) -> str:
    """Return the best outcome of each encoder and quality, with its batch and its drafts, as a table."""
    best: dict[tuple[str, str], PlannedPipeline] = {}
    for outcome in outcomes:
        best.setdefault((outcome.setting.encoder, outcome.setting.quality), outcome)
    return "\n".join([HEAD, *(_row(outcome, size) for outcome in best.values())])


def _named(outcome: PlannedPipeline) -> str:
    chosen = outcome.setting
    drafts = f", {chosen.depth} drafted tokens" if chosen.depth else ""
    return (
        f"encoder {chosen.encoder}, {chosen.quality}, {chosen.batch} pages at once{drafts}: "
        f"{outcome.page_s:.1f} s a page"
    )


def _row(outcome: PlannedPipeline, size: tuple[int, int]) -> str:
    chosen, (encoder, decoder) = outcome.setting, outcome.busy
    return (
        f"{chosen.encoder:<10} {chosen.quality:<9} {patches_of(size, chosen.quality):7,}  {chosen.batch:5}  "
        f"{chosen.depth:6}  {outcome.page_s:8.1f}  {3600 / outcome.page_s:7.0f}  {outcome.first_s:12.1f}  "
        f"{encoder:8.2f}/{decoder:.2f}"
    )
