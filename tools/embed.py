"""``dotsctl embed``: what the encoder makes of pages, as one ``.npz`` file a page. Starts no decoder and no runtime.

A file has ``embeddings`` (num_embeddings, width) float32, ``grid`` (patches from top to bottom, from left to right),
``resized`` (height, width in pixels that the encoder saw) and ``fingerprint`` of the model. Besides it has what tells a
later run that there is nothing to do: ``encoder``, ``max_pixels`` (0: the model's own limit), ``source_sha256``,
``page`` and ``resolution`` (of a PDF's page, else empty). ``numpy.load`` reads all of them without pickle.
"""

import hashlib
import io
import json
import sys
import time
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from dotsctl.client import cli_tools, settings
from dotsctl.client.config import PluginChoice
from dotsctl.client.inputs import PageInput
from dotsctl.client.journal import Entry, Journal, same_file
from dotsctl.client.naming import identity, name_outputs
from dotsctl.client.part_file import write_atomically
from dotsctl.client.selection import Selection
from dotsctl.client.sources import STDIN, Document, expand
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import DotsctlError, ErrorCode, ExitCode, PageError, UsageError
from dotsctl.protocol.model_directory import find_model, fingerprint
from dotsctl.tools.measuring.encoding import PageEncoder, as_float32

ENDING = "npz"
Facts = dict[str, str | int]
"""What embeddings depend on, by the name in the file."""


@dataclass(frozen=True)
class Order:
    """The options of one call."""

    inputs: tuple[str, ...]
    output: str
    model: str | None
    encoder: str | None
    max_pixels: int | None
    pages: str | None
    dpi: int
    password: str | None = field(repr=False)
    force: bool = False


@dataclass
class Counts:
    """What became of the pages so far."""

    written: int = 0
    skipped: int = 0
    failed: int = 0
    codes: set[str] = field(default_factory=set)

    def exit_code(self) -> ExitCode:
        """The answer to the shell."""
        if not self.failed:
            return ExitCode.OK
        unreadable = self.codes <= {ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE}
        return ExitCode.NO_INPUT if unreadable and not (self.written or self.skipped) else ExitCode.SOME_FAILED

    def __str__(self) -> str:
        parts = [f"{self.written} page{'s' * (self.written != 1)} embedded"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.skipped:
            parts.append(f"{self.skipped} skipped (done before; --force embeds again)")
        return ", ".join(parts)


class Embedding:
    """One run."""

    def __init__(self, order: Order) -> None:
        """Find model and encoder; nothing is loaded yet.

        Raises:
            UsageError: wrong options, or several models are installed and none was chosen.
            MissingError: there is no such model.
        """
        choices = settings.choose(model=order.model, encoder=order.encoder)
        self._choice = PluginChoice.parse(settings.resolve_encoder(choices.encoder, choices.model))
        needs_no_model = self._choice.name == "fake" and choices.model is None
        self._model = Path() if needs_no_model else find_model(choices.model)[1]
        self._digest = "" if needs_no_model else fingerprint(self._model)
        self._order = order
        self._encoder: PageEncoder | None = None
        self.counts = Counts()

    def run(self, documents: list[Document]) -> None:
        """Embed all pages that are not done. Raises DotsctlError for what ends the run."""
        folder = Path(self._order.output)
        journal = Journal(folder)
        names = name_outputs(documents, ENDING, journal)
        taken = {same_file(name) for name in names.values()}
        journal.probe()
        for document in documents:
            failed, written = self.counts.failed, self.counts.written
            digest = document.digest()
            for page in document.pages():
                self._page(page, document, digest, folder / page_name(names[document.name], page, taken))
            if self.counts.written > written:
                key = hashlib.sha256(json.dumps(self._facts(document, 0, digest)).encode()).hexdigest()
                finished = self.counts.failed == failed
                journal.append(Entry(names[document.name], identity(document), digest, key, finished))

    def close(self) -> None:
        """Free the model."""
        if self._encoder is not None:
            self._encoder.close()

    def _page(self, page: PageInput, document: Document, digest: str, target: Path) -> None:
        """Embed one page, or say in one line why not; whatever goes wrong with it, the others go on."""
        place = f"{page.source}:{page.page}"
        try:
            if page.error is not None:
                raise page.error
            if self._is_done(target, self._facts(document, page.page, digest)):
                self.counts.skipped += 1
                return
            encoder = self._loaded()
            facts = self._facts(document, page.page, digest)
            if self._is_done(target, facts):  # a plugin may know another fingerprint
                self.counts.skipped += 1
                return
            write_atomically(target, packed(encoder.encode(page, self._order.max_pixels), facts))
            self.counts.written += 1
        except PageError as error:
            self._fail(place, error.code, str(error))
        except DotsctlError:
            raise
        except MemoryError:
            self._fail(place, ErrorCode.OOM, "not enough memory to encode this page: lower --max-pixels")
        except Exception as error:  # a plugin's own fault, as in the encoder worker
            self._fail(place, ErrorCode.INTERNAL, f"the encoder raised {type(error).__name__}: {error}")

    def _fail(self, place: str, code: ErrorCode, message: str) -> None:
        self.counts.failed += 1
        self.counts.codes.add(code)
        say(f"{place}: {message}")

    def _loaded(self) -> PageEncoder:
        """The encoder, loaded when the first page needs it."""
        if self._encoder is None:
            say(f"loading encoder {self._choice}")
            self._encoder = PageEncoder(self._choice, self._model, lambda _: None)
            self._digest = self._encoder.spec.fingerprint
        return self._encoder

    def _facts(self, document: Document, page: int, digest: str) -> Facts:
        alone = replace(document, selection=replace(document.selection, pages=None))  # a page is the same among others
        return {
            "fingerprint": self._digest,
            "encoder": str(self._choice),
            "max_pixels": self._order.max_pixels or 0,
            "source_sha256": digest,
            "page": page,
            "resolution": alone.variant(),
        }

    def _is_done(self, target: Path, facts: Facts) -> bool:
        """Whether the file is there, whole, and made of the same page in the same way."""
        if self._order.force or not facts["source_sha256"]:
            return False
        try:
            with target.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return {"embeddings", "grid", "resized"} <= set(stored) and all(
                    stored[name].item() == value for name, value in facts.items()
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return False  # not there, or not ours: it is written again


def packed(page: EncodedPage, facts: Facts) -> bytes:
    """A page as an ``.npz`` file."""
    stream = io.BytesIO()
    width, height = page.geometry.resized
    values = {name: np.array(value) for name, value in facts.items()}
    np.savez(
        stream,
        embeddings=as_float32(page.embeddings),  # (num_embeddings, width)
        grid=np.array(page.grid),
        resized=np.array((height, width)),
        **values,  # type: ignore[arg-type]
    )
    return stream.getvalue()


def page_name(output: str, page: PageInput, taken: Collection[str]) -> str:
    """``a.npz``; for a page among others ``a/page-0001.npz``, or ``a.npz/page-0001.npz`` where an input has that name.

    Args:
        output: of the page's document.
        page: one of its pages.
        taken: the outputs of all documents, in the form of :func:`dotsctl.client.journal.same_file`.
    """
    if page.num_pages == 1:
        return output
    number = f"page-{page.page:04}.{ENDING}"
    name = f"{output.removesuffix(f'.{ENDING}')}/{number}"
    return name if same_file(name) not in taken else f"{output}/{number}"


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def run(**options: object) -> ExitCode:
    """Embed what the options name; returns the exit code of a run that came to its end."""
    order = Order(**options)  # type: ignore[arg-type]
    if STDIN in order.inputs and sys.stdin.isatty():
        raise UsageError("- reads a page from standard input, and that is the terminal: pipe one into the command")
    selection = Selection.of(order.pages, order.dpi, order.password)
    started = time.monotonic()
    embedding = Embedding(order)
    try:
        embedding.run(list(expand(order.inputs, sys.stdin.buffer, selection)))
    except KeyboardInterrupt:
        say(f"interrupted: {embedding.counts}; the same command goes on with the rest")
        raise
    finally:
        embedding.close()
    say(f"{embedding.counts} into {order.output}, {time.monotonic() - started:.1f} s")
    return embedding.counts.exit_code()


if __name__ == "__main__":
    cli_tools.main(cli_tools.embed, run)
