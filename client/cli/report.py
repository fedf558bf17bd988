"""The report of ``dotsctl ocr`` on standard error: a bar or a line a minute, failed pages, a summary."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from dotsctl.client.cli.pace import RunPace
from dotsctl.client.cli.printing import for_terminal, print_line
from dotsctl.client.outputs.output_base import OutputEvents
from dotsctl.client.results.page import BLANK, PARTIAL, Page
from dotsctl.protocol.errors import DotsctlError, ErrorCode, ExitCode
from dotsctl.protocol.model.buckets import TOLERATED_LOSS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MOST_BLANK_NAMED = 5
"""Blank pages that the summary names."""
LINE_EVERY_S = 60.0
"""The interval between two lines of progress where standard error is no terminal, as in a log of cron or launchd."""
INPUT_ERRORS = {ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE}
"""The codes of errors of the input, not of the runtime."""


class ProgressReport(OutputEvents):
    """Counts and reports pages; to be used as a context manager."""

    def __init__(self, num_documents: int, *, quiet: bool, verbose: bool, is_printed: bool = False) -> None:
        """Begin with nothing read.

        Args:
            num_documents: inputs of the run.
            quiet: errors alone.
            verbose: a line for each page.
            is_printed: the text goes to standard output, so that a single page needs no summary.
        """
        self.num_read = 0
        self.num_partial = 0
        self.num_blank = 0
        self._blank: list[str] = []
        self._is_printed = is_printed
        self.num_failed = 0
        self.num_skipped = 0
        self.num_resumed = 0
        self.num_lost = 0
        self.num_kept = 0
        self.num_elsewhere = 0
        self._num_ok = 0
        self._is_loss_reported = False
        self._num_documents = num_documents
        self._is_quiet = quiet
        self._is_verbose = verbose and not quiet
        self._codes: set[str] = set()
        self._opened: set[str] = set()
        self._pace = RunPace(num_documents)
        self._ended = threading.Event()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressReport":
        """Show the bar, if standard error is a terminal; else a line a minute."""
        if not self._is_quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._num_documents, pace="")
            self._bar.start()
        elif not self._is_quiet:
            threading.Thread(target=self._print_pace, name="progress", daemon=True).start()
        return self

    def _print_pace(self) -> None:
        """Print a line from time to time, until the run ends; in a thread, for a page may take minutes."""
        while not self._ended.wait(LINE_EVERY_S):
            counts = ((self.num_partial, "partial"), (self.num_failed, "failed"))
            self.line(", ".join([self._pace.text(), *(f"{count} {what}" for count, what in counts if count)]))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Take the bar away, or end the lines."""
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()

    def stage(self, text: str) -> None:
        """Show the present stage next to the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)

    def start_reading(self) -> None:
        """Show that pages are read now, and measure the time of pages from here on."""
        self._pace.start()
        self.stage("reading")

    def line(self, text: str) -> None:
        """One line on standard error, above the bar."""
        if self._bar is not None:
            self._bar.console.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print_line(text)

    def notice(self, text: str) -> None:
        """A line about how pages are read, for those who want more than errors."""
        if not self._is_quiet:
            self.line(text)

    def detail(self, text: str) -> None:
        """Print a line in verbose output."""
        if self._is_verbose:
            self.line(text)

    @contextmanager
    def bar_hidden(self) -> Iterator[None]:
        """Take the bar away while results are printed to the same terminal."""
        bar = self._bar if sys.stdout.isatty() else None
        if bar is not None:
            bar.stop()
        yield
        if bar is not None:
            bar.start()

    def skip(self, name: str) -> None:
        """An input that an earlier run has finished."""
        self.num_skipped += 1
        self.detail(f"{name}: already done")
        self._pass_over(1)

    def keep_changed(self, path: str) -> None:
        """See :class:`OutputEvents`."""
        self.num_kept += 1
        self.notice(f"{path} is kept: it was edited, or dotsctl did not write it")
        self._pass_over(1)

    def lose(self, source: str, error: DotsctlError) -> None:
        """See :class:`OutputEvents`."""
        self.num_lost += 1
        self.line(f"{source}: {error}")

    def note(self, source: str, text: str) -> None:
        """See :class:`OutputEvents`."""
        self.notice(f"{source}: {text}")

    def read_elsewhere(self, pages: int) -> None:
        """See :class:`OutputEvents`."""
        self.num_elsewhere += pages
        self._pass_over(1)

    def skip_successful(self, count: int) -> None:
        """Count inputs that are skipped, as only those that failed before are read."""
        self._num_ok = count
        self._pass_over(count)

    def resume(self, page: Page) -> None:
        """A page that an earlier run read before it was interrupted."""
        self.num_resumed += 1
        self.detail(f"{page.source}:{page.page}: resumed from an interrupted run")
        self._advance(page, is_read=False)

    def page(self, page: Page) -> None:
        """A page that came to its end."""
        page_name = f"{page.source}:{page.page}"
        if page.error is not None:
            self.num_failed += 1
            self._codes.add(page.error.code)
            self.line(f"{page_name}: {page.error.message}")
        else:
            self.num_read += 1
            if page.status == PARTIAL:
                self.num_partial += 1
                self.notice(f"{page_name}: partial: {_why_partial(page)}")
            if page.status == BLANK:
                self.num_blank += 1
                self._blank += [page_name] if len(self._blank) < MOST_BLANK_NAMED else []
            if (page.resolution_loss or 0.0) > TOLERATED_LOSS and not self._is_loss_reported:
                self._is_loss_reported = True
                self.notice(f"{page_name}: {_what_was_lost(page)}")
            timings = "".join(f", {stage} {value:.0f} ms" for stage, value in page.timings_ms.items())
            self.detail(f"{page_name}: {page.status}, {page.tokens['completion']} tokens{timings}")
        self._advance(page, is_read=True)

    def _advance(self, page: Page, *, is_read: bool) -> None:
        """Count a page; the first one of a document tells how many the document has."""
        if page.source not in self._opened:
            self._pace.open(len(page.requested))
            if len(page.requested) > 1:
                self._opened.add(page.source)
        self._pace.add(is_read=is_read)
        self._show_pace()

    def _pass_over(self, documents: int) -> None:
        self._pace.pass_over(documents)
        self._show_pace()

    def _show_pace(self) -> None:
        if self._bar is not None and self._task is not None:
            pace = self._pace
            self._bar.update(self._task, completed=pace.done, total=pace.total, pace=pace.text())

    def summary(self) -> None:
        """Print the last line; a single page that was printed needs none."""
        parts = [f"{self.num_read} page{'s' * (self.num_read != 1)} read"]
        if self.num_partial:
            parts[0] += f", {self.num_partial} of them partial (text is missing)"
        if self.num_blank:
            more = ", ..." if self.num_blank > len(self._blank) else ""
            parts.append(f"{self.num_blank} blank ({', '.join(self._blank)}{more})")
        if self.num_failed:
            parts.append(f"{self.num_failed} failed")
        if self.num_lost:
            parts.append(f"{self.num_lost} result{'s' * (self.num_lost != 1)} not written")
        if self.num_elsewhere:
            parts.append(f"{self.num_elsewhere} page{'s' * (self.num_elsewhere != 1)} read by another run")
        if self.num_resumed:
            parts.append(f"{self.num_resumed} resumed from an interrupted run")
        if self.num_skipped:
            parts.append(f"{self.num_skipped} skipped (already done; --force reads them again)")
        if self.num_kept:
            parts.append(f"{self.num_kept} kept (edited, or not written by dotsctl; --overwrite replaces them)")
        if self._num_ok:
            parts.append(f"{self._num_ok} input{'s' * (self._num_ok != 1)} skipped (no recorded failure)")
        has_other_counts = any((self.num_resumed, self.num_skipped, self._num_ok, self.num_kept, self.num_elsewhere))
        needs_one = not self._is_printed or self._num_documents > 1 or has_other_counts
        if not self._is_quiet and (needs_one or self.num_partial or self.num_blank):
            self.line(", ".join(parts))

    def exit_code(self, *, strict: bool = False) -> ExitCode:
        """Return the exit code of a run that came to its end; ``strict`` counts partial pages as failed."""
        if not self.num_failed:
            is_bad = self.num_lost or (strict and self.num_partial)
            return ExitCode.SOME_FAILED if is_bad else ExitCode.OK
        others = (self.num_read, self.num_skipped, self.num_resumed, self.num_kept, self.num_elsewhere)
        if self._codes <= INPUT_ERRORS and not any(others):
            return ExitCode.NO_INPUT
        return ExitCode.SOME_FAILED


def _what_was_lost(page: Page) -> str:
    """Return how much smaller a page was read than its quality implies, and the remedy."""
    lower = {"full": "--quality balanced or ", "balanced": "--quality fast or "}.get(page.quality or "", "")
    return (
        f"encoder {page.encoder} has no page size for it: read with {page.resolution_loss:.0%} less resolution, at "
        f"{page.input_width}x{page.input_height} px. Choose {lower}--encoder mlx. Further such pages are not reported; "
        "resolution_loss in the JSON output has the loss of each"
    )


def _why_partial(page: Page) -> str:
    """The reason why a page is partial, for people."""
    reasons = {
        "length": "the text was truncated at the token limit",
        "loop": "repetition was detected and the text truncated",
    }
    reasons_shown = [reasons[page.finish_reason]] if page.finish_reason in reasons else []
    return "; ".join([*reasons_shown, *page.repaired])
