"""Writes an evaluation as JSON and as an HTML page with the worst pages: picture, boxes, truth and answer."""

import base64
import difflib
import html
import io
from pathlib import Path
from typing import Any

from dotsctl.tools.dev.evaluate.evaluation import EvaluatedPage, Evaluation, table
from dotsctl.tools.measuring.plots import write_result
from dotsctl.tools.measuring.scores import normal
from PIL import Image, ImageDraw

WORST = 12
"""Pages that are shown."""
WIDEST_PX = 560
TRUE_COLOUR, ANSWERED_COLOUR = (0, 150, 0), (220, 0, 0)
STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; }
article { display: flex; flex-wrap: wrap; gap: 1.5em; border-top: 1px solid #999; padding: 1em 0; }
article > div { flex: 1 1 20em; min-width: 0; }
img { border: 1px solid #ccc; max-width: 100%; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
del { background: #fdd; } ins { background: #dfd; text-decoration: none; }
"""


def write_report(folder: Path, evaluation: Evaluation, found: dict[str, Any]) -> None:
    """Write ``evaluation.json`` and ``index.html`` into a folder, which is made where it is missing. Raises OSError."""
    write_result(folder / "evaluation.json", found)
    write_result(folder / "index.html", page(evaluation, found))


def worst(evaluation: Evaluation) -> list[EvaluatedPage]:
    """The pages with the most edits a character, those with a note first; perfect ones are left out."""
    bad = [reading for reading in evaluation.readings if reading.edits or reading.note]
    bad.sort(key=lambda one: (not one.note, -one.edits / max(1, len(normal(one.expected)))))
    return bad[:WORST]


def page(evaluation: Evaluation, found: dict[str, Any]) -> str:
    """The HTML page; it needs no other file."""
    facts = ", ".join(f"{key} {found[key]}" for key in ("model", "encoder", "decoder", "task") if key in found)
    shown = worst(evaluation)
    return (
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>Evaluation</title>"
        f"<style>{STYLE}</style>\n<h1>Evaluation</h1>\n<p>{html.escape(facts)}</p>\n"
        f"<pre>{html.escape(table(evaluation))}</pre>\n"
        f"<h2>The {len(shown)} worst pages</h2>\n"
        "<p>Green boxes are there, red ones were answered. Struck text was not read, underlaid text was made up.</p>\n"
        + "\n".join(map(_article, shown))
        + "\n</html>\n"
    )


def _article(reading: EvaluatedPage) -> str:
    truth = reading.truth
    note = f"; {reading.note}" if reading.note else ""
    title = f"{truth.name} ({truth.group}): {reading.edits} edits in {len(normal(reading.expected))} characters{note}"
    return (
        f"<article><div><h3>{html.escape(title)}</h3><img alt='' src='{_picture(reading)}'></div>"
        f"<div><h3>Differences</h3><p>{_differences(normal(reading.expected), reading)}</p>"
        f"<h3>Answer</h3><pre>{html.escape(reading.answer)}</pre></div></article>"
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
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


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
