"""Names of what can be asked of a page, and which of it a model has learnt."""

from pathlib import Path

from dotsctl.protocol.checkpoint import read_json
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.typed_values import brief

DOCUMENT_TASKS = ("layout", "text", "layout-only", "ground")
"""What every dots.ocr checkpoint was trained on, the default one first."""
SCENE_TASKS = ("web", "scene", "svg", "ask")
"""What dots.mocr was trained on besides."""
PROMPTS = "prompts.json"


def tasks_of(model: Path) -> tuple[str, ...]:
    """Tasks of a model that brings no ``prompts.json``, by its kind.

    dots.mocr has the same config.json as dots.ocr; only its ``preprocessor_config.json`` names an own processor class.

    Raises:
        MissingError: that file cannot be read.
    """
    knows_all = "auto_map" in read_json(model, "preprocessor_config.json")
    return DOCUMENT_TASKS + SCENE_TASKS if knows_all else DOCUMENT_TASKS


def read_wording(model: Path) -> dict[str, str | None]:
    """The model's own wording by task, none where it leaves the words to us.

    These are exactly the tasks of ``prompts.json`` where there is one, in which ``null`` stands for our words.

    Raises:
        UsageError: prompts.json holds something else than texts and null, or nothing.
        MissingError: a file of the model cannot be read.
    """
    if not (model / PROMPTS).is_file():
        return dict.fromkeys(tasks_of(model))
    wording = read_json(model, PROMPTS)
    for task, text in wording.items():
        if not (_is_text(text) or (text is None and task in DOCUMENT_TASKS + SCENE_TASKS)):
            raise UsageError(
                f"{model / PROMPTS}: {brief(task)} is {brief(text)}; write the prompt as a text, or null for our "
                f"wording of {', '.join(DOCUMENT_TASKS + SCENE_TASKS)}"
            )
    if not wording:
        raise UsageError(f"{model / PROMPTS} names no task: write at least one, or delete the file")
    return wording


def _is_text(value: object) -> bool:
    """Whether it is text that can be sent: a JSON escape can make halves of characters."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
