"""What ``dotsctl ocr`` says on standard error while it works: a bar, a line for each failed page, a summary."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import click
from dotsctl.client.records import PARTIAL, Page
from dotsctl.protocol.buckets import TOLERATED_LOSS
from dotsctl.protocol.errors import ErrorCode, ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

INPUT_ERRORS = {ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE}
"""Codes that tell of the input, not of the runtime."""


class Report:
    """Counts pages and tells of them; to be used as a context manager."""

    def __init__(self, num_documents: int, *, quiet: bool, verbose: bool) -> None:
        self.num_read = 0
        self.num_failed = 0
        self.num_skipped = 0
        self.num_taken_over = 0
        self._num_left = 0
        self._is_loss_reported = False
        self._num_documents = num_documents
        self._is_quiet = quiet
        self._is_verbose = verbose and not quiet
        self._codes: set[str] = set()
        self._several_pages: set[str] = set()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Report":
        """Show the bar, if somebody looks at a terminal."""
        if not self._is_quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._num_documents)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def stage(self, text: str) -> None:
        """Say beside the bar what is going on."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)

    def line(self, text: str) -> None:
        """One line on standard error, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    def notice(self, text: str) -> None:
        """A line about how pages are read, for those who want more than errors."""
        if not self._is_quiet:
            self.line(text)

    def detail(self, text: str) -> None:
        """A line for those who want to know more."""
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
        self.detail(f"{name}: done before")
        self._advance(1, 0)

    def leave(self, count: int) -> None:
        """Inputs that are left alone, as only those are wanted that failed before."""
        self._num_left = count
        self._advance(count, 0)

    def take_over(self, page: Page) -> None:
        """A page that an earlier run has read, which broke off before it was written."""
        self.num_taken_over += 1
        self.detail(f"{page.source}:{page.page}: read before the last run broke off")
        self._advance(1, self._more_pages(page))

    def _more_pages(self, page: Page) -> int:
        """How many pages a document has that the bar does not know of yet."""
        if len(page.wanted) == 1 or page.source in self._several_pages:
            return 0
        self._several_pages.add(page.source)
        return len(page.wanted) - 1

    def page(self, page: Page) -> None:
        """A page that came to its end."""
        more_pages = self._more_pages(page)
        place = f"{page.source}:{page.page}"
        if page.error is not None:
            self.num_failed += 1
            self._codes.add(page.error.code)
            self.line(f"{place}: {page.error.message}")
        else:
            self.num_read += 1
            if page.status == PARTIAL:
                self.notice(f"{place}: {_why_partial(page)}")
            if (page.resolution_loss or 0.0) > TOLERATED_LOSS and not self._is_loss_reported:
                self._is_loss_reported = True
                self.notice(f"{place}: {_what_was_lost(page)}")
            timings = "".join(f", {stage} {value:.0f} ms" for stage, value in page.timings_ms.items())
            self.detail(f"{place}: {page.status}, {page.tokens['completion']} tokens{timings}")
        self._advance(1, more_pages)

    def _advance(self, pages: int, more_pages: int) -> None:
        if self._bar is not None and self._task is not None:
            total = (self._bar.tasks[0].total or 0) + more_pages
            self._bar.update(self._task, advance=pages, total=total)

    def summary(self) -> None:
        """The last line; a single page that was printed needs none."""
        parts = [f"{self.num_read} page{'s' * (self.num_read != 1)} read"]
        if self.num_failed:
            parts.append(f"{self.num_failed} failed")
        if self.num_taken_over:
            parts.append(f"{self.num_taken_over} taken over from a run that broke off")
        if self.num_skipped:
            parts.append(f"{self.num_skipped} skipped (done before; --force reads again)")
        if self._num_left:
            parts.append(f"{self._num_left} input{'s' * (self._num_left != 1)} left alone (no failure is noted)")
        is_more_than_told = self.num_taken_over or self.num_skipped or self._num_left
        if not self._is_quiet and (self._num_documents > 1 or is_more_than_told):
            self.line(", ".join(parts))

    def exit_code(self) -> ExitCode:
        """The answer to the shell when the run came to its end."""
        if not self.num_failed:
            return ExitCode.OK
        if self._codes <= INPUT_ERRORS and not (self.num_read or self.num_skipped or self.num_taken_over):
            return ExitCode.NO_INPUT
        return ExitCode.SOME_FAILED


def _what_was_lost(page: Page) -> str:
    """How much smaller a page was read than its quality says, and the remedy."""
    lower = {"full": "--quality balanced or ", "balanced": "--quality fast or "}.get(page.quality or "", "")
    return (
        f"encoder {page.encoder} has no page size for it: read with {page.resolution_loss:.0%} less resolution, at "
        f"{page.input_width}x{page.input_height} px. Choose {lower}--encoder mlx. Further such pages are not reported; "
        "resolution_loss in the JSON output has the loss of each"
    )


def _why_partial(page: Page) -> str:
    """Why a page is not whole, in words for people."""
    reasons = {
        "length": "the text is cut, the limit of tokens was reached",
        "loop": "the text repeated itself and was cut",
    }
    told = [reasons[page.finish_reason]] if page.finish_reason in reasons else []
    return "; ".join([*told, *page.repaired])
