"""The sentence that answers ``dotsctl compare``, and the order of the pages in its report. Pure."""

import math
from collections.abc import Sequence

from dotsctl.tools.compare.comparison import EncoderComparison, Medians, PageRow, shown_ms, shown_rate

EQUAL = 0.05
"""Medians that differ by less than this share count as equally fast."""


def verdict(comparison: EncoderComparison) -> str:
    """Return which encoder is faster and how far the texts differ: a sentence for each one but the reference."""
    if not comparison.rows:
        return "There is no page to compare."
    *others, reference = comparison.medians()
    return " ".join(_sentence(comparison, place, other, reference) for place, other in enumerate(others))


def _sentence(comparison: EncoderComparison, place: int, other: Medians, reference: Medians) -> str:
    found = [row.error_rate(row.versions[place]) for row in comparison.rows]
    rates = [rate for rate in found if rate is not None]
    failed = [f"{each.encoder} {each.failed}" for each in (other, reference) if each.failed]
    failures = [f"failed pages (of {len(found)}): {', '.join(failed)}"] if failed else []
    parts = [_speed(other, reference), *([_texts(rates)] if rates else []), *failures]
    return "; ".join(parts) + "."


def _speed(other: Medians, reference: Medians) -> str:
    if not other.ms or not reference.ms:
        return f"{other.encoder} cannot be compared with {reference.encoder} in speed"
    times = f"({shown_ms(other.ms)} ms against {shown_ms(reference.ms)} ms a page)"
    ratio = reference.ms / other.ms
    if abs(1 - ratio) <= EQUAL:
        return f"{other.encoder} is as fast as {reference.encoder} {times}"
    how = f"{ratio:.2f} times as fast as" if ratio > 1 else f"{1 / ratio:.2f} times as slow as"
    return f"{other.encoder} is {how} {reference.encoder} {times}"


def _texts(rates: Sequence[float]) -> str:
    same, worst = sum(rate == 0 for rate in rates), max(rates)
    if same == len(rates):
        return f"the text is the same on {'the page' if same == 1 else f'all {same} pages'}"
    most = "all text" if math.isinf(worst) else f"{shown_rate(worst)} of the characters"
    return f"the text is the same on {same} of {len(rates)} pages and differs by up to {most}"


def worst_first(rows: Sequence[PageRow]) -> list[int]:
    """Return the places of the pages: failures, then by the error rate of the text, then by the distance."""
    return sorted(range(len(rows)), key=lambda place: _badness(rows[place]), reverse=True)


def _badness(row: PageRow) -> tuple[int, float, float]:
    rates = [row.error_rate(version) for version in row.versions[:-1]]
    cosines = [version.distance.cosine_min for version in row.versions if version.distance]
    failed = sum(version.page.error is not None for version in row.versions)
    return failed, max((rate for rate in rates if rate is not None), default=0.0), 1 - min(cosines, default=1.0)
