"""What the decoder is asked: token ids around the page's placeholders, in the form that dots.ocr is served with.

The form is ``<|user|><|img|><|imgpad|>xN<|endofimg|>PROMPT<|endofuser|><|assistant|>``. It is put together from ids, so
that a prompt which happens to hold such a mark stays plain text.
"""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.checkpoint import read_json
from dotsctl.protocol.errors import ErrorCode, MissingError, PageError, UsageError
from tokenizers import Tokenizer

OWN_PROMPTS = {
    "layout": (
        "Find all elements of this page in reading order. Answer with one JSON list; each entry has bbox as "
        "[x1, y1, x2, y2] in pixels, category, and text. Categories: Caption, Footnote, Formula, List-item, "
        "Page-footer, Page-header, Picture, Section-header, Table, Text, Title. Write formulas as LaTeX, tables as "
        "HTML, everything else as Markdown, and leave out the text of pictures. Keep the language and the wording "
        "of the page."
    ),
    "layout-only": (
        "Find all elements of this page in reading order. Answer with one JSON list; each entry has bbox as "
        "[x1, y1, x2, y2] in pixels and category, without the text."
    ),
    "text": "Write down the text of this image.",
}
"""By task, for models that bring no prompts.json."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as ids."""

    ids: list[int]
    """With one placeholder for each embedding."""
    placeholder: int


class PromptBuilder:
    """Makes prompts for one model."""

    def __init__(self, tokenizer: Tokenizer, prompts: dict[str, str], image_token_id: int | None) -> None:
        """Look the marks up.

        Args:
            tokenizer: of the model.
            prompts: text by task.
            image_token_id: the placeholder that config.json names, or none.

        Raises:
            MissingError: the tokenizer lacks a mark, or has another placeholder than the configuration.
        """
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._before = [_id_of(tokenizer, "<|user|>"), _id_of(tokenizer, "<|img|>")]
        self._placeholder = _id_of(tokenizer, "<|imgpad|>")
        self._between = _id_of(tokenizer, "<|endofimg|>")
        self._after = [_id_of(tokenizer, "<|endofuser|>"), _id_of(tokenizer, "<|assistant|>")]
        if image_token_id not in (None, self._placeholder):
            raise MissingError(
                f"config.json gives the placeholder the id {image_token_id}, tokenizer.json {self._placeholder}: "
                "the files are of different models, download the model again"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a prompt; the default one first: ``layout`` where there is one, else ``text``."""
        first = [task for task in ("layout", "text") if task in self._prompts]
        return (*first, *sorted(self._prompts.keys() - set(first)))

    def build(self, task: str, prompt: str | None, num_embeddings: int) -> Prompt:
        """Prompt for one page.

        Args:
            task: whose text is used.
            prompt: text to use in its place, or none.
            num_embeddings: placeholders to leave.

        Raises:
            PageError: E_UNKNOWN_TASK.
        """
        if prompt is None and task not in self._prompts:
            raise PageError(
                f"the model has no task {task!r}; it has {', '.join(self.tasks)}. Choose one, or give a prompt",
                ErrorCode.UNKNOWN_TASK,
            )
        text = self._prompts[task] if prompt is None else prompt
        asked = plain_ids(self._tokenizer, text)
        ids = [*self._before, *[self._placeholder] * num_embeddings, self._between, *asked, *self._after]
        return Prompt(ids, self._placeholder)


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which marks such as ``<|user|>`` are ordinary characters."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    finally:
        tokenizer.encode_special_tokens = before


def read_prompts(model: Path) -> dict[str, str]:
    """Text by task: the model's prompts.json where it has one, else our own wording.

    Raises:
        UsageError: the file holds something else than texts.
    """
    if not (model / "prompts.json").is_file():
        return dict(OWN_PROMPTS)
    prompts = read_json(model, "prompts.json")
    if not prompts or not all(isinstance(text, str) for text in prompts.values()):
        raise UsageError(f"{model / 'prompts.json'} must hold an object of task names and texts, at least one")
    return prompts


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise MissingError(f"tokenizer.json has no token {token}: this is no dots.ocr model")
    return int(found)
