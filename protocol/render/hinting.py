"""The hint plugins in a render process: loaded when they are needed, and never the cause of a page's failure."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.render.exchange import HintAnswer
from dotsctl.protocol.render.memory import AddressSpace

if TYPE_CHECKING:
    from dotsctl.protocol.render.hint_plugin import HintPlugin
    from dotsctl.protocol.render.pdf import OpenPdf
    from dotsctl.protocol.render.pictures import OpenPicture

NICENESS = 10
"""A plugin that reads pixels computes for seconds, and must not take this time from the model."""


class Hints:
    """All plugins of this process."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._loaded: dict[str, HintPlugin | None] = {}

    def of_document(self, name: str, document: "OpenPdf | OpenPicture", page: int) -> HintAnswer:
        """Return the hint of a page, from 1, of an open document; ``name`` as in ``RenderRequest.hint``."""
        return self._answer(name, lambda plugin: document.hint(page, plugin), reads_document=True)

    def of_pixels(self, name: str, content: bytes, size: tuple[int, int]) -> HintAnswer:
        """Return the hint of a page of uint8 (height, width, 3); ``size`` is its width and height."""
        if not self._loaded:
            os.nice(NICENESS)

        def hint(plugin: "HintPlugin") -> PageHint | None:
            import numpy as np

            return plugin.hint(np.frombuffer(content, np.uint8).reshape(size[1], size[0], 3))

        return self._answer(name, hint, reads_document=False)

    def _answer(
        self, name: str, hint: "Callable[[HintPlugin], PageHint | None]", *, reads_document: bool
    ) -> HintAnswer:
        """The hint of a plugin, or why there is none."""
        from dotsctl.protocol.worker.plugin_faults import load_faults

        where = f"hint {name!r}"
        try:
            with load_faults(where, "load"):
                plugin = self._plugin(name, reads_document=reads_document)
            with load_faults(where, "hint"):
                found = hint(plugin) if plugin is not None else None
                if not isinstance(found, PageHint | None):
                    raise TypeError(f"it returned a {type(found).__name__}, not a PageHint")
        except (DotsctlError, RuntimeError) as error:  # RuntimeError: a GPU that refuses work
            return HintAnswer(problem=str(error))
        return HintAnswer(found)

    def _plugin(self, name: str, *, reads_document: bool) -> "HintPlugin | None":
        """Load the plugin of a name once; none: there is none that can run here."""
        if name not in self._loaded:
            with self._space.importing():
                from dotsctl.protocol.render.hint_plugin import chosen_plugin

                chosen = chosen_plugin(name, reads_document=reads_document)
                plugin: HintPlugin | None = None if chosen is None else chosen.cls()
                if plugin is not None:
                    plugin.load()
            self._loaded[name] = plugin
        return self._loaded[name]
