"""A decoder without a model: it writes the digest that the ``fake`` encoder put into the embeddings.

Serial unless ``batch`` says otherwise, as slow as asked, and faulty on request.
"""

import hashlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.decoder_worker.plugin import DecoderSpec, EncodedPrompt, Finish, Piece, Report
from dotsctl.protocol.errors import ErrorCode, PageError, UsageError
from dotsctl.protocol.model_directory import fingerprint
from dotsctl.protocol.parts import FinishReason

WIDTH = 1024
FAKE_FINGERPRINT = hashlib.sha256(b"fake").hexdigest()
FAULTS = ("die", "hang", "raise")
LOAD_FAULTS = ("die", "hang", "refuse")
TASKS = ("text", "layout")


@dataclass
class FakeOptions:
    """Options of ``--decoder fake:key=value,...``."""

    decode_ms: float = 0.0
    """Milliseconds that a page takes."""
    tokens: int = 8
    """Steps and pieces of a page."""
    batch: int = 1
    """Pages decoded at once."""
    fault: str = ""
    """What happens, at half of a page, to the pages chosen by ``on``: one of FAULTS."""
    on: str = ""
    """Only pages whose digest begins so (hexadecimal) are faulty; empty: all."""
    load_fault: str = ""
    """What happens instead of loading: one of LOAD_FAULTS."""
    gate: str = ""
    """Path of a FIFO: at half of a page decoding waits until a writer has opened and closed it."""


@dataclass
class _Running:
    prompt: EncodedPrompt
    digest: str
    started: float
    steps: int = 0


def fake_pieces(digest: str, tokens: int) -> list[str]:
    """What the decoder writes for a page with this digest (hexadecimal), step by step."""
    words = [digest[start : start + 8] for start in range(0, len(digest), 8)]
    return [("" if step == 0 else " ") + words[step % len(words)] for step in range(tokens)]


def fake_text(content: bytes, tokens: int = 8) -> str:
    """What the two fakes make of a page's bytes."""
    return "".join(fake_pieces(hashlib.sha256(content).hexdigest(), tokens))


class FakeDecoder:
    """See the module's docstring."""

    def load(self, model: Path, options: dict[str, str], report: Report) -> DecoderSpec:
        """Read the options; takes no time and needs no model."""
        self._options = _read_options(options)
        match self._options.load_fault:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "refuse":
                raise UsageError("decoder fake was told to refuse loading: take load_fault away")
        self._running: dict[int, _Running] = {}
        known = fingerprint(model) if (model / "config.json").is_file() else FAKE_FINGERPRINT
        return DecoderSpec(known, WIDTH, self._options.batch, TASKS)

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Up to ``batch`` pages."""
        return len(self._running) < self._options.batch

    def admit(self, prompt: EncodedPrompt) -> None:
        """Check every value of the embeddings."""
        if prompt.task not in TASKS:
            text = f"unknown task {prompt.task!r}; the model knows: {', '.join(TASKS)}"
            raise PageError(text, ErrorCode.UNKNOWN_TASK)
        started = time.monotonic()
        row = prompt.embeddings[0, :32]
        if not np.array_equal(prompt.embeddings, np.tile(row, (len(prompt.embeddings), WIDTH // 32))):
            raise PageError("the embeddings are not those that the fake encoder makes", ErrorCode.BAD_EMBED)
        self._running[prompt.page_id] = _Running(prompt, row.astype(np.uint8).tobytes().hex(), started)

    def step(self) -> list[Piece]:
        """One piece for every running page, in the time that is due."""
        oldest = next(iter(self._running.values()))
        due = oldest.started + (oldest.steps + 1) * self._options.decode_ms / 1000 / self._options.tokens
        if (remaining_s := due - time.monotonic()) > 0:
            threading.Event().wait(remaining_s)
        return [self._piece(page) for page in list(self._running.values())]

    def cancel(self, page_id: int) -> None:
        """Forget a page."""
        self._running.pop(page_id, None)

    def close(self) -> None:
        """Nothing to free."""

    def _piece(self, page: _Running) -> Piece:
        if page.steps == self._options.tokens // 2:
            self._misbehave(page.digest)
        pieces = fake_pieces(page.digest, self._options.tokens)
        text = pieces[page.steps]
        page.steps += 1
        page_id = page.prompt.page_id
        limit = min(self._options.tokens, page.prompt.max_tokens or self._options.tokens)
        if page.steps < limit:
            return Piece(page_id, text, 1)
        del self._running[page_id]
        reason = FinishReason.STOP if limit == self._options.tokens else FinishReason.LENGTH
        prompt_tokens = len(page.prompt.embeddings) + 4
        return Piece(page_id, text, 1, Finish(reason, "".join(pieces[:limit]), prompt_tokens, limit))

    def _misbehave(self, digest: str) -> None:
        if self._options.gate:
            try:
                with Path(self._options.gate).open("rb") as reader:
                    reader.read()
            except FileNotFoundError:
                pass  # the gate was taken away: nobody wants to hold us
        if not digest.startswith(self._options.on):
            return
        match self._options.fault:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "raise":
                raise ZeroDivisionError("decoder fake was told to raise")


def _read_options(options: dict[str, str]) -> FakeOptions:
    defaults = vars(FakeOptions())
    values: dict[str, object] = {}
    for key, text in options.items():
        if key not in defaults:
            raise UsageError(f"decoder fake has no option {key!r}; it has: {', '.join(defaults)}")
        try:
            values[key] = type(defaults[key])(text)
        except ValueError:
            raise UsageError(f"decoder fake: {key}={text!r} is not a number") from None
    read = FakeOptions(**values)  # type: ignore[arg-type]
    if read.fault not in ("", *FAULTS) or read.load_fault not in ("", *LOAD_FAULTS) or min(read.tokens, read.batch) < 1:
        raise UsageError(f"decoder fake: fault is one of {', '.join(FAULTS)}; tokens and batch are at least 1")
    return read
