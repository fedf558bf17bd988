"""Pages through a decoder plugin in this process, one at a time, without a runtime."""

from pathlib import Path

from dotsctl.client.config import PluginChoice
from dotsctl.decoder_worker.plugin import Decoder, DecoderSpec, EncodedPrompt, Finish
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.worker_shell import find_plugin, import_errors
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
        with import_errors(f"decoder {choice.name!r}"):
            self._decoder: Decoder = find_plugin("dotsctl.decoders", choice.name)()
            try:
                self.spec: DecoderSpec = self._decoder.load(model, choice.options, note)
            except BaseException:  # the contract: closed once, also after a failed load
                self._decoder.close()
                raise

    def read(self, page: EncodedPage, task: str) -> Finish:
        """Read one page to its end. Pages never share a pass, so that a text depends on its own page alone.

        Raises:
            PageError: this page cannot be decoded, or there is not enough memory for it.
        """
        self._count += 1
        prompt = EncodedPrompt(self._count, page.embeddings, task, None, None, "", (page.grid,), page.geometry)
        try:
            self._decoder.admit(prompt)
            while True:
                for piece in self._decoder.step():
                    if piece.page_id == self._count and piece.finish is not None:
                        return piece.finish
        except MemoryError:
            raise PageError("not enough memory to decode this page: lower --max-pixels", ErrorCode.OOM) from None
        finally:
            self._decoder.cancel(self._count)

    def close(self) -> None:
        """Free the model."""
        self._decoder.close()
