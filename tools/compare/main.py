"""``dotsctl compare``: several encoders over the same pages, their embeddings and the texts that come of them.

Nothing of it needs a runtime: the encoders run in this process one after the other (``encoding.py``), then the
decoder reads every page from the embeddings of each.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotsctl.client import settings
from dotsctl.client.cli_print import print_text
from dotsctl.client.config import PluginChoice
from dotsctl.client.inputs import PageInput
from dotsctl.client.part_file import PartFile
from dotsctl.client.selection import Selection
from dotsctl.client.sources import STDIN, expand
from dotsctl.protocol.errors import ErrorCode, ExitCode, NoInputError, UsageError
from dotsctl.protocol.model_directory import find_model
from dotsctl.protocol.tasks import read_wording
from dotsctl.tools.compare.comparison import Comparison, Row
from dotsctl.tools.compare.encoding import encode_pages
from dotsctl.tools.compare.html import write_html
from dotsctl.tools.compare.reading import VersionReader
from dotsctl.tools.derived import watched
from dotsctl.tools.measuring.scores import edit_distance

FEWEST = 2
SHOWN_ERRORS = 10
INPUT_ERRORS = {ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE}


@dataclass(frozen=True)
class Order:
    """The options of one call."""

    inputs: tuple[str, ...]
    encoders: tuple[str, ...]
    """The last one is the reference."""
    model: str | None
    decoder: str | None
    task: str | None
    max_pixels: int | None
    pages: str | None
    dpi: int
    password: str | None = field(repr=False)
    output: str | None = None
    as_json: bool = False


def run(**options: object) -> ExitCode:
    """Compare what the options name; returns the exit code of a run that came to its end.

    Raises:
        UsageError: fewer than two encoders, or a wrong option.
        MissingError: the model, or a library, is missing.
        NoInputError: no page can be read.
        CommandFailedError: the halves load different models.
        OutputError: the report cannot be written.
    """
    order = Order(**options)  # type: ignore[arg-type]
    if len(order.encoders) < FEWEST:
        raise UsageError("name at least two encoders, the reference last: --encoder coreml --encoder mlx")
    if STDIN in order.inputs and sys.stdin.isatty():
        raise UsageError("- reads a page from standard input, and that is the terminal: pipe one into the command")
    edit_distance("", "")  # where rapidfuzz is missing it says so now, and not after minutes
    selection = Selection.of(order.pages, order.dpi, order.password)
    report = PartFile(Path(order.output)) if order.output else None
    if report is not None:
        report.write(b"")  # where it cannot be written it says so now
    try:
        pages = [page for document in expand(order.inputs, sys.stdin.buffer, selection) for page in document.pages()]
        comparison = compare(order, pages)
        if report is not None:
            write_html(comparison, pages, report)
        print_text(json.dumps(comparison.record(), indent=2) + "\n" if order.as_json else comparison.table() + "\n")
    finally:
        if report is not None:
            report.discard()
    return exit_code(comparison)


def compare(order: Order, pages: Sequence[PageInput]) -> Comparison:
    """Encode and decode all pages. Raises as :func:`run` does."""
    if pages and all(page.error is not None for page in pages):
        told = "\n".join(f"{page.source}:{page.page}: {page.error}" for page in pages[:SHOWN_ERRORS])
        raise NoInputError(f"none of {len(pages)} pages can be read:\n{told}")
    choices = settings.choose(model=order.model, decoder=order.decoder)
    encoders = [PluginChoice.parse(settings.resolve_encoder(name, choices.model)) for name in order.encoders]
    decoder = PluginChoice.parse(choices.decoder)
    needs_no_model = choices.model is None and all(each.name == "fake" for each in (*encoders, decoder))
    name, model = ("fake", Path()) if needs_no_model else find_model(choices.model)
    if decoder.name == "mlx" and order.task is not None and order.task not in read_wording(model):
        raise UsageError(f"unknown task {order.task!r}; {name} knows: {', '.join(sorted(read_wording(model)))}")
    with tempfile.TemporaryDirectory(prefix="dotsctl-compare-") as folder:
        encodings = encode_pages(encoders, model, pages, order.max_pixels, Path(folder))
        versions = VersionReader(decoder, model, name, order.task, encodings.fingerprint)
        try:
            about = versions.about() | {"encoders": [str(each) for each in encoders], "max_pixels": order.max_pixels}
            found = watched(list(zip(pages, encodings.sights, strict=True)), "reading")
            rows = [Row([versions.read(page, sight) for sight in sights]) for page, sights in found]
        finally:
            versions.close()
    return Comparison(about, rows)


def exit_code(comparison: Comparison) -> ExitCode:
    """The answer to the shell: a page that failed by one encoder has failed."""
    errors = [[version.page.error for version in row.versions] for row in comparison.rows]
    if not any(any(row) for row in errors):
        return ExitCode.OK
    unread = all(error is not None and error.code in INPUT_ERRORS for row in errors for error in row)
    return ExitCode.NO_INPUT if unread else ExitCode.SOME_FAILED
