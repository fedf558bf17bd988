"""The tasks, their prompts, and the kinds of their answers. The one declaration of them.

dots.ocr was trained on fixed prompts, one for each task. A checkpoint has them in ``prompts.json`` (``dotsctl pull``
fills it from the model card); for a task without one, the prompt of its :class:`Task` is used.
"""

from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.typed_values import brief

PROMPTS = "prompts.json"
DOTS_OCR, DOTS_MOCR = "dots.ocr", "dots.mocr"
"""The model families."""


class AnswerKind(StrEnum):
    """The format of the answer to a task."""

    CELLS = auto()
    """A JSON list of cells with boxes."""
    LINES = auto()
    """A line for each text, with four corners."""
    MARKDOWN = auto()
    """The text of the page."""
    CODE = auto()
    """Code, perhaps in a Markdown fence."""
    OTHER = auto()
    """Anything else, returned as it is."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task."""

    name: str
    answer: AnswerKind
    prompt: str
    """The prompt where the model has none; ``{box}``, ``{width}`` and ``{height}`` are filled in."""
    families: tuple[str, ...] = (DOTS_OCR, DOTS_MOCR)
    """The models that were trained on it."""
    card_name: str = ""
    """The name in model cards (official ``utils/prompts.py``)."""
    needs_box: bool = False
    """Whether it reads one box of a page."""
    system: str = ""
    """System turn before the prompt; empty: the model was trained without one."""


_ELEMENTS = (
    "Caption, Footnote, Formula, List-item, Page-footer, Page-header, Picture, Section-header, Table, Text, Title"
)
LAYOUT = Task(
    "layout",
    AnswerKind.CELLS,
    "Find all elements of this page in reading order. Answer with one JSON list; each entry has bbox as "
    f"[x1, y1, x2, y2] in pixels, category, and text. Categories: {_ELEMENTS}. Write formulas as LaTeX, tables as "
    "HTML, everything else as Markdown, and leave out the text of pictures. Keep the language and the wording "
    "of the page.",
    card_name="prompt_layout_all_en",
)
TEXT = Task("text", AnswerKind.MARKDOWN, "Write down the text of this image.", card_name="prompt_ocr")
LAYOUT_ONLY = Task(
    "layout-only",
    AnswerKind.CELLS,
    "Find all elements of this page in reading order. Answer with one JSON list; each entry has bbox as "
    "[x1, y1, x2, y2] in pixels and category, without the text.",
    card_name="prompt_layout_only_en",
)
GROUND = Task(
    "ground",
    AnswerKind.OTHER,
    "Write down the text inside this box of the image: {box}",
    card_name="prompt_grounding_ocr",
    needs_box=True,
)
WEB = Task(
    "web",
    AnswerKind.CELLS,
    "This is a picture of a web page. Find its elements in reading order. Answer with one JSON list; each has "
    "bbox as [x1, y1, x2, y2] in pixels, category, and text.",
    families=(DOTS_MOCR,),
    card_name="prompt_web_parsing",
)
SCENE = Task(
    "scene",
    AnswerKind.LINES,
    "Find every piece of text in this picture. Answer with one line for each: its four corners in pixels as "
    "(x1,y1),(x2,y2),(x3,y3),(x4,y4), a space, and the text.",
    families=(DOTS_MOCR,),
    card_name="prompt_scene_spotting",
)
SVG = Task(
    "svg",
    AnswerKind.CODE,
    'Draw this image as SVG code with viewBox="0 0 {width} {height}". Answer with nothing but the code.',
    families=(DOTS_MOCR,),
    card_name="prompt_image_to_svg",
)
ASK = Task(
    "ask",
    AnswerKind.OTHER,
    "Describe this image.",
    families=(DOTS_MOCR,),
    card_name="prompt_general",
    system="You answer questions about images, truthfully and briefly.",
)
TASKS = {task.name: task for task in (LAYOUT, TEXT, LAYOUT_ONLY, GROUND, WEB, SCENE, SVG, ASK)}
"""All tasks by name; the first one that a model supports is its default."""


def answer_kind(task: str) -> AnswerKind:
    """Return the format of the answer; tasks of a model's own whose name begins with ``layout`` answer with cells."""
    if task in TASKS:
        return TASKS[task].answer
    return LAYOUT.answer if task.startswith(LAYOUT.name) else AnswerKind.OTHER


def tasks_of(model: Path) -> tuple[str, ...]:
    """Return the tasks of a model without ``prompts.json``, by its family.

    dots.mocr has the same config.json as dots.ocr; only its ``preprocessor_config.json`` names an own processor class.

    Raises:
        MissingError: that file cannot be read.
    """
    from dotsctl.protocol.model.checkpoint import read_json  # not for the command line, which names tasks alone

    family = DOTS_MOCR if "auto_map" in read_json(model, "preprocessor_config.json") else DOTS_OCR
    return tuple(task.name for task in TASKS.values() if family in task.families)


def read_own_prompts(model: Path) -> dict[str, str | None]:
    """The model's own prompts by task, none where it uses dotsctl's.

    These are exactly the tasks of ``prompts.json`` where there is one, in which ``null`` stands for dotsctl's prompt.

    Raises:
        UsageError: prompts.json holds something else than texts and null, or nothing.
        MissingError: a file of the model cannot be read.
    """
    if not (model / PROMPTS).is_file():
        return dict.fromkeys(tasks_of(model))
    from dotsctl.protocol.model.checkpoint import read_json

    prompts = read_json(model, PROMPTS)
    for task, text in prompts.items():
        if not (_is_text(text) or (text is None and task in TASKS)):
            raise UsageError(
                f"{model / PROMPTS}: {brief(task)} is {brief(text)}",
                f"write the prompt as a text, or null for dotsctl's prompt of {', '.join(TASKS)}",
            )
    if not prompts:
        raise UsageError(f"{model / PROMPTS} names no task", "write at least one, or delete the file")
    return prompts


def _is_text(value: object) -> bool:
    """Return whether it is text that can be sent: a JSON escape can make halves of characters."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
