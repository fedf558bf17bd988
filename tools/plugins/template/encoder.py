"""An encoder plugin for dotsctl. It runs as it is; replace the mean colours with your network.

``dotsctl plugins check template`` runs the contract's tests on it. The interface, with all types and errors, is
``dotsctl.encoder_worker.plugin``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.parts import Device
from dotsctl.protocol.worker.plugin_options import option
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:  # the command line imports this module to list plugins: import numpy and frameworks in load
    import numpy as np
    from dotsctl.encoder_worker.image import Patches
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TemplateEncoderOptions:
    """Options of ``--encoder template:key=value,...``; ``dotsctl plugins`` lists them."""

    brightness: float = option(1.0, "factor of all colours", minimum=0, maximum=10)


class TemplateEncoder:
    """The mean colour of each 28x28 pixels, repeated over the width of the embeddings."""

    description = PluginDescription(help="The mean colour of each cell of a page.", options=TemplateEncoderOptions)

    def load(self, model: Path, options: TemplateEncoderOptions, report: Report) -> EncoderSpec:
        """Read what is needed of the model; call ``report`` at least once a minute meanwhile."""
        from dotsctl.encoder_worker.opening import read_limits

        report("reading the configuration of the model")
        self._options, self._limits = options, read_limits(model)
        self._width = int(read_json(model, "config.json")["hidden_size"])
        return EncoderSpec(fingerprint(model), self._width, "<f4", device=Device.CPU)

    def prepare(self, image: PageImage) -> "tuple[Patches, dict[str, float]]":
        """Return the patches of an image; called in another thread, for the next page while ``encode`` runs.

        It opens the page, raises BlankPage where that was requested, and applies the resize rule and max_pixels.
        """
        from dotsctl.encoder_worker.opening import prepare_page

        return prepare_page(image, self._limits)

    def encode(self, images: "Sequence[tuple[Patches, dict[str, float]]]") -> list[EncodedPage]:
        """Encode each prepared image: one embedding for each block of 2x2 patches, from left to right, then down."""
        pages = []
        for patches, timings_ms in images:
            embeddings = self._embed(patches.values)  # (patches / 4, width)
            pages.append(EncodedPage(embeddings, patches.grid, patches.geometry, timings_ms))
        return pages

    def _embed(self, values: "NDArray[np.float32]") -> "NDArray[Any]":
        """Return embeddings (n / 4, width) of patches (n, 588); the four patches of a block follow each other."""
        import numpy as np

        blocks = values.reshape(-1, 4, 3, 196)  # (n / 4, patches of a block, colours, pixels)
        colours = blocks.mean(axis=(1, 3)) * self._options.brightness  # (n / 4, 3)
        repeated = np.resize(np.arange(3), self._width)  # (width,) 0, 1, 2, 0, 1, 2, ...
        return np.ascontiguousarray(colours[:, repeated], np.float32)  # (n / 4, width)

    def close(self) -> None:
        """Free everything; called once, also after a failed ``load``."""
