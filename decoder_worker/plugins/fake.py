"""A decoder without a model: it writes a recorded answer, or the digest that the ``fake`` encoder put into embeddings.

Serial unless ``batch`` is set; options make it slow or faulty.
"""

import hashlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotsctl.decoder_worker.plugin import DecoderSpec, EncodedPrompt, Finish, Piece, Report
from dotsctl.decoder_worker.recorded_answers import RecordedAnswers
from dotsctl.protocol.errors import ErrorCode, PageError, UsageError
from dotsctl.protocol.model.tasks import ASK, GROUND, LAYOUT, TEXT
from dotsctl.protocol.parts import FinishReason
from dotsctl.protocol.worker.fakes import (
    FAULTS,
    LOAD_FAULTS,
    WIDTH,
    fake_fingerprint,
    misbehave,
    wait_at_gate,
)
from dotsctl.protocol.worker.plugin_options import option
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    from numpy.typing import NDArray

TASKS = tuple(task.name for task in (TEXT, LAYOUT, GROUND, ASK))
PAGE_FAULTS = (*FAULTS, "no-memory", "loop", "loop-once", "damage-once")
DAMAGED_ANSWER = '[{"bbox": [1, 2, 3, 4], "category": "Text", "text": "cut he'


@dataclass(frozen=True)
class FakeDecoderOptions:
    """Options of ``--decoder fake:key=value,...``."""

    decode_ms: float = option(0.0, "milliseconds that a page takes", minimum=0)
    tokens: int = option(8, "steps and pieces of a page", minimum=1, maximum=1_000_000)
    batch: int = option(1, "pages decoded at once", minimum=1)
    answer: Path | None = option(
        None,
        "file with the answer of every page, or folder with one file for each input, found by the input's name without "
        "its ending; given in pieces of 5 characters, and 'tokens' is not used",
        shown_default="the digest",
    )
    fault: str = option(
        "",
        "what happens at half of the pages chosen by 'on'; no-memory: whenever several pages run; loop: the answer "
        "ends as one that repeats itself (loop-once: at a page's first reading); damage-once: the first reading of a "
        "page ends with an answer that is no complete list of cells",
        choices=PAGE_FAULTS,
    )
    on: str = option("", "only pages whose digest begins so (hexadecimal) are faulty", shown_default="all")
    load_fault: str = option("", "what happens instead of loading", choices=LOAD_FAULTS)
    trace: str = option("", "file that gets a line with the digest of each page that was decoded to its end")
    gate: str = option("", "FIFO: at half of a page decoding waits until a writer has opened and closed it")


@dataclass
class _Running:
    prompt: EncodedPrompt
    digest: str
    pieces: list[str]
    started: float
    steps: int = 0


def fake_pieces(digest: str, tokens: int) -> list[str]:
    """Return the decoder's text for a page with this digest (hexadecimal), step by step."""
    words = [digest[start : start + 8] for start in range(0, len(digest), 8)]
    return [("" if step == 0 else " ") + words[step % len(words)] for step in range(tokens)]


def fake_text(*images: bytes, tokens: int = 8) -> str:
    """Return the text that the two fakes derive from the bytes of a page, or of several images in one prompt."""
    digest = joined_digest([hashlib.sha256(content).digest() for content in images])
    return "".join(fake_pieces(digest, tokens))


def joined_digest(digests: list[bytes]) -> str:
    """One digest (hexadecimal) for all images of a request; that of a single image is its own."""
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


class FakeDecoder:
    """See the module's docstring."""

    description = PluginDescription(
        help="No model: the digest that the encoder 'fake' put into the embeddings, as text.",
        options=FakeDecoderOptions,
        needs_model=False,
        reads_pages=False,
        tasks=lambda model: TASKS,
    )

    def load(self, model: Path, options: FakeDecoderOptions, report: Report) -> DecoderSpec:
        """Keep the options; takes no time and needs no model. Raises MissingError: ``answer`` does not exist."""
        self._options = options
        match self._options.load_fault:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "refuse":
                raise UsageError("decoder fake is set to refuse loading", "remove load_fault")
        self._answers = RecordedAnswers(options.answer) if options.answer else None
        self._running: dict[int, _Running] = {}
        self._read: set[str] = set()
        """Digests of pages that were read before; kept for the faults of a first reading alone."""
        return DecoderSpec(fake_fingerprint(model), WIDTH, self._options.batch, TASKS)

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Return whether fewer than ``batch`` pages run."""
        return len(self._running) < self._options.batch

    def admit(self, prompt: EncodedPrompt) -> None:
        """Check every value of the embeddings."""
        if prompt.task not in TASKS:
            text = f"unknown task {prompt.task!r}; the model knows: {', '.join(TASKS)}"
            raise PageError(text, code=ErrorCode.UNKNOWN_TASK)
        started = time.monotonic()
        digests, start = [], 0
        for count in prompt.image_embeddings:
            digests.append(_read_digest(prompt.embeddings[start : start + count]))
            start += count
        digest = joined_digest(digests)
        pieces = self._answers.pieces(prompt.source) if self._answers else fake_pieces(digest, self._options.tokens)
        self._running[prompt.page_id] = _Running(prompt, digest, pieces, started)

    def step(self) -> list[Piece]:
        """One piece for every running page, in the time that is due."""
        if self._options.fault == "no-memory" and len(self._running) > 1:
            raise MemoryError("decoder fake is set to run out of memory with several pages")
        oldest = next(iter(self._running.values()))
        due = oldest.started + (oldest.steps + 1) * self._options.decode_ms / 1000 / len(oldest.pieces)
        if (remaining_s := due - time.monotonic()) > 0:
            threading.Event().wait(remaining_s)
        return [self._piece(page) for page in list(self._running.values())]

    def cancel(self, page_id: int) -> None:
        """Forget a page."""
        self._running.pop(page_id, None)

    def close(self) -> None:
        """Nothing to free."""

    def _piece(self, page: _Running) -> Piece:
        num_pieces = len(page.pieces)
        if page.steps == num_pieces // 2:
            self._misbehave(page.digest)
        text = page.pieces[page.steps]
        page.steps += 1
        page_id = page.prompt.page_id
        limit = min(num_pieces, page.prompt.max_tokens or num_pieces)
        loops, damages = self._fails(page.digest, "loop"), self._fails(page.digest, "damage")
        if loops:
            limit = max(1, num_pieces // 2)
        if page.steps < limit:
            return Piece(page_id, text, 1)
        del self._running[page_id]
        if self._options.trace:
            with Path(self._options.trace).open("a") as trace:
                trace.write(f"{page.digest}\n")
        if self._options.fault.endswith("-once"):
            self._read.add(page.digest)
        is_complete = limit == num_pieces
        reason = FinishReason.LOOP if loops else FinishReason.STOP if is_complete else FinishReason.LENGTH
        prompt_tokens = len(page.prompt.embeddings) + 4
        answer = DAMAGED_ANSWER if damages else "".join(page.pieces[:limit])
        return Piece(page_id, text, 1, Finish(reason, answer, prompt_tokens, limit))

    def _fails(self, digest: str, fault: str) -> bool:
        """Return whether a page ends with a fault, which may be one of its first reading alone."""
        now = {fault} if digest in self._read else {fault, f"{fault}-once"}
        return digest.startswith(self._options.on) and self._options.fault in now

    def _misbehave(self, digest: str) -> None:
        if self._options.gate:
            wait_at_gate(Path(self._options.gate))
        if not digest.startswith(self._options.on):
            return
        misbehave(self._options.fault, "decoder fake")


def _read_digest(embeddings: "NDArray[Any]") -> bytes:
    """The digest that fills the embeddings (num_embeddings, WIDTH) of one image, every value checked."""
    import numpy as np

    row = embeddings[0, :32]
    if not np.array_equal(embeddings, np.tile(row, (len(embeddings), WIDTH // 32))):
        raise PageError("the embeddings are not those that the fake encoder makes", code=ErrorCode.BAD_EMBED)
    return row.astype(np.uint8).tobytes()
