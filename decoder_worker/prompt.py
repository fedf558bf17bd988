"""The prompt of the decoder: token ids around the page's placeholders, in the form that dots.ocr is served with.

The form is ``<|user|><|img|><|imgpad|>xN<|endofimg|>PROMPT<|endofuser|><|assistant|>``, with ``<|img|>`` to
``<|endofimg|>`` for each image, and before it all ``<|system|>TEXT<|endofsystem|>`` and a new line where a task has a
system text. It is put together from ids, so that a prompt which happens to hold such a mark stays plain text; the two
marks of a system text are plain text anyway, the tokenizer does not know them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.decoder_worker.tasks import fill
from dotsctl.protocol.errors import ErrorCode, MissingError, PageError
from dotsctl.protocol.geometry import Box, PageGeometry
from dotsctl.protocol.model.tasks import LAYOUT, TASKS, TEXT
from tokenizers import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt as ids."""

    ids: list[int]
    """Token ids, with one placeholder for each embedding."""
    placeholder: int


class PromptBuilder:
    """Makes prompts for one model."""

    def __init__(self, tokenizer: Tokenizer, prompts: dict[str, str], image_token_id: int | None) -> None:
        """Find the ids of the marks.

        Args:
            tokenizer: of the model.
            prompts: text by task.
            image_token_id: the placeholder that config.json names, or none.

        Raises:
            MissingError: the tokenizer lacks a mark, or has another placeholder than the configuration.
        """
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._user = _id_of(tokenizer, "<|user|>")
        self._image = _id_of(tokenizer, "<|img|>")
        self._placeholder = _id_of(tokenizer, "<|imgpad|>")
        self._end_of_image = _id_of(tokenizer, "<|endofimg|>")
        self._after = [_id_of(tokenizer, "<|endofuser|>"), _id_of(tokenizer, "<|assistant|>")]
        if image_token_id not in (None, self._placeholder):
            raise MissingError(
                f"config.json gives the placeholder the id {image_token_id}, tokenizer.json {self._placeholder}: "
                "the files are of different models",
                "download the model again",
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a prompt; the default one first: ``layout`` where there is one, else ``text``."""
        first = [task for task in (LAYOUT.name, TEXT.name) if task in self._prompts]
        return (*first, *sorted(self._prompts.keys() - set(first)))

    def build(
        self,
        task: str,
        prompt: str | None,
        num_embeddings: Sequence[int],
        geometry: PageGeometry | None = None,
        box: Box | None = None,
    ) -> Prompt:
        """Return the prompt for one page, or for several images.

        Args:
            task: whose text is used.
            prompt: text to use in its place, or none.
            num_embeddings: placeholders to leave for each image.
            geometry: of the first image.
            box: part of the page that is requested, in pixels of the page as viewers show it.

        Raises:
            PageError: E_UNKNOWN_TASK, or the box does not fit the page or the task.
        """
        if prompt is None and task not in self._prompts:
            raise PageError(
                f"the model has no task {task!r}; it has {', '.join(self.tasks)}",
                "choose one, or give a prompt",
                code=ErrorCode.UNKNOWN_TASK,
            )
        ids = [*self._system_ids(task), self._user]
        for count in num_embeddings:
            ids += [self._image, *[self._placeholder] * count, self._end_of_image]
        template = self._prompts[task] if prompt is None else prompt
        # A question may hold braces of its own, so they mean something only where the user has given a box.
        text = fill(template, geometry, box) if prompt is None or box is not None else prompt
        return Prompt([*ids, *plain_ids(self._tokenizer, text), *self._after], self._placeholder)

    def _system_ids(self, task: str) -> list[int]:
        if task not in TASKS or not TASKS[task].system:
            return []
        return plain_ids(self._tokenizer, f"<|system|>{TASKS[task].system}<|endofsystem|>\n")


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which marks such as ``<|user|>`` are ordinary characters."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    finally:
        tokenizer.encode_special_tokens = before


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise MissingError(f"tokenizer.json has no token {token}: this is not a dots.ocr model")
    return int(found)
