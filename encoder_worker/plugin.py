"""What an encoder plugin is.

A plugin is a class without required arguments, registered in the entry-point group ``dotsctl.encoders``; the
in-tree ones are registered the same way. It is imported and used in the encoder worker's process alone, always on
the main thread, so a broken one breaks neither the command line nor the decoder. The worker makes one object and
calls ``load`` once, ``encode`` for a warm-up page and then for request after request, and ``close`` at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.parts import Device
from numpy.typing import NDArray

Report = Callable[[str], None]
"""Tells the supervisor that loading goes on; each call extends the load deadline."""


@dataclass(frozen=True)
class PageImage:
    """One page as it came from the client."""

    content: bytes | None
    """Bytes of an image file, or none when ``pixels`` is given."""
    pixels: NDArray[np.uint8] | None
    """(height, width, 3) RGB."""
    max_pixels: int | None
    """The limit of pixels after resizing that the quality and the user set; none: the model's own."""
    check_blank: bool = False
    """Whether to raise :class:`BlankPage` where nothing is on the page."""
    trim_margins: bool = False
    """Whether clearly white margins are to be trimmed before the page is resized."""


class BlankPage(Exception):
    """Nothing is on the page, so there is nothing to encode."""

    def __init__(self, geometry: PageGeometry, timings_ms: dict[str, float] | None = None) -> None:
        """Tell where the page lies, and how many milliseconds each stage took up to here."""
        super().__init__("the page is blank")
        self.geometry = geometry
        self.timings_ms = timings_ms or {}


@dataclass(frozen=True)
class EncoderSpec:
    """What ``load`` answers."""

    fingerprint: str
    """Of the model, as :func:`dotsctl.protocol.model_directory.fingerprint` computes it."""
    width: int
    """Columns of the embeddings: the decoder's hidden size."""
    dtype: str
    """Of the embeddings: ``<f4``, ``<f2``, or ``bf16`` held as uint16."""
    buckets: tuple[int, ...] = ()
    """Numbers of patches that a page can have for a plugin with fixed page sizes, ascending; empty: any number."""
    device: Device = Device.CPU
    """Where the plugin computes."""


@dataclass(frozen=True)
class EncodedPage:
    """What ``encode`` answers."""

    embeddings: NDArray[Any]
    """(num_embeddings, width), contiguous, with ``num_embeddings`` = grid height * grid width / 4."""
    grid: tuple[int, int]
    """Patches from top to bottom and from left to right."""
    geometry: PageGeometry
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage, for the page's record: ``open``, ``resize`` and ``encode``, whose meaning stands in
    ``client/records.py``. What is left out counts as ``encode``."""


class Encoder(Protocol):
    """The three calls of a plugin, all on the main thread of the encoder worker."""

    def load(self, model: Path, options: dict[str, str], report: Report) -> EncoderSpec:
        """Load the model; called once, before everything else.

        Args:
            model: the model directory.
            options: what the user wrote behind the plugin's name, ``NAME:key=value,...``.
            report: to be called when a long load moves on.

        Raises:
            UsageError: an unknown option or a wrong value.
            MissingError: a dependency or a file is missing.
        """

    def encode(self, images: Sequence[PageImage]) -> list[EncodedPage]:
        """Encode the images of one request, in order: nearly always one.

        The worker sends the arrays before the next call and keeps no reference afterwards.

        Raises:
            PageError: an image cannot be read; the worker goes on with the next request.
            MemoryError: there is not enough memory now; the request is tried once more, alone.
            BlankPage: an image with ``check_blank`` has nothing on it.
        """

    def close(self) -> None:
        """Free everything; called once, also after a failed ``load``."""
