"""Pages through an encoder plugin in this process, without a runtime: for ``dotsctl embed`` and for quality reports."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.checks import checked
from dotsctl.encoder_worker.loading import load_encoder
from dotsctl.encoder_worker.plugin import EncodedPage, PageImage, encode_images
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import find_plugin
from numpy.typing import NDArray

Note = Callable[[str], None]
"""Reports the progress to the user."""


class PageEncoder:
    """An encoder plugin. All calls in the main thread, as plugins expect it."""

    def __init__(self, choice: PluginChoice, model: Path, note: Note) -> None:
        """Import the plugin, load the model and encode a tiny page, as the encoder worker does.

        Raises:
            UsageError: there is no such plugin, or one of its options is wrong.
            MissingError: a dependency or a file of the model is missing.
            CommandFailedError: the plugin cannot be imported, raises, or answers wrongly.
        """
        plugin = find_plugin(Role.ENCODER, choice.name)
        with redirect_stdout(sys.stderr):  # results go to standard output, whatever a plugin prints
            self._encoder, self.spec = load_encoder(plugin, model, choice.options, note)

    def encode(self, page: PageInput, max_pixels: int | None) -> EncodedPage:
        """Encode a page; its embeddings (num_embeddings, width) are checked as before they are sent to a decoder.

        They are to be used or copied before the next call.

        Raises:
            PageError: the page cannot be read or encoded, or the plugin's result is no sound embedding.
        """
        return self.encode_image(page_image(page, max_pixels))

    def encode_image(self, image: PageImage) -> EncodedPage:
        """The same for a picture in the form in which the worker gives it to a plugin."""
        with redirect_stdout(sys.stderr):
            pages = encode_images(self._encoder, [image])
        checked(pages, 1, self.spec)
        (page,) = pages
        return page

    def close(self) -> None:
        """Free the model."""
        self._encoder.close()


def page_image(page: PageInput, max_pixels: int | None) -> PageImage:
    """Read a page in the form in which the worker gives it to a plugin. Raises PageError."""
    header, content, _ = page.load()
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
