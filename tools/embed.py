"""``dotsctl embed``: the encoder's output for pages, as one ``.npz`` file a page. Starts no decoder and no runtime.

A file has ``embeddings`` (num_embeddings, width) float32, ``grid`` (patches from top to bottom, from left to right),
``resized`` (height, width in pixels that the encoder saw) and ``fingerprint`` of the model. It also has what shows a
later run that there is nothing to do: ``encoder``, ``max_pixels`` (0: the model's own limit), ``source_sha256``,
``page`` and ``resolution`` (of a PDF's page, else empty). ``numpy.load`` reads all of them without pickle.
"""

import contextlib
import hashlib
import io
import json
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from dotsctl.client.files.part_file import PartFile
from dotsctl.client.files.written import WrittenFile
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.selection import Selection
from dotsctl.client.inputs.sources import STDIN, InputFile, expand, expected
from dotsctl.client.outputs.journal import Entry, Journal, relative, same_file
from dotsctl.client.outputs.naming import OutputNames, identity
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.arrays import open_arrays
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import DotsctlError, ErrorCode, ExitCode, PageError, UsageError
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.model.file_names import path_shown, shown
from dotsctl.protocol.worker.plugin_faults import raised
from dotsctl.tools.measuring.encoding import PageEncoder, as_float32

ENDING = "npz"
Facts = dict[str, str | int]
"""The values that embeddings depend on, by the name in the file."""


@dataclass(frozen=True)
class EmbedOptions:
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
    overwrite: bool = False


@dataclass
class Counts:
    """The outcomes of the pages so far."""

    written: int = 0
    skipped: int = 0
    kept: int = 0
    failed: int = 0
    codes: set[str] = field(default_factory=set)

    def exit_code(self) -> ExitCode:
        """The answer to the shell."""
        if not self.failed:
            return ExitCode.OK
        unreadable = self.codes <= {ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE}
        is_none_read = unreadable and not (self.written or self.skipped or self.kept)
        return ExitCode.NO_INPUT if is_none_read else ExitCode.SOME_FAILED

    def __str__(self) -> str:
        parts = [f"{self.written} page{'s' * (self.written != 1)} embedded"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.skipped:
            parts.append(f"{self.skipped} skipped (already done; --force embeds them again)")
        if self.kept:
            parts.append(f"{self.kept} kept (edited, or not written by dotsctl; --overwrite replaces them)")
        return ", ".join(parts)


class Embedding:
    """One run."""

    def __init__(self, order: EmbedOptions) -> None:
        """Find model and encoder; nothing is loaded yet.

        Raises:
            UsageError: wrong options, or several models are installed and none was chosen.
            MissingError: there is no such model.
        """
        choices = settings.choose(model=order.model, encoder=order.encoder)
        self._choice = PluginChoice.parse(settings.resolve_encoder(choices.encoder, choices.model))
        model = settings.find_model_for(choices.model, [self._choice])[1]
        self._model, self._digest = model or Path(), fingerprint(model) if model else ""
        self._order = order
        self._encoder: PageEncoder | None = None
        self.counts = Counts()

    def run(self, documents: list[InputFile]) -> None:
        """Embed all pages that are not done. Raises DotsctlError for what ends the run."""
        folder = Path(self._order.output)
        journal = Journal(folder)
        names = OutputNames(documents, ENDING, journal).names
        journal.probe()
        with contextlib.closing(journal):
            self._documents(documents, names, journal)

    def _documents(self, documents: list[InputFile], names: dict[str, str], journal: Journal) -> None:
        taken = {same_file(name) for name in names.values()}
        for document in documents:
            failed, written = self.counts.failed, self.counts.written
            digest = document.digest()
            for page in document.pages():
                self._page(page, document, digest, page_name(names[document.name], page, taken), journal)
            if self.counts.written > written:
                journal.append(self._entry(names[document.name], document, digest, self.counts.failed == failed))

    def close(self) -> None:
        """Free the model."""
        if self._encoder is not None:
            self._encoder.close()

    def _entry(
        self, name: str, document: InputFile, digest: str, finished: bool, files: tuple[WrittenFile, ...] = ()
    ) -> Entry:
        """The journal's line of a document, or of one of its files."""
        key = hashlib.sha256(json.dumps(self._facts(document, 0, digest)).encode()).hexdigest()
        return Entry(name, identity(document), digest, key, finished, files=files)

    def _page(self, page: PageInput, document: InputFile, digest: str, name: str, journal: Journal) -> None:
        """Embed one page, or print in one line why not; whatever goes wrong with it, the others continue."""
        place, target = f"{page.source}:{page.page}", journal.folder / path_shown(name)
        try:
            if page.error is not None:
                raise page.error
            if self._is_done(target, self._facts(document, page.page, digest)):
                self.counts.skipped += 1
                return
            if journal.to_keep([name], overwrite=self._order.overwrite):
                self.counts.kept += 1
                say(f"{shown(target)} is kept: it was edited, or dotsctl did not write it")
                return
            encoder = self._loaded()
            facts = self._facts(document, page.page, digest)
            if self._is_done(target, facts):  # a plugin may have another fingerprint
                self.counts.skipped += 1
                return
            self._write(target, packed(encoder.encode(page, self._order.max_pixels), facts), document, journal)
            self.counts.written += 1
        except PageError as error:
            self._fail(place, error.code, str(error))
        except DotsctlError:
            raise
        except MemoryError:
            self._fail(place, ErrorCode.OOM, "not enough memory to encode this page: lower --max-pixels")
        except (Exception, SystemExit) as error:  # a plugin's own fault, as in the encoder worker
            self._fail(place, ErrorCode.INTERNAL, f"encoder {self._choice.name!r} {raised(error)}")

    def _write(self, target: Path, content: bytes, document: InputFile, journal: Journal) -> None:
        """Note in the journal what is written, and then give it its name. Raises OutputError."""
        file = PartFile(target)
        try:
            file.write(content)
            files = relative(list(filter(None, [file.seal()])), journal.folder)
            journal.append(self._entry(files[0].path, document, document.digest(), False, files))
            file.commit()
        finally:
            file.discard()

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

    def _facts(self, document: InputFile, page: int, digest: str) -> Facts:
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
        """Return whether the file exists, is complete, and was derived from the same page in the same way."""
        return not self._order.force and bool(facts["source_sha256"]) and is_embedded(target, facts)


def is_embedded(target: Path, facts: Facts) -> bool:
    """Return whether a file holds the embeddings that these facts describe; it is read as far as that takes."""
    try:
        with open_arrays(target) as stored:
            names = {"embeddings", "grid", "resized"}
            return names <= set(stored) and all(stored[name].item() == value for name, value in facts.items())
    except (OSError, ValueError):
        return False  # missing, or not ours: it is written again


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
        taken: the outputs of all documents, in the form of :func:`dotsctl.client.outputs.journal.same_file`.
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
    order = EmbedOptions(**options)  # type: ignore[arg-type]
    if STDIN in order.inputs and sys.stdin.isatty():
        raise UsageError("a page cannot be read from the terminal", "pipe an image into the command")
    selection = Selection.of(order.pages, order.dpi, order.password)
    started = time.monotonic()
    embedding = Embedding(order)
    try:
        documents = list(expand(order.inputs, sys.stdin.buffer, selection))
        expected(documents)
        embedding.run(documents)
    except KeyboardInterrupt:
        say(f"interrupted: {embedding.counts}; run the same command to resume")
        raise
    finally:
        embedding.close()
    say(f"{embedding.counts} into {order.output}, {time.monotonic() - started:.1f} s")
    return embedding.counts.exit_code()
