"""The work and output of ``dotsctl pull``; all output is on standard error, as it has no results."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from dotsctl.client.cli.printing import print_line
from dotsctl.client.files.sizes import size_text, tree_bytes
from dotsctl.client.models.facts import model_fingerprint
from dotsctl.client.models.hub import Hub
from dotsctl.client.models.pull import PullRequest, pull, target_folder
from dotsctl.client.models.use import refuse_if_used
from dotsctl.protocol.model.tasks import read_own_prompts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class PullReport:
    """Lines for people, and a bar on a terminal; to be used as a context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self._is_quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "PullReport":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Remove the bar; after Ctrl-C print that nothing is lost."""
        if self._bar is not None:
            self._bar.stop()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.line("stopped; run the same command to resume")

    def line(self, text: str) -> None:
        """A fact, as one line."""
        if not self._is_quiet:
            print_line(text)

    def begin(self, size_bytes: int) -> None:
        """The files are fetched now; so many bytes in all."""
        if self._is_quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=size_bytes)
        self._bar.start()

    def advance(self, size_bytes: int) -> None:
        """Advance the bar by a number of bytes; a negative one moves it back."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, size_bytes)


def run_pull(request: PullRequest, *, quiet: bool) -> None:
    """Install a model, and print what can be done with it.

    Raises:
        DotsctlError: it could not be installed; see :func:`dotsctl.client.models.pull.pull`.
    """
    target = target_folder(request)
    if request.force and (target / "config.json").is_file():
        refuse_if_used(target.name, target)
    hub = Hub()
    with PullReport(quiet=quiet) as report:
        folder = pull(request, hub, report)
    digest = model_fingerprint(folder)  # while the files are in memory still, so that later commands have it
    size = size_text(tree_bytes(folder, of_links=True))
    report.line(f"{folder.name!r} is installed: {size}, fingerprint {digest[:12]}, in {folder}")
    if tasks := [task for task, text in read_own_prompts(folder).items() if text is not None]:
        report.line(f"it brings its own prompts for {', '.join(tasks)}")
    report.line(f"try: dotsctl ocr scan.png --model {folder.name}")
