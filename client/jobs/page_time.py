"""Predicts how long a page takes on this machine at some resolution: from measured costs, else from a table of chips.

In a full pipeline one page is encoded while earlier ones are decoded. So a page takes the longer half where the halves
compute on different devices, and the sum of both where they share one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.geometry import PATCH_PX, PixelLimits, fit
from dotsctl.protocol.machine.chips import ChipSpeed, chip_speed
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.machine.measured_costs import MeasuredCosts, recall
from dotsctl.protocol.messages import Welcome
from dotsctl.protocol.model.buckets import TOLERATED_LOSS, place
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.config import CONFIG, sizes
from dotsctl.protocol.model.layout import TextSizes, VisionSizes
from dotsctl.protocol.model.quantisation import Quantisation, chosen_quantisation, stored_quantisation
from dotsctl.protocol.model.validation import read_limits
from dotsctl.protocol.parts import Capability, Device

TOKENS_A_PAGE = 800.0
"""Length of an answer before any was measured: a page of text."""
HALF_BYTES = 2
"""Bytes of a number in half precision."""
PATCHES_AN_EMBEDDING = 4


@dataclass(frozen=True)
class Pipeline:
    """Everything that decides how long a page takes."""

    vision: VisionSizes
    text: TextSizes
    limits: PixelLimits
    encoders: tuple[tuple[str, Capability], ...]
    """Plugin and options of the encoders that may read the page."""
    decoder: str
    decoder_device: Device
    bits: float
    """Bits of a weight of the decoder."""
    measured: MeasuredCosts
    speed: ChipSpeed | None
    """The speed of this machine's chip; none: there is no figure for it."""

    def page_s(self, size: tuple[int, int], max_pixels: int | None) -> float | None:
        """Seconds of a page; none: nothing is known.

        Args:
            size: width and height as stored, in pixels.
            max_pixels: most pixels of the resized page; none: the model's limit.

        Raises:
            PageError: the page cannot be resized.
        """
        known = [found for encoder in self.encoders if (found := self._page_s(size, max_pixels, *encoder))]
        lossless = [seconds for seconds, loss in known if loss <= TOLERATED_LOSS]
        return min(lossless or [seconds for seconds, _ in known], default=None)

    def loss(self, size: tuple[int, int], max_pixels: int | None) -> float:
        """The share of resolution that a page loses at least in an encoder's page sizes. Raises PageError."""
        return min(self._patches(size, max_pixels, capability)[1] for _, capability in self.encoders)

    def _page_s(
        self, size: tuple[int, int], max_pixels: int | None, encoder: str, capability: Capability
    ) -> tuple[float, float] | None:
        """Seconds and loss with one encoder; none: nothing is known."""
        patches, loss = self._patches(size, max_pixels, capability)
        decode_s = self._decode_s(patches)
        for decoder_busy in (True, False):
            encode_s = self._encode_s(encoder, patches, capability.device, decoder_busy=decoder_busy)
            if encode_s is not None and decode_s is not None:
                is_shared = capability.device is self.decoder_device and not decoder_busy
                return encode_s + decode_s if is_shared else max(encode_s, decode_s), loss
        return None

    def _patches(self, size: tuple[int, int], max_pixels: int | None, capability: Capability) -> tuple[int, float]:
        """Patches of a page, and the loss of its page size. Margins are not known before the page is opened."""
        limits = self.limits.lowered(max_pixels)
        if capability.buckets:
            placement = place(size, 1, limits, capability.buckets)
            return placement.bucket, placement.loss
        width, height = fit(size, 1, limits).resized
        return width * height // PATCH_PX**2, 0.0

    def _encode_s(self, encoder: str, patches: int, device: Device, *, decoder_busy: bool) -> float | None:
        """Seconds of the tower, scaled by operations from the nearest page size that was measured."""
        figures = self.measured.of_encoder(encoder, decoder_busy=decoder_busy)
        operations = self.vision.operations(patches)
        if figures:
            nearest = min(figures, key=lambda each: abs(math.log(each / patches)))
            return figures[nearest] * operations / self.vision.operations(nearest)
        if decoder_busy or self.speed is None or device is Device.CPU:
            return None
        return operations / (self.speed.ne_flops if device is Device.NE else self.speed.gpu_flops)

    def _decode_s(self, patches: int) -> float | None:
        """Seconds of prefill and answer."""
        if (measured := self.measured.of_decoder(self.decoder)) is not None:
            return measured.tokens_a_page / measured.tokens_per_s
        if self.speed is None or self.decoder_device is not Device.GPU:
            return None
        prefill_s = self.text.operations(patches // PATCHES_AN_EMBEDDING) / self.speed.gpu_flops
        return prefill_s + TOKENS_A_PAGE * self.text.product_weights * self.bits / 8 / self.speed.bytes_per_s


def pipeline_of(welcome: Welcome, place: int | None) -> Pipeline | None:
    """The pipeline of a runtime; none: it has no model that could be computed with.

    Args:
        welcome: of the runtime.
        place: in ``welcome.encoders``, of the encoder that reads the pages; none: the runtime chooses one for each.
    """
    if not welcome.model_path or not welcome.capabilities:
        return None
    folder = Path(welcome.model_path)
    try:
        config = read_json(folder, CONFIG)
        text, vision = sizes(config)
        limits = read_limits(folder)
    except (DotsctlError, LookupError, TypeError, ValueError):  # the workers support more kinds of models than this
        return None
    places: Sequence[int] = [place or 0]
    if place is None and welcome.auto:
        places = range(len(welcome.encoders))
    machine = this_machine()
    return Pipeline(
        vision=vision,
        text=text,
        limits=limits,
        encoders=tuple((welcome.encoders[each], welcome.capabilities[each]) for each in places),
        decoder=welcome.decoder,
        decoder_device=welcome.decoder_device,
        bits=_bits(welcome.decoder, config),
        measured=recall(welcome.fingerprint, machine),
        speed=chip_speed(machine.chip),
    )


def _bits(decoder: str, config: dict[str, Any]) -> float:
    """Bits of a weight of the decoder with its share of scales, by the plugin's options, else as the model has it."""
    options = PluginChoice.parse(decoder).options
    groups = options.get("group_size", "")
    try:
        if bits := options.get("bits"):
            chosen: Quantisation | None = chosen_quantisation(bits, int(groups) if groups.isdecimal() else None)
        else:
            chosen = stored_quantisation(config).default
    except UsageError:  # options of another plugin
        chosen = None
    return 8 * chosen.weight_bytes(HALF_BYTES) if chosen else 8.0 * HALF_BYTES
