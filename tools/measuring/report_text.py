"""The form of every report on a terminal: the verdict, its origin, the table and a legend. Pure."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from dotsctl.tools.measuring.made_by import MadeBy


class LegendEntry(NamedTuple):
    """One line of a legend."""

    term: str
    meaning: str
    mark: str = ""
    """The look of the term in HTML: ``del``, ``ins``, ``true``, ``answered``; empty: plain."""

    def html(self) -> str:
        """Return the line as a term and its meaning."""
        tag = self.mark if self.mark in ("del", "ins") else "span"
        named = f' class="{self.mark}"' if self.mark and tag == "span" else ""
        return f"<dt><{tag}{named}>{escape(self.term)}</{tag}></dt><dd>{escape(self.meaning)}</dd>\n"


def text_report(
    verdict: str, made_by: MadeBy, table: str = "", legend: Sequence[LegendEntry] = (), *, uses_coreml: bool = False
) -> str:
    """Return a report as text, without a line end.

    Args:
        verdict: the sentence that answers the question of the report.
        made_by: machine, versions and date.
        table: the table as text; empty: the verdict has all numbers.
        legend: the meaning of its columns.
        uses_coreml: whether the version of coremltools belongs to the measurement.
    """
    lines = [f"{entry.term}: {entry.meaning}" for entry in legend]
    head = f"{verdict}\n{made_by.text(uses_coreml=uses_coreml)}"
    return "\n\n".join(filter(None, [head, table, "\n".join(lines)]))
