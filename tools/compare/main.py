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

from dotsctl.client.cli.printing import print_text
from dotsctl.client.files.part_file import PartFile, require_replaceable
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.selection import Selection
from dotsctl.client.inputs.sources import STDIN, InputFile, expand
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.errors import ErrorCode, ExitCode, NoInputError, UsageError
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import find_plugin
from dotsctl.tools.compare.comparison import EncoderComparison, PageRow
from dotsctl.tools.compare.encoding import encode_pages
from dotsctl.tools.compare.html import write_html
from dotsctl.tools.compare.reading import VersionReader
from dotsctl.tools.derived import watched
from dotsctl.tools.measuring.scores import edit_distance

FEWEST = 2
SHOWN_ERRORS = 10
INPUT_ERRORS = {ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE}


@dataclass(frozen=True)
class CompareOptions:
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
    overwrite: bool = False
    as_json: bool = False


def run(**options: object) -> ExitCode:
    """Compare what the options name; returns the exit code of a run that came to its end.

    Raises:
        UsageError: fewer than two encoders, a wrong option, or a report that exists.
        MissingError: the model, or a library, is missing.
        NoInputError: no page can be read.
        CommandFailedError: the halves load different models.
        OutputError: the report cannot be written.
    """
    order = CompareOptions(**options)  # type: ignore[arg-type]
    if len(order.encoders) < FEWEST:
        raise UsageError("name at least two encoders, the reference last: --encoder coreml --encoder mlx")
    if STDIN in order.inputs and sys.stdin.isatty():
        raise UsageError("cannot read a page from the terminal", "pipe a file into the command")
    edit_distance("", "")  # where rapidfuzz is missing it says so now, and not after minutes
    selection = Selection.of(order.pages, order.dpi, order.password)
    documents = list(expand(order.inputs, sys.stdin.buffer, selection))
    report = _report_file(order, documents)
    try:
        pages = [page for document in documents for page in document.pages()]
        comparison = compare(order, pages)
        if report is not None:
            write_html(comparison, pages, report)
        print_text(json.dumps(comparison.record(), indent=2) + "\n" if order.as_json else comparison.table() + "\n")
    finally:
        if report is not None:
            report.discard()
    return exit_code(comparison)


def _report_file(order: CompareOptions, documents: Sequence[InputFile]) -> PartFile | None:
    """The file of the report, which can be written; none: no report is wanted. Raises as :func:`run` does."""
    if order.output is None:
        return None
    path = Path(order.output)
    require_replaceable(path, [document.path for document in documents], overwrite=order.overwrite)
    report = PartFile(path)
    report.write(b"")
    return report


def compare(order: CompareOptions, pages: Sequence[PageInput]) -> EncoderComparison:
    """Encode and decode all pages. Raises as :func:`run` does."""
    if pages and all(page.error is not None for page in pages):
        errors = "\n".join(f"{page.source}:{page.page}: {page.error}" for page in pages[:SHOWN_ERRORS])
        raise NoInputError(f"none of {len(pages)} pages can be read:\n{errors}")
    choices = settings.choose(model=order.model, decoder=order.decoder)
    encoders = [PluginChoice.parse(settings.resolve_encoder(name, choices.model)) for name in order.encoders]
    decoder = PluginChoice.parse(choices.decoder)
    name, folder_of_model = settings.find_model_for(choices.model, encoders, [decoder])
    model = folder_of_model or Path()
    tasks_of = find_plugin(Role.DECODER, decoder.name).description.tasks
    if tasks_of and order.task is not None and order.task not in (tasks := tasks_of(model)):
        raise UsageError(f"unknown task {order.task!r}; {name} knows: {', '.join(tasks)}")
    with tempfile.TemporaryDirectory(prefix="dotsctl-compare-") as folder:
        encodings = encode_pages(encoders, model, pages, order.max_pixels, Path(folder))
        versions = VersionReader(decoder, model, name, order.task, encodings.fingerprint)
        try:
            about = versions.about() | {"encoders": [str(each) for each in encoders], "max_pixels": order.max_pixels}
            found = watched(list(zip(pages, encodings.sights, strict=True)), "reading")
            rows = [PageRow([versions.read(page, sight) for sight in sights]) for page, sights in found]
        finally:
            versions.close()
    return EncoderComparison(about, rows)


def exit_code(comparison: EncoderComparison) -> ExitCode:
    """The answer to the shell: a page that failed by one encoder has failed."""
    errors = [[version.page.error for version in row.versions] for row in comparison.rows]
    if not any(any(row) for row in errors):
        return ExitCode.OK
    unread = all(error is not None and error.code in INPUT_ERRORS for row in errors for error in row)
    return ExitCode.NO_INPUT if unread else ExitCode.SOME_FAILED
