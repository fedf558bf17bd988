"""One run, several outputs: each gets every page."""

from collections.abc import Sequence

from dotsctl.client.outputs.output_base import Output
from dotsctl.client.results.page import Page


class SeveralOutputs(Output):
    """Gives every page to each of its outputs. What an earlier run has read is read again."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        """Take the outputs in the order in which they are written."""
        self._outputs = outputs

    def prepare(self) -> None:
        """See :meth:`Output.prepare`; the first output that cannot be written ends the run."""
        for output in self._outputs:
            output.prepare()

    def add(self, page: Page) -> None:
        """See :meth:`Output.add`."""
        for output in self._outputs:
            output.add(page)

    def finish(self, *, is_complete: bool = True) -> None:
        """See :meth:`Output.finish`."""
        for output in self._outputs:
            output.finish(is_complete=is_complete)

    def close(self) -> None:
        """See :meth:`Output.close`."""
        for output in self._outputs:
            output.close()
