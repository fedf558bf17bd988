"""The contract of hint plugins, and how they are found.

A hint is the text that a page probably holds, from another source than the model. A plugin is a class without
required arguments, registered in the entry-point group ``dotsctl.hints``. Its attribute ``description`` states whether
it can run here and what it reads (``protocol/worker/plugins.py``). The class is made and used in a render process
alone, on its main thread; whatever is heavy is imported in ``load``. There a plugin that hangs, crashes or takes too
much memory costs its own hint, and neither the page nor the run.
"""

from typing import Any, Protocol

from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.worker.plugins import HINT, Plugin, find_plugin, installed

AUTO = "auto"
"""The name that stands for the first plugin which can run here."""


class HintPlugin(Protocol):
    """The calls of a plugin, all on the main thread of one process."""

    def load(self) -> None:
        """Import and open what is needed; called once, before the first page.

        Raises:
            MissingError: a dependency is missing.
        """

    def hint(self, page: Any) -> PageHint | None:
        """Return the hint of a page, with the plugin's name as its ``source``; none: the page shows no text.

        Args:
            page: where ``description.reads_document``, the open ``pypdfium2.PdfPage``, which is not to be closed; else
                its pixels, an array of uint8 (height, width, 3), RGB, as viewers show it. Boxes are in points in the
                first case and in pixels in the second.
        """


def chosen_plugin(name: str, *, reads_document: bool) -> Plugin | None:
    """Return the plugin that makes hints; none: there is none of this kind.

    Args:
        name: of a plugin; ``auto``: the first one that can run here.
        reads_document: whether it is to read documents, or pixels.

    Raises:
        UsageError: there is no plugin of this name.
        MissingError: something that it imports is not installed.
        CommandFailedError: its import fails for another reason.
    """
    if name == AUTO:
        return _first(reads_document=reads_document)
    plugin = find_plugin(HINT, name)
    return plugin if plugin.description.reads_document == reads_document else None


def _first(*, reads_document: bool) -> Plugin | None:
    """Return the plugin of one kind with the lowest turn that can run here."""
    found = []
    for name in installed(HINT):
        try:
            plugin = find_plugin(HINT, name)
            about = plugin.description
            if about.reads_document == reads_document and about.turn is not None and not plugin.unavailable({}):
                found.append((about.turn, name, plugin))
        except DotsctlError:  # nobody has asked for it; 'dotsctl plugins' shows why it cannot be used
            continue
    return min(found, default=(0, "", None))[2]
