"""The HTML frame of every report: verdict, origin and legend in front of the tables and pages. Pure.

The document is begun by ``client/formats/html_view.py``: nothing is fetched, and every text is escaped. The styles here
keep each element within the window, from 360 px on: in a narrow one the rows of tables become lists, long words wrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from dotsctl.client.formats import html_view
from dotsctl.client.formats.pictures import inline
from dotsctl.encoder_worker.plugins import COREML
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.report_text import LegendEntry

STYLE = """
body { max-width: 1100px; margin: 0 auto; overflow-wrap: anywhere }
h1 { font-size: 1.3rem }
h3 { font-size: .9rem; margin: 1rem 0 .3rem }
img { max-width: 100%; height: auto }
pre, .words { white-space: pre-wrap; background: #fff; padding: .2rem .6rem; margin: 0 }
body > .verdict { font-size: 1.15rem; margin: .8rem 1rem; padding: .5rem .8rem; border-left: 5px solid #2a6db0;
  background: #fff }
.facts { display: grid; grid-template-columns: minmax(4rem, max-content) minmax(0, 1fr); gap: .1rem 1rem;
  margin: 0 1rem 1rem }
.facts dt { color: #666 }
.facts dd { margin: 0 }
.scroll { overflow-x: auto; max-width: 100%; margin-bottom: 1rem; background: #fff; overflow-wrap: normal }
body > p { margin: .3rem 1rem }
body > .scroll, body > .plot { margin: 0 1rem 1rem; max-width: calc(100% - 2rem) }
td.number { white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums }
td { min-width: 9rem }
td:last-child { min-width: 15rem }
td.number { min-width: 0 }
@media (max-width: 640px) {
  table, tbody, tr, td { display: block }
  tr:first-child { display: none }
  tr { padding: .4rem .6rem; border-bottom: 1px solid #ccc }
  td, td:last-child { display: flex; justify-content: space-between; gap: 1rem; min-width: 0; border: 0;
    padding: .1rem 0; overflow-wrap: anywhere }
  td::before { content: attr(data-heading); color: #666; flex: none }
}
ins { background: #cdf5cd; text-decoration: none }
del { background: #fbd0d0 }
.true, .answered { border: 2px solid #009600; padding: 0 .2rem }
.answered { border-color: #dc0000 }
"""
END = html_view.END


@dataclass(frozen=True)
class ReportHead:
    """The part of a report in front of its first table."""

    title: str
    verdict: str
    """One sentence that answers the question of the report."""
    subject: Mapping[str, str]
    """The subject of the measurement: model, encoders, task."""
    made_by: MadeBy
    legend: Sequence[LegendEntry] = field(default_factory=tuple)

    @property
    def uses_coreml(self) -> bool:
        """Return whether an encoder of the report runs Core ML."""
        return any(COREML in value for value in self.subject.values())

    def html(self) -> str:
        """Return the beginning of the document: title, verdict, origin and legend."""
        facts = {**self.subject, **self.made_by.facts(uses_coreml=self.uses_coreml)}
        listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts.items())
        legend = "".join(entry.html() for entry in self.legend)
        return (
            html_view.start([self.title], STYLE)
            + f'<p class="verdict">{escape(self.verdict)}</p>\n'
            + f'<h2>Made by</h2>\n<dl class="facts" id="made-by">\n{listed}</dl>\n'
            + (f'<h2>Legend</h2>\n<dl class="facts" id="legend">\n{legend}</dl>\n' if legend else "")
        )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], label: str, *, texts: Sequence[int] = (0,)) -> str:
    """Return a table; in a narrow window each row is a list of headings and values.

    Args:
        columns: the headings.
        rows: the cells as text.
        label: a name for screen readers.
        texts: columns that hold text and not numbers.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(_cell(columns[place], text, is_number=place not in texts) for place, text in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    box = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
    return f"{box}<table>\n<tr>{head}</tr>\n{body}</table></div>\n"


def plot(content: bytes, about: str) -> str:
    """Return a PNG as an element that is never wider than the window."""
    return f'<div class="plot"><img alt="{escape(about)}" src="{inline(content, "png")}"></div>\n'


def _cell(heading: str, text: str, *, is_number: bool) -> str:
    kind = " class=number" if is_number else ""
    return f'<td data-heading="{escape(heading)}"{kind}>{escape(text)}</td>'
