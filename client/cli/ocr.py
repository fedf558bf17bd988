"""``dotsctl ocr``: what an earlier run has done is skipped, the rest goes through a runtime and to its output."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.client.cli.interruption import Interruption
from dotsctl.client.cli.printing import print_text
from dotsctl.client.cli.report import ProgressReport
from dotsctl.client.files.sizes import size_text
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import STDIN, InputFile, LeftOut, expand, expected
from dotsctl.client.jobs.page_options import ReadingOptions, ReadOptions
from dotsctl.client.outputs.destination import choose_format, choose_output, goes_to_stream
from dotsctl.client.outputs.folder_output import FolderOutput
from dotsctl.client.outputs.output_base import Output, Reading, State, WriteOptions
from dotsctl.client.outputs.several import SeveralOutputs
from dotsctl.client.results.answers import has_cells
from dotsctl.client.results.page import Failure, Page
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.defaults import AUTO
from dotsctl.protocol.endpoints import instance_directory, lock_holder, not_running
from dotsctl.protocol.errors import DotsctlError, ExitCode, OutputError, PageError, UsageError
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.model.tasks import LAYOUT

if TYPE_CHECKING:
    from dotsctl.client.api import Client

GIVEN_UP = "fatal"
"""State of a worker that the runtime does not start again."""
POLL_S = 0.5
"""The interval between two checks of what other runs read."""


@dataclass(frozen=True)
class OcrOptions:
    """The options of one call."""

    inputs: Sequence[str] = ()
    output: str | None = None
    format_: str | None = None
    also: str | None = None
    """A further file for the same pages, in the format of its ending."""
    images: str | None = None
    no_header_footer: bool = False
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    model: str | None = None
    encoder: str | None = None
    decoder: str | None = None
    memory: str | None = None
    readiness_page: bool | None = None
    jobs: int | None = None
    name: str | None = None
    force: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    strict: bool = False
    quiet: bool = False
    verbose: bool = False

    @cached_property
    def style(self) -> Style:
        """Return how the pages are written. Raises UsageError."""
        return self._style_of(self.output, self.format_)

    def _style_of(self, target: str | None, format_: str | None) -> Style:
        return Style.of(
            choose_format(target, format_),
            to_stdout=goes_to_stream(target),
            header_footer=not self.no_header_footer,
            images=self.images,
        )

    def outputs(
        self, documents: Sequence[InputFile], write: Callable[[str], None], write_options: WriteOptions
    ) -> Output:
        """Return where the pages go; ``write`` prints to standard output. Raises UsageError and OutputError."""
        output = choose_output(self.output, documents, self.style, write, write_options)
        if self.also is None:
            return output
        style = self._style_of(self.also, None)
        return SeveralOutputs([output, choose_output(self.also, documents, style, write, write_options)])

    @cached_property
    def choices(self) -> settings.Choices:
        """Return the settings of the runtime, chosen once. Raises UsageError."""
        return settings.choose(
            model=self.model,
            encoder=self.encoder,
            decoder=self.decoder,
            name=self.name,
            memory=self.memory,
            readiness_page=self.readiness_page,
        )

    def is_running(self) -> bool:
        """Return whether a runtime of the chosen name runs."""
        return lock_holder(instance_directory(self.choices.name)) is not None


def run(options: OcrOptions, documents: Sequence[InputFile] | None = None) -> ExitCode:
    """Read all inputs; return the exit code of a completed run.

    Args:
        options: those of the command.
        documents: the inputs; none: those that ``options.inputs`` names.

    Raises:
        DotsctlError: the run could not start or continue; what was read before is written.
        KeyboardInterrupt: likewise.
    """
    if STDIN in options.inputs and sys.stdin.isatty():
        raise UsageError("cannot read a page from the terminal", "pipe a file into the command")
    if options.force and options.retry_failed:
        raise UsageError("--force and --retry-failed cannot be combined", "leave one of them out")
    _ = options.style  # a mistake in it is reported before anything is read
    left_out = LeftOut()
    if documents is None:
        documents = list(expand(options.inputs, sys.stdin.buffer, options.reading.selection(), left_out))
    with (
        Interruption(quiet=options.quiet) as interruption,
        ProgressReport(
            len(documents), quiet=options.quiet, verbose=options.verbose, is_printed=goes_to_stream(options.output)
        ) as report,
    ):
        for line in left_out.lines():
            report.notice(line)
        if remote := expected(documents):
            report.notice(
                f"{len(remote)} of {len(documents)} inputs are in iCloud or another cloud: "
                f"they are downloaded when they are read ({size_text(sum(remote))})"
            )

        def write(text: str) -> None:
            with report.bar_hidden():
                print_text(text)

        write_options = WriteOptions(force=options.force, overwrite=options.overwrite, events=report)
        output = options.outputs(documents, write, write_options)
        with contextlib.closing(output):
            _write(options, _chosen(options, documents, output, report), output, report, interruption)
        report.summary()
        return report.exit_code(strict=options.strict)


def _write(
    options: OcrOptions,
    documents: Sequence[InputFile],
    output: Output,
    report: ProgressReport,
    interruption: Interruption,
) -> None:
    """Read what is to be read, or report why there is nothing. Raises as :func:`run` does."""
    reading = _expected_reading(options) if isinstance(output, FolderOutput) else None
    if _has_work(documents, output, reading):
        output.prepare()
        _read(options, documents, output, report, interruption)
        return
    for page in _unread(documents, output, reading, report, []):
        _refuse(page, output, report)
    output.finish()


def _chosen(
    options: OcrOptions, documents: Sequence[InputFile], output: Output, report: ProgressReport
) -> Sequence[InputFile]:
    """All documents, or those of which a page failed in an earlier run."""
    if not options.retry_failed:
        return documents
    failed = [document for document in documents if output.has_failed(document)]
    report.skip_successful(len(documents) - len(failed))
    return failed


def _expected_reading(options: OcrOptions) -> Reading | None:
    """Return how a private runtime would read, so that a run with everything done starts none.

    None: a runtime is up, which answers for itself and at once, or the model has no files.

    Raises:
        RuntimeLostError: the user named a runtime that does not run.
    """
    if options.is_running():
        return None
    if options.choices.is_chosen("name"):
        raise not_running(options.choices.name)
    config = settings.runtime_config(options.choices, options.choices.name)
    if not config.model:
        return None
    return Reading(fingerprint(Path(config.model)), config.encoder_name, str(config.decoder), options.reading.key())


def _has_work(documents: Sequence[InputFile], output: Output, reading: Reading | None) -> bool:
    """Return whether there is a readable page that an earlier run has not finished."""
    for document in documents:
        if reading is not None and output.state(document, reading) is not State.TO_READ:
            continue
        if any(page.error is None for page in document.pages()):
            return True
    return False


def _unread(
    documents: Sequence[InputFile],
    output: Output,
    reading: Reading | None,
    report: ProgressReport,
    busy: list[InputFile],
) -> Iterator[PageInput]:
    """The pages of all documents that are to be read, lazily; those that an interrupted run has read are resumed.

    Documents that another run reads at this moment are put on the list ``busy``.
    """
    for document in documents:
        state = State.TO_READ if reading is None else output.take(document, reading)
        if state is State.DONE:
            report.skip(document.name)
        if state is State.BUSY:
            busy.append(document)
        if state is not State.TO_READ:
            continue
        for page in document.pages():
            if (kept := output.kept(page)) is not None:
                report.resume(kept)
                output.add(kept)
            else:
                yield page


def _refuse(page: PageInput, output: Output, report: ProgressReport) -> None:
    """Report a page that cannot be read, without a runtime."""
    error = page.error or PageError("the file changed while it was being read", "run the command again")
    failed = Page.from_failure(page, Failure.of(error), model="", fingerprint="", task="")
    report.page(failed)
    output.add(failed)


def _read(
    options: OcrOptions,
    documents: Sequence[InputFile],
    output: Output,
    report: ProgressReport,
    interruption: Interruption,
) -> None:
    """Send the pages through a runtime; whatever ends this, pages that were read are written.

    Raises:
        KeyboardInterrupt: after a signal, when what was in work is finished; at once after the second one.
    """
    from dotsctl.client.api import Client

    _explain_encoder(options, report)
    report.stage("loading the model")
    with Client(
        model=options.model,
        encoder=options.encoder,
        decoder=options.decoder,
        name=options.name,
        window=options.jobs,
        memory=options.memory,
        readiness_page=options.readiness_page,
    ) as client:
        report.detail(f"model {client.model_name}, encoder {client.encoder}, decoder {client.decoder}")
        report.start_reading()
        reading = _reading(options, client)
        try:
            with interruption.reading():
                while documents and not interruption.is_requested:
                    busy: list[InputFile] = []
                    unread = interruption.until_requested(_unread(documents, output, reading, report, busy))
                    for page in _pages(options, client, unread, report.notice):
                        report.page(page)
                        output.add(page)
                    documents = busy
                    if busy:
                        report.stage("waiting for another run")
                        threading.Event().wait(POLL_S)  # other machines cannot wake this one
                interruption.raise_if_requested()
            _warn_of_given_up(client, report)
        except OutputError:
            raise
        except KeyboardInterrupt:
            output.finish(is_complete=False)
            pages = f"{report.num_read} page{'s' * (report.num_read != 1)}"
            report.line(f"interrupted after {pages}; run the same command to resume")
            raise
        except DotsctlError:
            output.finish(is_complete=False)
            raise
        output.finish()


def _explain_encoder(options: OcrOptions, report: ProgressReport) -> None:
    """Report what ``auto`` does, where a runtime is started for this call."""
    if (
        options.quiet
        or options.choices.is_chosen("name")
        or options.is_running()
        or not settings.is_auto(options.choices.encoder)
    ):
        return
    if line := settings.runtime_config(options.choices, options.choices.name).auto_line:
        report.line(line)


def _warn_of_given_up(client: "Client", report: ProgressReport) -> None:
    """Report an encoder that ``auto`` does not use any more; no page has failed because of it."""
    if client.encoder != AUTO:
        return
    for worker in client.status().workers:
        if worker.state == GIVEN_UP and worker.note:
            report.notice(f"warning: encoder {worker.plugin} is {worker.note}")


def _pages(
    options: OcrOptions, client: "Client", inputs: Iterator[PageInput], notice: Callable[[str], None]
) -> Iterator[Page]:
    if (first := next(inputs, None)) is None:
        return iter(())
    return client.ocr(chain([first], inputs), on_notice=notice, **options.reading.given(ReadOptions))


def _reading(options: OcrOptions, client: "Client") -> Reading:
    """Return how this runtime reads. Raises UsageError for a task that its model does not support."""
    task = options.reading.for_model(client.model_name, client.tasks).task
    style = options.style
    if style.format.needs_cells and not has_cells(task):
        raise UsageError(
            f"-f {style.format_} needs boxes, but the task {task!r} returns none",
            f"choose another --task, as {LAYOUT.name}",
        )
    key = options.reading.key(default_task=client.tasks[0])
    return Reading(client.fingerprint, client.encoder, client.decoder, key)
