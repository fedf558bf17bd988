"""What a caller asks of a page, checked against what the model knows."""

from collections.abc import Sequence

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import Box
from dotsctl.protocol.parts import PageOptions, Quality


def page_options(
    model_name: str,
    tasks: Sequence[str],
    task: str | None,
    prompt: str | None,
    max_tokens: int | None,
    max_pixels: int | None,
    hint: str,
    box: Box | None,
    check_blank: bool,
    quality: str | None,
) -> PageOptions:
    """Complete what the caller chose; see :meth:`dotsctl.client.api.Client.ocr`. Raises UsageError.

    Args:
        model_name: of the model that the runtime holds.
        tasks: what it knows; the first one is the default.
        task: none: ``ground`` where there is a box and no prompt, else the default.
        prompt: replaces that of the task.
        max_tokens: most tokens of an answer.
        max_pixels: most pixels of a resized page.
        hint: text that the page probably holds.
        box: the part of the page that is read, x0, y0, x1, y1 in pixels of the page as viewers show it.
        check_blank: whether pages with nothing on them are told without asking the model.
        quality: ``full``, ``balanced`` or ``fast``; none: ``full``, until it is chosen for each page.
    """
    task = task or ("ground" if box is not None and prompt is None else tasks[0])
    if task not in tasks:
        raise UsageError(f"unknown task {task!r}; the model {model_name!r} knows: {', '.join(tasks)}")
    if box is not None and prompt is None and task != "ground":
        raise UsageError(f"the task {task!r} reads whole pages: leave --box out, or take the task 'ground'")
    if quality is not None and quality not in list(Quality):
        raise UsageError(f"unknown quality {quality!r}: choose one of {', '.join(Quality)}")
    chosen = Quality(quality or Quality.FULL)
    try:
        return PageOptions(task, prompt, max_tokens, max_pixels, hint, box, check_blank, chosen)
    except ValueError as error:
        raise UsageError(str(error)) from None
