"""The contract of encoder plugins.

A plugin is a class without required arguments, registered in the entry-point group ``dotsctl.encoders``; the
in-tree ones are registered the same way. Its attribute ``description`` states its options, its memory, and whether it
can run here (``protocol/worker/plugins.py``). The command line imports the module of a plugin that is chosen, so what
is heavy (numpy, a framework) is imported in ``load``. The object is made and used in the encoder worker's process
alone, always on the main thread. The worker calls ``load`` once, ``encode`` for a warm-up page and then for request
after request, and ``close`` at the end.

A plugin may have a fourth method, ``prepare`` (:class:`PreparingEncoder`): what a page takes before the device is
needed. The worker calls it in a second thread for the next request while ``encode`` computes the present one, so that
the device does not wait for it. It prepares one request ahead and no more.

Whatever a plugin raises in ``load`` or on the warm-up page ends the worker with one line that names the plugin and the
exception; it is not started again. What it raises later fails the page alone. ``encoder_worker/checks.py`` checks every
answer, that to the warm-up page included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.parts import Device

if TYPE_CHECKING:  # the command line imports plugins for what they state about themselves
    import numpy as np
    from numpy.typing import NDArray

Report = Callable[[str], None]
"""Reports to the supervisor that loading continues; each call extends the load deadline."""


@dataclass(frozen=True)
class PageImage:
    """One page as it came from the client."""

    content: bytes | None
    """Bytes of an image file, or none when ``pixels`` is given."""
    pixels: "NDArray[np.uint8] | None"
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
        """Store where the page lies, and how many milliseconds each stage took up to here."""
        super().__init__("the page is blank")
        self.geometry = geometry
        self.timings_ms = timings_ms or {}


@dataclass(frozen=True)
class EncoderSpec:
    """The result of ``load``."""

    fingerprint: str
    """The fingerprint of the model, as :func:`dotsctl.protocol.model.directory.fingerprint` computes it."""
    width: int
    """Columns of the embeddings: the decoder's hidden size."""
    dtype: str
    """The type of the embeddings: ``<f4``, ``<f2``, or ``bf16`` held as uint16."""
    buckets: tuple[int, ...] = ()
    """Numbers of patches that a page can have for a plugin with fixed page sizes, ascending; empty: any number."""
    device: Device = Device.CPU
    """The device on which the plugin computes."""
    merge: int = 2
    """Side, in patches, of the block that becomes one embedding."""


@dataclass(frozen=True)
class EncodedPage:
    """The result of ``encode`` for one image."""

    embeddings: "NDArray[Any]"
    """(num_embeddings, width), contiguous, with ``num_embeddings`` = grid height * grid width / merge squared."""
    grid: tuple[int, int]
    """Patches from top to bottom and from left to right."""
    geometry: PageGeometry
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage, for the page's record: ``open``, ``resize`` and ``encode``, whose meaning is documented in
    ``client/results/page.py``. What is left out counts as ``encode``."""


class Encoder(Protocol):
    """The three calls of every plugin, all on the main thread of the encoder worker."""

    def load(self, model: Path, options: Any, report: Report) -> EncoderSpec:
        """Load the model; called once, before everything else.

        Args:
            model: the model directory.
            options: what the user wrote behind the plugin's name, ``NAME:key=value,...``, as the dataclass that
                ``description.options`` names; without one, a dictionary of texts; one that ``load`` does not
                look up is refused.
            report: to be called when a long load moves on.

        Raises:
            UsageError: options that do not fit the model.
            MissingError: a dependency or a file is missing.
        """

    def encode(self, images: Sequence[Any]) -> list[EncodedPage]:
        """Encode the images of one request, in order: nearly always one.

        Each is a :class:`PageImage`, or what ``prepare`` returned for it where the plugin has that method. The worker
        sends the arrays before the next call and keeps no reference afterwards.

        Raises:
            PageError: an image cannot be read; the worker continues with the next request.
            MemoryError: there is not enough memory now; the request is tried once more, alone.
            BlankPage: an image with ``check_blank`` has nothing on it.
        """

    def close(self) -> None:
        """Free everything; called once, also after a failed ``load``."""


@runtime_checkable
class PreparingEncoder(Encoder, Protocol):
    """A plugin that prepares pages beside its computation."""

    def prepare(self, image: PageImage) -> Any:
        """Return one image in the form that ``encode`` takes: opened, resized, cut into patches.

        Called in a thread of its own, one call at a time, while ``encode`` may run on the main thread: it computes
        with Pillow and numpy, never on the plugin's device, and changes nothing that ``encode`` uses. What it raises
        is the outcome of the request, as if ``encode`` had raised it. The result is dropped when the request is
        cancelled.

        Raises:
            PageError, MemoryError, BlankPage: see ``encode``.
        """


def prepared(encoder: Encoder, images: Sequence[PageImage]) -> list[Any]:
    """Return images in the form that the ``encode`` of a plugin takes. Raises what ``prepare`` raises."""
    return [encoder.prepare(image) for image in images] if isinstance(encoder, PreparingEncoder) else list(images)


def encode_images(encoder: Encoder, images: Sequence[PageImage]) -> list[EncodedPage]:
    """Prepare and encode the images of one request, one after the other. Raises what the plugin raises."""
    return encoder.encode(prepared(encoder, images))
