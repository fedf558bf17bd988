"""``dotsctl compare``: several encoders over the same pages, their embeddings and the texts that are read from them.

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
from dotsctl.client.inputs.sources import STDIN, InputFile, expand, expected
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.plugins import COREML
from dotsctl.protocol.errors import ErrorCode, ExitCode, NoInputError, UsageError
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import find_plugin
from dotsctl.tools.compare.comparison import EncoderComparison, PageRow
from dotsctl.tools.compare.encoding import encode_pages
from dotsctl.tools.compare.html import write_html
from dotsctl.tools.compare.reading import VersionReader
from dotsctl.tools.compare.verdict import verdict
from dotsctl.tools.derived import watched
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.report_text import text_report
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
    request = CompareOptions(**options)  # type: ignore[arg-type]
    if len(request.encoders) < FEWEST:
        raise UsageError("name at least two encoders, the reference last: --encoder coreml --encoder mlx")
    if STDIN in request.inputs and sys.stdin.isatty():
        raise UsageError("a page cannot be read from the terminal", "pipe an image into the command")
    edit_distance("", "")  # a missing rapidfuzz is reported now, and not after minutes
    selection = Selection.of(request.pages, request.dpi, request.password)
    documents = list(expand(request.inputs, sys.stdin.buffer, selection))
    expected(documents)
    report = _report_file(request, documents)
    try:
        pages = [page for document in documents for page in document.pages()]
        comparison, made_by = compare(request, pages), MadeBy.now()
        if report is not None:
            write_html(comparison, pages, report, made_by)
        print_text(_output(comparison, made_by, as_json=request.as_json))
    finally:
        if report is not None:
            report.discard()
    return exit_code(comparison)


def _output(comparison: EncoderComparison, made_by: MadeBy, *, as_json: bool) -> str:
    """Return the text for standard output."""
    if as_json:
        found = {**comparison.record(), "verdict": verdict(comparison), "made_by": made_by.record()}
        return json.dumps(found, indent=2) + "\n"
    uses_coreml = any(COREML in encoder for encoder in comparison.about["encoders"])
    return text_report(verdict(comparison), made_by, comparison.table(), uses_coreml=uses_coreml) + "\n"


def _report_file(request: CompareOptions, documents: Sequence[InputFile]) -> PartFile | None:
    """The file of the report, which can be written; none: no report is requested. Raises as :func:`run` does."""
    if request.output is None:
        return None
    path = Path(request.output)
    require_replaceable(path, [document.path for document in documents], overwrite=request.overwrite)
    report = PartFile(path)
    report.write(b"")
    return report


def compare(request: CompareOptions, pages: Sequence[PageInput]) -> EncoderComparison:
    """Encode and decode all pages. Raises as :func:`run` does."""
    if pages and all(page.error is not None for page in pages):
        listed = "\n".join(f"{page.source}:{page.page}: {page.error}" for page in pages[:SHOWN_ERRORS])
        raise NoInputError(f"none of {len(pages)} pages can be read:\n{listed}")
    choices = settings.choose(model=request.model, decoder=request.decoder)
    encoders = [PluginChoice.parse(settings.resolve_encoder(name, choices.model)) for name in request.encoders]
    decoder = PluginChoice.parse(choices.decoder)
    name, folder_of_model = settings.find_model_for(choices.model, encoders, [decoder])
    model = folder_of_model or Path()
    tasks_of = find_plugin(Role.DECODER, decoder.name).description.tasks
    if tasks_of and request.task is not None and request.task not in (tasks := tasks_of(model)):
        raise UsageError(f"unknown task {request.task!r}; {name} knows: {', '.join(tasks)}")
    with tempfile.TemporaryDirectory(prefix="dotsctl-compare-") as folder:
        encodings = encode_pages(encoders, model, pages, request.max_pixels, Path(folder))
        versions = VersionReader(decoder, model, name, request.task, encodings.fingerprint)
        try:
            about = versions.about() | {"encoders": [str(each) for each in encoders], "max_pixels": request.max_pixels}
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
