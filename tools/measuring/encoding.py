"""Pages through an encoder plugin in this process, without a runtime: for ``dotsctl embed`` and for quality reports."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.client.config import PluginChoice
from dotsctl.client.inputs import PageInput
from dotsctl.encoder_worker.main import blank_page
from dotsctl.encoder_worker.plugin import EncodedPage, Encoder, EncoderSpec, PageImage
from dotsctl.protocol import tensor
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, PageError
from dotsctl.protocol.parts import ImageKind
from dotsctl.protocol.worker_shell import find_plugin, import_errors
from numpy.typing import NDArray

Note = Callable[[str], None]
"""Tells the user what goes on."""


class PageEncoder:
    """An encoder plugin. All calls in the main thread, as plugins expect it."""

    def __init__(self, choice: PluginChoice, model: Path, note: Note) -> None:
        """Import the plugin, load the model and encode a tiny page, as the encoder worker does.

        Raises:
            UsageError: there is no such plugin, or one of its options is wrong.
            MissingError: a dependency or a file of the model is missing.
            CommandFailedError: the plugin cannot be imported.
        """
        with import_errors(f"encoder {choice.name!r}"):
            self._encoder: Encoder = find_plugin("dotsctl.encoders", choice.name)()
            try:
                self.spec: EncoderSpec = self._encoder.load(model, choice.options, note)
                self._encode(PageImage(blank_page(), None, None))
            except BaseException as error:  # the contract: closed once, also after a failed load
                self._encoder.close()
                if isinstance(error, PageError):
                    raise CommandFailedError(f"encoder {choice.name!r} fails at a blank page: {error}") from error
                raise

    def encode(self, page: PageInput, max_pixels: int | None) -> EncodedPage:
        """Encode a page; its embeddings (num_embeddings, width) are checked as before they are sent to a decoder.

        They are to be used or copied before the next call.

        Raises:
            PageError: the page cannot be read or encoded, or the plugin's result is no sound embedding.
        """
        return self.encode_image(page_image(page, max_pixels))

    def encode_image(self, image: PageImage) -> EncodedPage:
        """The same for a picture in the form in which the worker gives it to a plugin."""
        return self._encode(image)

    def close(self) -> None:
        """Free the model."""
        self._encoder.close()

    def _encode(self, image: PageImage) -> EncodedPage:
        (page,) = self._encoder.encode([image])
        header = tensor.describe(page.embeddings, self.spec.dtype)
        rows, columns = page.grid
        if header.shape != (rows * columns // 4, self.spec.width):
            raise PageError(
                f"the encoder made embeddings of shape {header.shape} for a grid of {rows}x{columns} patches and width "
                f"{self.spec.width}",
                ErrorCode.BAD_EMBED,
            )
        return page


def page_image(page: PageInput, max_pixels: int | None) -> PageImage:
    """Read a page in the form in which the worker gives it to a plugin. Raises PageError."""
    header, content, _ = page.load()
    if header.kind is ImageKind.FILE:
        return PageImage(bytes(content), None, max_pixels)
    pixels = np.frombuffer(content, np.uint8).reshape(header.height, header.width, 3)
    return PageImage(None, pixels, max_pixels)


def kept(page: EncodedPage) -> EncodedPage:
    """The page with embeddings of its own, which stay when the plugin encodes the next one."""
    return replace(page, embeddings=page.embeddings.copy())


def as_float32(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    """Embeddings as float32, exactly: float16 and bfloat16, held as uint16, have fewer bits in the same places."""
    if embeddings.dtype == np.uint16:
        return (embeddings.astype(np.uint32) << 16).view(np.float32)
    return embeddings.astype(np.float32)
