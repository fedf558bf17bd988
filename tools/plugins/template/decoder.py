"""A decoder plugin for dotsctl. It runs as it is; replace the mean values with your model.

``dotsctl plugins check template --role decoder`` runs the contract's tests on it. The interface, with all types and
errors, is ``dotsctl.decoder_worker.plugin``.
"""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.decoder_worker.plugin import DecoderSpec, EncodedPrompt, Finish, Piece, Report
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.parts import Device, FinishReason
from dotsctl.protocol.worker.plugin_options import option
from dotsctl.protocol.worker.plugins import PluginDescription

TASKS = ("text",)


@dataclass(frozen=True)
class TemplateDecoderOptions:
    """Options of ``--decoder template:key=value,...``; ``dotsctl plugins`` lists them."""

    batch: int = option(4, "pages decoded at once", minimum=1)


@dataclass
class Running:
    """A page between ``admit`` and its last piece."""

    words: list[str]
    """The complete answer, one token each."""
    limit: int
    """Tokens after which the answer is cut."""
    prompt_tokens: int
    num_tokens: int = 0


class TemplateDecoder:
    """The mean of each embedding, as text: one token each."""

    description = PluginDescription(
        help="The mean of each embedding, as text.", options=TemplateDecoderOptions, tasks=lambda model: TASKS
    )

    def load(self, model: Path, options: TemplateDecoderOptions, report: Report) -> DecoderSpec:
        """Read what is needed of the model; call ``report`` at least once a minute meanwhile."""
        report("reading the configuration of the model")
        self._options, self._running = options, dict[int, Running]()
        width = int(read_json(model, "config.json")["hidden_size"])
        return DecoderSpec(fingerprint(model), width, options.batch, TASKS, Device.CPU)

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Return whether the page can be admitted now."""
        return len(self._running) < self._options.batch

    def admit(self, prompt: EncodedPrompt) -> None:
        """Take a page; copy what is needed of its embeddings (n, width), which may be freed when this returns."""
        if prompt.task not in TASKS:
            raise PageError(f"unknown task {prompt.task!r}; known: {', '.join(TASKS)}", code=ErrorCode.UNKNOWN_TASK)
        words = [f"{mean:.3g}" for mean in prompt.embeddings.mean(axis=1)]  # (n,)
        limit = min(len(words), prompt.max_tokens or len(words))
        self._running[prompt.page_id] = Running(words, limit, len(prompt.embeddings))

    def step(self) -> list[Piece]:
        """Decode one token of each running page."""
        return [self._next_piece(page_id) for page_id in list(self._running)]

    def _next_piece(self, page_id: int) -> Piece:
        page = self._running[page_id]
        text = (" " if page.num_tokens else "") + page.words[page.num_tokens]
        page.num_tokens += 1
        if page.num_tokens < page.limit:
            return Piece(page_id, text, num_tokens=1)
        del self._running[page_id]
        reason = FinishReason.STOP if page.limit == len(page.words) else FinishReason.LENGTH
        answer = " ".join(page.words[: page.limit])
        return Piece(page_id, text, 1, Finish(reason, answer, page.prompt_tokens, page.num_tokens))

    def cancel(self, page_id: int) -> None:
        """Forget a page; unknown ids are ignored."""
        self._running.pop(page_id, None)

    def close(self) -> None:
        """Free everything; called once, also after a failed ``load``."""
