"""The contract of a decoder as a list of steps, each of which calls a loaded plugin as the decoder worker does."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from dotsctl.decoder_worker.loading import close, load_decoder
from dotsctl.decoder_worker.plugin import Decoder, DecoderSpec, EncodedPrompt, Finish, Piece, PrefillingDecoder
from dotsctl.encoder_worker.plugins.fake import digest_rows
from dotsctl.protocol.geometry import CELL_PX, PixelLimits, fit
from dotsctl.protocol.parts import FinishReason
from dotsctl.tools.plugins.contract import (
    BrokenContractError,
    NotApplicableError,
    Note,
    Step,
    Subject,
    description_step,
    expect_page_error,
    options_step,
)
from numpy.typing import NDArray

GEOMETRY = fit((6 * CELL_PX, 4 * CELL_PX), 1, PixelLimits())
EMBEDDINGS = 24
"""One for each cell of the page."""
MAX_TOKENS = 24
MOST_STEPS = 2000
"""Steps after which pages of MAX_TOKENS tokens must be finished."""
UNKNOWN_TASK = "no-such-task"


class DecoderContract:
    """The steps for one decoder."""

    def __init__(self, subject: Subject, note: Note) -> None:
        self._subject, self._note = subject, note
        self._decoder: Decoder | None = None
        self._spec = DecoderSpec("", 0, 0, ())
        self._next_id = 1

    def steps(self) -> list[Step]:
        """Return the steps in their order."""
        return [
            Step("description", partial(description_step, self._subject), is_vital=True),
            Step("load", self._load, is_vital=True),
            Step("unknown option", partial(options_step, self._subject, self._load_another)),
            Step("tasks", self._tasks),
            Step("one page", self._one, is_vital=True),
            Step("freed embeddings", self._freed),
            Step("max_tokens", self._max_tokens),
            Step("unknown task", self._unknown_task),
            Step("several pages", self._several),
            *([Step("prefill", self._prefill)] if hasattr(self._subject.plugin.cls, "prefill") else []),
            Step("cancel", self._cancel),
            Step("close", self._close),
        ]

    def _load(self) -> str:
        subject = self._subject
        self._decoder, self._spec = load_decoder(subject.plugin, subject.model, subject.texts, self._note)
        return f"{self._spec.width} columns, {self._spec.capacity} pages at once, {len(self._spec.tasks)} tasks"

    def _load_another(self, texts: Mapping[str, str]) -> None:
        plugin = self._subject.plugin
        decoder, _ = load_decoder(plugin, self._subject.model, texts, self._note)
        close(plugin, decoder)

    def _tasks(self) -> str:
        declared = self._subject.plugin.description.tasks
        if declared is None:
            raise NotApplicableError("description.tasks is not given: --task is not checked before a page is sent")
        names = set(declared(self._subject.model))
        if names != set(self._spec.tasks):
            raise BrokenContractError(f"description.tasks gives {sorted(names)}, load {sorted(self._spec.tasks)}")
        return ", ".join(self._spec.tasks)

    # --- decoding ----------------------------------------------------------------------------------------------------

    @property
    def decoder(self) -> Decoder:
        """The loaded plugin."""
        assert self._decoder is not None
        return self._decoder

    def _prompt(
        self, embeddings: NDArray[np.float32], *, task: str = "", max_tokens: int = MAX_TOKENS
    ) -> EncodedPrompt:
        self._next_id += 1
        name = task or self._spec.tasks[0]
        return EncodedPrompt(self._next_id, embeddings, name, None, max_tokens, None, geometry=GEOMETRY)

    def _embeddings(self, seed: int = 0) -> NDArray[np.float32]:
        """(EMBEDDINGS, width) numbers as of a page."""
        rng = np.random.default_rng(seed)
        if not self._subject.plugin.description.reads_pages:
            return digest_rows(rng.bytes(32), EMBEDDINGS)
        return rng.standard_normal((EMBEDDINGS, self._spec.width)).astype(np.float32)

    def _admit(self, prompt: EncodedPrompt) -> None:
        if not self.decoder.has_room(prompt):
            raise BrokenContractError("has_room is false although fewer pages run than capacity")
        self.decoder.admit(prompt)

    def _run(self, *prompts: EncodedPrompt) -> dict[int, Finish]:
        """Step until all admitted pages are finished; checks every piece."""
        texts = {prompt.page_id: "" for prompt in prompts}
        finished: dict[int, Finish] = {}
        for _ in range(MOST_STEPS):
            pieces = self.decoder.step()
            if not isinstance(pieces, list) or not all(isinstance(piece, Piece) for piece in pieces):
                raise BrokenContractError(f"step returned {type(pieces).__name__}, not a list of Piece")
            if len({piece.page_id for piece in pieces}) < len(pieces):
                raise BrokenContractError("step returned two pieces of one page")
            for piece in pieces:
                if piece.page_id not in texts or piece.page_id in finished:
                    raise BrokenContractError(f"a piece of page {piece.page_id}, which does not run")
                texts[piece.page_id] += piece.text
                if piece.finish is not None:
                    finished[piece.page_id] = checked_finish(piece.finish, texts[piece.page_id])
            if finished.keys() == texts.keys():
                return finished
        missing = len(texts) - len(finished)
        raise BrokenContractError(f"{missing} pages of {MAX_TOKENS} tokens are not finished after {MOST_STEPS} steps")

    # --- steps -------------------------------------------------------------------------------------------------------

    def _one(self) -> str:
        prompt = self._prompt(self._embeddings())
        self._admit(prompt)
        (finish,) = self._run(prompt).values()
        return f"{finish.completion_tokens} tokens, finish reason {finish.reason}"

    def _freed(self) -> str:
        """The worker frees the memory of the embeddings when ``admit`` has returned."""
        answers = []
        for is_overwritten in (False, True):
            embeddings = self._embeddings(1).copy()
            prompt = self._prompt(embeddings)
            self._admit(prompt)
            if is_overwritten:
                embeddings.fill(7.0)
            answers.append(self._run(prompt)[prompt.page_id].text)
        if answers[0] != answers[1]:
            raise BrokenContractError("the answer changes when embeddings are overwritten after admit: copy them there")
        return "the answer does not depend on embeddings after admit"

    def _max_tokens(self) -> str:
        prompt = self._prompt(self._embeddings(), max_tokens=1)
        self._admit(prompt)
        (finish,) = self._run(prompt).values()
        if finish.completion_tokens > 1:
            raise BrokenContractError(f"max_tokens is 1, and the answer has {finish.completion_tokens} tokens")
        return "1 token for a limit of 1"

    def _unknown_task(self) -> str:
        prompt = self._prompt(self._embeddings(), task=UNKNOWN_TASK)
        return expect_page_error(f"task {UNKNOWN_TASK!r}", lambda: self._admit(prompt))

    def _several(self) -> str:
        number = min(3, self._spec.capacity)
        if number < 2:
            raise NotApplicableError("capacity is 1")
        prompts = [self._prompt(self._embeddings(seed)) for seed in range(number)]
        for prompt in prompts:
            self._admit(prompt)
        self._run(*prompts)
        return f"{number} pages at once are all finished"

    def _prefill(self) -> str:
        """Prompts that are computed apart from the passes change no answer, and come to an end."""
        answers = []
        for is_apart in (False, True):
            prompt = self._prompt(self._embeddings(2))
            self._admit(prompt)
            if is_apart:
                self._prefill_all()
            answers.append(self._run(prompt)[prompt.page_id].text)
        if answers[0] != answers[1]:
            raise BrokenContractError("the answer changes when prefill is called before the first step")
        return "prompts computed ahead change no answer"

    def _prefill_all(self) -> None:
        assert isinstance(self.decoder, PrefillingDecoder)
        for _ in range(MOST_STEPS):
            if (is_left := self.decoder.prefill()) is False:
                return
            if is_left is not True:
                raise BrokenContractError(f"prefill returned {is_left!r:.40}, not whether a prompt is left")
        raise BrokenContractError(f"a prompt is left after {MOST_STEPS} calls of prefill")

    def _cancel(self) -> str:
        """A cancelled page gives no further piece, and leaves room."""
        self.decoder.cancel(10**6)  # unknown
        for _ in range(self._spec.capacity + 1):
            prompt = self._prompt(self._embeddings())
            self._admit(prompt)
            self.decoder.step()
            self.decoder.cancel(prompt.page_id)
        prompt = self._prompt(self._embeddings())
        self._admit(prompt)
        self._run(prompt)
        return "a cancelled page is forgotten, an unknown one is ignored"

    def _close(self) -> str:
        self.decoder.close()
        return "done"


def checked_finish(finish: Finish, streamed: str) -> Finish:
    """Return how a page ended if that is sound. Raises BrokenContractError.

    Args:
        finish: of the last piece.
        streamed: all pieces of the page, joined.
    """
    if not isinstance(finish, Finish) or finish.reason not in tuple(FinishReason):
        raise BrokenContractError(f"finish is {finish!r:.80}, not a Finish with a FinishReason")
    if finish.reason is not FinishReason.LOOP and finish.text != streamed:
        raise BrokenContractError(
            f"the answer has {len(finish.text)} characters and its pieces {len(streamed)}: they must be the same text"
        )
    if finish.completion_tokens < 0 or finish.prompt_tokens < 0:
        raise BrokenContractError(f"Finish has {finish.prompt_tokens} and {finish.completion_tokens} tokens")
    return finish
