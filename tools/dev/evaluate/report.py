"""Writes an evaluation as JSON and as an HTML page with the worst pages: picture, boxes, truth and answer.

The frame of the page is that of all reports, ``tools/measuring/report_page.py``.
"""

import difflib
import html
import io
from pathlib import Path
from typing import Any

from dotsctl.client.formats.pictures import inline
from dotsctl.tools.dev.evaluate.evaluation import EvaluatedPage, Evaluation
from dotsctl.tools.dev.evaluate.tables import BOX_COLUMNS, GROUP_COLUMNS, box_rows, group_rows, notes, verdict
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.plots import write_result
from dotsctl.tools.measuring.report_page import END, ReportHead, table
from dotsctl.tools.measuring.report_text import LegendEntry
from dotsctl.tools.measuring.scores import normal
from PIL import Image, ImageDraw

WORST = 12
"""Pages that are shown."""
WIDEST_PX = 560
TRUE_COLOUR, ANSWERED_COLOUR = (0, 150, 0), (220, 0, 0)
TITLE = "Evaluation"
SUBJECT = (
    "model",
    "fingerprint",
    "encoder",
    "decoder",
    "task",
    "set_by",
    "style",
    "fonts",
    "vocabularies",
    "seed",
    "max_pixels",
)
"""The facts of the record that the page shows, where they are known."""
LEGEND = (
    LegendEntry("characters", "characters on the pages; a run of blanks and line ends counts as one"),
    LegendEntry("edits", "characters inserted, deleted or replaced between the page and the answer"),
    LegendEntry("error rate", "edits divided by characters"),
    LegendEntry("exact, failed", "pages without an edit; pages that were not read"),
    LegendEntry("struck", "text of the page that is not in the answer", "del"),
    LegendEntry("shaded", "text of the answer that is not on the page", "ins"),
)
BOX_LEGEND = (
    LegendEntry("there, answered", "elements on the pages; elements in the answers"),
    LegendEntry("overlap", "mean overlap of the boxes: shared area divided by covered area"),
    LegendEntry("F1", "mean of precision and recall of the boxes that overlap by at least so much"),
    LegendEntry("green box", "an element of the page", "true"),
    LegendEntry("red box", "an element of the answer", "answered"),
)


def write_report(folder: Path, evaluation: Evaluation, found: dict[str, Any], made_by: MadeBy) -> None:
    """Write ``evaluation.json`` and ``index.html`` into a folder, which is made where it is missing. Raises OSError."""
    write_result(folder / "evaluation.json", found)
    write_result(folder / "index.html", page(evaluation, found, made_by))


def worst(evaluation: Evaluation) -> list[EvaluatedPage]:
    """The pages with the most edits a character, those with a note first; perfect ones are left out."""
    bad = [reading for reading in evaluation.readings if reading.edits or reading.note]
    bad.sort(key=lambda one: (not one.note, -one.edits / max(1, len(normal(one.expected)))))
    return bad[:WORST]


def page(evaluation: Evaluation, found: dict[str, Any], made_by: MadeBy) -> str:
    """Return the HTML page; it needs no other file."""
    boxes, shown = box_rows(evaluation), worst(evaluation)
    model = str(found.get("model", "the model"))
    head = ReportHead(
        TITLE, verdict(evaluation, model), _subject(found), made_by, [*LEGEND, *(BOX_LEGEND if boxes else ())]
    )
    return "".join(
        [
            head.html(),
            f"<h2>Text</h2>\n{table(GROUP_COLUMNS, group_rows(evaluation), 'Text')}",
            f"<h2>Boxes</h2>\n{table(BOX_COLUMNS, boxes, 'Boxes')}" if boxes else "",
            *(f"<p>{html.escape(line)}</p>\n" for line in notes(evaluation)),
            f"<h2>The pages with the most errors, worst first ({len(shown)})</h2>\n"
            if shown
            else "<p>No page has an error.</p>\n",
            *map(_section, shown),
            END,
        ]
    )


def _subject(found: dict[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return {name.replace("_", " "): text(found[name]) for name in SUBJECT if found.get(name) is not None}


def _section(reading: EvaluatedPage) -> str:
    truth = reading.truth
    note = f"; {reading.note}" if reading.note else ""
    edits = f"{reading.edits} edit{'s' * (reading.edits != 1)} in {len(normal(reading.expected))} characters"
    title = f"{truth.name} ({truth.group}): {edits}{note}"
    return (
        f"<h2>{html.escape(title)}</h2>\n<section>\n"
        f'<div class="page"><img alt="" src="{_picture(reading)}"></div>\n<div class="texts">\n'
        f'<h3>Differences</h3><div class="words">{_differences(normal(reading.expected), reading)}</div>\n'
        f"<h3>Answer</h3><pre>{html.escape(reading.answer)}</pre></div>\n</section>\n"
    )


def _picture(reading: EvaluatedPage) -> str:
    """The page with both kinds of boxes, as a data URL."""
    source = reading.truth.image
    if isinstance(source, Path):
        with Image.open(source) as opened:
            image = opened.convert("RGB")
    else:
        image = source.convert("RGB")
    draw = ImageDraw.Draw(image)
    boxes = [(element.box, TRUE_COLOUR) for element in reading.truth.elements or ()] if reading.cells else []
    for box, colour in [*boxes, *((box, ANSWERED_COLOUR) for _, box in reading.cells)]:
        x0, x1 = sorted((box[0], box[2]))
        y0, y1 = sorted((box[1], box[3]))
        draw.rectangle((x0, y0, x1, y1), outline=colour)
    image.thumbnail((WIDEST_PX, 3 * WIDEST_PX))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return inline(buffer.getvalue(), "png")


def _differences(expected: str, reading: EvaluatedPage) -> str:
    """Words of the truth and of the answer against each other."""
    true, answered = expected.split(), normal(reading.read).split()
    parts = []
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, true, answered, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(html.escape(" ".join(true[a0:a1])))
            continue
        parts += [f"<del>{html.escape(' '.join(true[a0:a1]))}</del>"] if a1 > a0 else []
        parts += [f"<ins>{html.escape(' '.join(answered[b0:b1]))}</ins>"] if b1 > b0 else []
    return " ".join(parts)
