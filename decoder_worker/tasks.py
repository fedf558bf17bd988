"""What can be asked of a page: the tasks, their wording, and what is filled into it. Pure.

dots.ocr was trained on fixed prompts, one for each task. A checkpoint brings them in ``prompts.json`` (``dotsctl pull``
fills it from the model card); for what it does not bring we ask in our own words.
"""

from pathlib import Path

from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import Box, PageGeometry
from dotsctl.protocol.tasks import read_wording

_ELEMENTS = (
    "Caption, Footnote, Formula, List-item, Page-footer, Page-header, Picture, Section-header, Table, Text, Title"
)
OWN_PROMPTS = {
    "layout": (
        "Find all elements of this page in reading order. Answer with one JSON list; each entry has bbox as "
        f"[x1, y1, x2, y2] in pixels, category, and text. Categories: {_ELEMENTS}. Write formulas as LaTeX, tables as "
        "HTML, everything else as Markdown, and leave out the text of pictures. Keep the language and the wording "
        "of the page."
    ),
    "layout-only": (
        "Find all elements of this page in reading order. Answer with one JSON list; each entry has bbox as "
        "[x1, y1, x2, y2] in pixels and category, without the text."
    ),
    "text": "Write down the text of this image.",
    "ground": "Write down the text inside this box of the image: {box}",
    "web": (
        "This is a picture of a web page. Find its elements in reading order. Answer with one JSON list; each has "
        "bbox as [x1, y1, x2, y2] in pixels, category, and text."
    ),
    "scene": (
        "Find every piece of text in this picture. Answer with one line for each: its four corners in pixels as "
        "(x1,y1),(x2,y2),(x3,y3),(x4,y4), a space, and the text."
    ),
    "svg": (
        'Draw this image as SVG code with viewBox="0 0 {width} {height}". Answer with nothing but the code.'
    ),
    "ask": "Describe this image.",
}  # fmt: skip
"""By task."""
SYSTEM_TEXTS = {"ask": "You answer questions about images, truthfully and briefly."}
"""What stands before the question, in the one task for which the model was trained with a system turn."""


def read_prompts(model: Path) -> dict[str, str]:
    """Prompt by task: the model's own, and ours where it brings none.

    Raises:
        UsageError: the model's ``prompts.json`` is wrong.
        MissingError: a file of the model cannot be read.
    """
    return {task: OWN_PROMPTS[task] if text is None else text for task, text in read_wording(model).items()}


def fill(template: str, geometry: PageGeometry | None, box: Box | None) -> str:
    """A prompt with the page's own numbers: ``{width}`` and ``{height}`` of the image, ``{box}`` in its pixels.

    Args:
        template: wording of the task.
        geometry: how the page was resized; the model counts in resized pixels.
        box: x0, y0, x1, y1 in pixels of the page as viewers show it.

    Raises:
        PageError: the task needs a box and there is none, or the box lies outside of the page.
    """
    if not any(mark in template for mark in ("{box}", "{width}", "{height}")):
        return template
    if geometry is None:
        raise PageError("this task needs the size of the page, and the encoder gave none", ErrorCode.BAD_EMBED)
    width, height = geometry.resized
    text = template.replace("{width}", str(width)).replace("{height}", str(height))
    if "{box}" not in text:
        return text
    if box is None:
        raise PageError("this task reads one box of the page: give it with --box x0,y0,x1,y1", ErrorCode.UNKNOWN_TASK)
    page_width, page_height = geometry.oriented
    if box[0] >= page_width or box[1] >= page_height:
        raise PageError(
            f"the box {_numbers(box)} lies outside of the page of {page_width}x{page_height} px: give it in pixels of "
            "the page as viewers show it"
        )
    inside = (box[0], box[1], min(box[2], page_width), min(box[3], page_height))
    return text.replace("{box}", f"[{_numbers(geometry.box_from_oriented(inside))}]")


def _numbers(box: Box) -> str:
    return ", ".join(str(round(side)) for side in box)
