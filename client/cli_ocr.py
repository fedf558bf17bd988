"""``dotsctl ocr``: what an earlier run has done is skipped, the rest goes through a runtime and to its output."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.client import settings
from dotsctl.client.answers import has_cells
from dotsctl.client.auto_encoder import AUTO
from dotsctl.client.cli_arguments import parse_box, read_prompt
from dotsctl.client.cli_print import print_text
from dotsctl.client.cli_report import Report
from dotsctl.client.folder_output import FolderOutput
from dotsctl.client.inputs import PageInput
from dotsctl.client.interruption import Interruption
from dotsctl.client.output_base import Output, Reading
from dotsctl.client.outputs import STDOUT, choose_format, choose_output
from dotsctl.client.records import Page
from dotsctl.client.render import OVERLAY, Style
from dotsctl.client.selection import Selection
from dotsctl.client.sources import STDIN, Document, expand
from dotsctl.protocol.endpoints import instance_directory, lock_holder
from dotsctl.protocol.errors import DotsctlError, ErrorCode, ExitCode, OutputError, UsageError
from dotsctl.protocol.model_directory import fingerprint

if TYPE_CHECKING:
    from dotsctl.client.api import Client

GIVEN_UP = "fatal"
"""State of a worker that the runtime does not start again."""
DEFAULT_TASK = ""
"""Stands for the model's first task in a :class:`Reading`, as that is known only when a runtime answers."""


@dataclass(frozen=True)
class Order:
    """The options of one call."""

    inputs: Sequence[str]
    output: str | None
    format_: str | None
    images: str | None
    no_header_footer: bool
    task: str | None
    prompt: str | None
    box: str | None
    max_tokens: int | None
    max_pixels: int | None
    quality: str | None
    pages: str | None
    dpi: int
    password: str | None = field(repr=False)
    model: str | None
    encoder: str | None
    decoder: str | None
    memory: str | None
    jobs: int | None
    name: str | None
    no_blank_check: bool
    no_reread: bool
    force: bool
    retry_failed: bool
    quiet: bool
    verbose: bool

    def style(self) -> Style:
        """How the pages are written. Raises UsageError."""
        return Style.of(
            choose_format(self.output, self.format_),
            to_stdout=self.output in (None, STDOUT),
            header_footer=not self.no_header_footer,
            images=self.images,
        )

    def reading(self, fingerprint: str, encoder: str, decoder: str) -> Reading:
        """What the results depend on, with the default task as long as another one was not asked for."""
        return Reading(
            fingerprint=fingerprint,
            encoder=encoder,
            decoder=decoder,
            task=self.task or ("ground" if self.box and not self.prompt else DEFAULT_TASK),
            prompt=read_prompt(self.prompt),
            box=parse_box(self.box),
            max_tokens=self.max_tokens,
            max_pixels=self.max_pixels,
            check_blank=not self.no_blank_check,
            reread=not self.no_reread,
            quality=self.quality,
        )


def run(order: Order) -> ExitCode:
    """Read all inputs; returns the exit code of a run that came to its end.

    Raises:
        DotsctlError: the run could not start or go on; what was read before is written.
        KeyboardInterrupt: likewise.
    """
    if STDIN in order.inputs and sys.stdin.isatty():
        raise UsageError("- reads a page from standard input, and that is the terminal: pipe one into the command")
    if order.force and order.retry_failed:
        raise UsageError("--force reads everything and --retry-failed what has failed: leave one of them out")
    read_prompt(order.prompt), parse_box(order.box)  # a mistake in them is told before anything is started
    selection = Selection.of(order.pages, order.dpi, order.password)
    documents = list(expand(order.inputs, sys.stdin.buffer, selection))
    with (
        Interruption(quiet=order.quiet) as interruption,
        Report(len(documents), quiet=order.quiet, verbose=order.verbose) as report,
    ):

        def write(text: str) -> None:
            with report.bar_hidden():
                print_text(text)

        output = choose_output(order.output, documents, order.style(), write, force=order.force)
        documents = _chosen(order, documents, output, report)
        reading = _expected_reading(order) if isinstance(output, FolderOutput) else None
        if _has_work(documents, output, reading):
            output.prepare()
            _read(order, documents, output, report, interruption)
        else:
            for page in _unread(documents, output, reading, report):
                _refuse(page, output, report)
            output.finish()
        report.summary()
        return report.exit_code()


def _chosen(order: Order, documents: list[Document], output: Output, report: Report) -> list[Document]:
    """All documents, or those of which a page failed in an earlier run."""
    if not order.retry_failed:
        return documents
    failed = [document for document in documents if output.has_failed(document)]
    report.leave(len(documents) - len(failed))
    return failed


def _expected_reading(order: Order) -> Reading | None:
    """How a private runtime would read, so that a run with everything done starts none.

    None: a runtime is up, which answers for itself and at once, or the model has no files.
    """
    choices = settings.choose(
        model=order.model, encoder=order.encoder, decoder=order.decoder, name=order.name, memory=order.memory
    )
    if lock_holder(instance_directory(choices.name)) is not None:
        return None
    config = settings.runtime_config(choices, choices.name)
    if not config.model:
        return None
    return order.reading(fingerprint(Path(config.model)), config.encoder_name, str(config.decoder))


def _has_work(documents: Sequence[Document], output: Output, reading: Reading | None) -> bool:
    """Whether there is a readable page that an earlier run has not finished."""
    for document in documents:
        if reading is not None and output.is_done(document, reading):
            continue
        if any(page.error is None for page in document.pages()):
            return True
    return False


def _unread(
    documents: Sequence[Document], output: Output, reading: Reading | None, report: Report
) -> Iterator[PageInput]:
    """The pages of all documents that are not done, lazily; what a run has read that broke off is taken over."""
    for document in documents:
        if reading is not None and output.is_done(document, reading):
            report.skip(document.name)
            continue
        for page in document.pages():
            if (kept := output.kept(page)) is not None:
                report.take_over(kept)
                output.add(kept)
            else:
                yield page


def _refuse(page: PageInput, output: Output, report: Report) -> None:
    """Tell of a page that cannot be read, without a runtime."""
    message = str(page.error) if page.error else "the file changed while it was looked at: run the command again"
    code = page.error.code if page.error else ErrorCode.BAD_IMAGE
    failed = Page.from_failure(page, code, message, model="", fingerprint="", task="")
    report.page(failed)
    output.add(failed)


def _read(
    order: Order, documents: Sequence[Document], output: Output, report: Report, interruption: Interruption
) -> None:
    """Send the pages through a runtime; whatever ends this, pages that were read are written.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when what was in work is finished; at once after the second one.
    """
    from dotsctl.client.api import Client

    _explain_encoder(order, report)
    report.stage("loading the model")
    with Client(
        model=order.model,
        encoder=order.encoder,
        decoder=order.decoder,
        name=order.name,
        window=order.jobs,
        memory=order.memory,
    ) as client:
        report.detail(f"model {client.model_name}, encoder {client.encoder}, decoder {client.decoder}")
        report.stage("reading")
        unread = _unread(documents, output, _reading(order, client), report)
        try:
            with interruption.reading():
                for page in _pages(order, client, interruption.until_asked(unread), report.notice):
                    report.page(page)
                    output.add(page)
                if interruption.is_asked:
                    raise KeyboardInterrupt
            _warn_of_given_up(client, report)
        except OutputError:
            raise
        except KeyboardInterrupt:
            output.finish(is_whole=False)
            report.line(f"interrupted: {report.num_read} pages were read; the same command goes on with the rest")
            raise
        except DotsctlError:
            output.finish(is_whole=False)
            raise
        output.finish()


def _explain_encoder(order: Order, report: Report) -> None:
    """Report what ``auto`` does, where a runtime is started for this call."""
    choices = settings.choose(
        model=order.model, encoder=order.encoder, decoder=order.decoder, name=order.name, memory=order.memory
    )
    running = lock_holder(instance_directory(choices.name)) is not None
    if order.quiet or running or not settings.is_auto(choices.encoder):
        return
    if line := settings.runtime_config(choices, choices.name).auto_line:
        report.line(line)


def _warn_of_given_up(client: "Client", report: Report) -> None:
    """Report an encoder that ``auto`` does not use any more; no page has failed because of it."""
    if client.encoder != AUTO:
        return
    for worker in client.status().workers:
        if worker.state == GIVEN_UP and worker.note:
            report.notice(f"warning: encoder {worker.plugin} is {worker.note}")


def _pages(
    order: Order, client: "Client", inputs: Iterator[PageInput], notice: Callable[[str], None]
) -> Iterator[Page]:
    return client.ocr(
        inputs,
        task=order.task,
        prompt=read_prompt(order.prompt),
        box=parse_box(order.box),
        max_tokens=order.max_tokens,
        max_pixels=order.max_pixels,
        quality=order.quality,
        check_blank=not order.no_blank_check,
        reread=not order.no_reread,
        on_notice=notice,
    )


def _reading(order: Order, client: "Client") -> Reading:
    """How this runtime reads. Raises UsageError for a task that its model does not know."""
    if order.task is not None and order.task not in client.tasks:
        raise UsageError(f"unknown task {order.task!r}; {client.model_name} knows: {', '.join(client.tasks)}")
    task = order.task or client.tasks[0]
    if order.style().format_ == OVERLAY and not has_cells(task):
        raise UsageError(f"-f overlay draws boxes, and the task {task!r} gives none: choose another --task, as layout")
    reading = order.reading(client.fingerprint, client.encoder, client.decoder)
    return replace(reading, task=DEFAULT_TASK) if order.task == client.tasks[0] else reading
