"""Pages through a decoder plugin in this process, one at a time, without a runtime."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.loading import load_decoder
from dotsctl.decoder_worker.plugin import EncodedPrompt, Finish
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import find_plugin
from dotsctl.tools.measuring.encoding import Note


class PageReader:
    """A decoder plugin. All calls in the main thread, as plugins expect it."""

    def __init__(self, choice: PluginChoice, model: Path, note: Note) -> None:
        """Import the plugin and load the model, as the decoder worker does.

        Raises:
            UsageError: there is no such plugin, or one of its options is wrong.
            MissingError: a dependency or a file of the model is missing.
            CommandFailedError: the plugin cannot be imported.
        """
        self._count = 0
        plugin = find_plugin(Role.DECODER, choice.name)
        with redirect_stdout(sys.stderr):  # results go to standard output, whatever a plugin prints
            self._decoder, self.spec = load_decoder(plugin, model, choice.options, note)

    def read(self, page: EncodedPage, task: str) -> Finish:
        """Read one page to its end. Pages never share a pass, so that a text depends on its own page alone.

        Raises:
            PageError: this page cannot be decoded, or there is not enough memory for it.
        """
        self._count += 1
        prompt = EncodedPrompt(self._count, page.embeddings, task, None, None, None, geometry=page.geometry)
        try:
            self._decoder.admit(prompt)
            while True:
                for piece in self._decoder.step():
                    if piece.page_id == self._count and piece.finish is not None:
                        return piece.finish
        except MemoryError:
            raise PageError("not enough memory to decode this page", "lower --max-pixels", code=ErrorCode.OOM) from None
        finally:
            self._decoder.cancel(self._count)

    def close(self) -> None:
        """Free the model."""
        self._decoder.close()
