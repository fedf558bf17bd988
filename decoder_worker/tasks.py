"""The prompts of a model, and what is filled into them. Pure."""

from pathlib import Path

from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import Box, PageGeometry
from dotsctl.protocol.model.tasks import TASKS, read_own_prompts


def read_prompts(model: Path) -> dict[str, str]:
    """Return the prompts by task: the model's own, and ours where it has none.

    Raises:
        UsageError: the model's ``prompts.json`` is wrong.
        MissingError: a file of the model cannot be read.
    """
    return {task: TASKS[task].prompt if text is None else text for task, text in read_own_prompts(model).items()}


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
        raise PageError("this task needs the size of the page, and the encoder gave none", code=ErrorCode.BAD_EMBED)
    width, height = geometry.resized
    text = template.replace("{width}", str(width)).replace("{height}", str(height))
    if "{box}" not in text:
        return text
    if box is None:
        raise PageError(
            "this task reads one box of the page", "give it with --box x0,y0,x1,y1", code=ErrorCode.UNKNOWN_TASK
        )
    page_width, page_height = geometry.oriented
    if box[0] >= page_width or box[1] >= page_height:
        raise PageError(
            f"the box {_numbers(box)} lies outside of the page of {page_width}x{page_height} px",
            "give it in pixels of the page as viewers show it",
        )
    inside = (box[0], box[1], min(box[2], page_width), min(box[3], page_height))
    return text.replace("{box}", f"[{_numbers(geometry.box_from_oriented(inside))}]")


def _numbers(box: Box) -> str:
    return ", ".join(str(round(side)) for side in box)
