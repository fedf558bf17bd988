"""An encoder without a model: deterministic, as fast or slow as requested, and faulty on request.

The result for a page is the digest of the page's bytes, repeated over the complete array; the ``fake`` decoder checks
every value and writes the digest as text. So a test can check that the right bytes arrived completely.
"""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.encoder_worker.plugin import BlankPage, EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.protocol.errors import MissingError, PageError
from dotsctl.protocol.geometry import PATCH_PX, PageGeometry, PixelLimits, fit
from dotsctl.protocol.parts import Device
from dotsctl.protocol.worker.fakes import (
    FAULTS,
    LOAD_FAULTS,
    WIDTH,
    fake_fingerprint,
    hold_lock,
    misbehave,
    refuse_as_gpu,
    wait_at_gate,
)
from dotsctl.protocol.worker.plugin_options import option
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAGE_FAULTS = (*FAULTS, "refuse", "wrong-width", "wrong-dtype", "not-finite", "wrong-grid", "no-memory")
PREPARE_FAULTS = (*FAULTS, "refuse", "blank")


@dataclass(frozen=True)
class FakeEncoderOptions:
    """Options of ``--encoder fake:key=value,...``."""

    encode_ms: float = option(0.0, "milliseconds that a page takes, the making of its array included", minimum=0)
    embed_mib: float = option(1 / 64, "size of a page's embeddings in MiB", minimum=0, maximum=1024)
    prepare_ms: float = option(0.0, "milliseconds that the preparation of a page takes", minimum=0)
    fault: str = option("", "what happens to the pages chosen by 'on'", choices=PAGE_FAULTS)
    prepare_fault: str = option(
        "", "what happens in the preparation of the pages chosen by 'on'", choices=PREPARE_FAULTS
    )
    on: str = option("", "only pages whose bytes contain this text are faulty", shown_default="all")
    load_fault: str = option("", "what happens instead of loading", choices=LOAD_FAULTS)
    hold_ms: float = option(
        0.0, "milliseconds of each page in which the interpreter's lock is held, besides encode_ms", minimum=0
    )
    gpu_pages: int = option(
        0, "pages after which the GPU refuses all work of this process, as Metal does after faults; 0: never", minimum=0
    )
    model: str = option("", "name of another model that it pretends to hold")
    side_px: int = option(
        0,
        "side of the square that every page counts as; 0: a page has its own size where it comes as pixels",
        minimum=0,
    )
    gate: str = option("", "FIFO: a page is held while it exists and until a writer has opened and closed it")
    prepare_gate: str = option("", "the same for the preparation of the pages chosen by 'on'")
    load_gate: str = option("", "the same for loading")
    buckets: tuple[int, ...] = option((), "page sizes in patches that it claims to have", shown_default="any size")
    device: Device = option(Device.CPU, "device that it claims to compute on")
    resolution_loss: float = option(
        0.0, "share of each page's resolution that it claims to have lost", minimum=0, maximum=1
    )


@dataclass(frozen=True)
class FakePreparedPage:
    """A page and its bytes."""

    page: PageImage
    content: bytes


class FakeEncoder:
    """See the module's docstring."""

    description = PluginDescription(
        help="No model: embeddings that stand for the bytes of a page, for tests and measurements of the runtime.",
        options=FakeEncoderOptions,
        device=lambda options: options.device,
        needs_model=False,
        reads_pages=False,
    )

    def load(self, model: Path, options: FakeEncoderOptions, report: Report) -> EncoderSpec:
        """Keep the options; takes no time and needs no model."""
        self._options = options
        match self._options.load_fault:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "refuse":
                raise MissingError("encoder fake is set to miss something", "remove load_fault")
        if self._options.load_gate:
            wait_at_gate(Path(self._options.load_gate))
        self._warm, self._num_pages = False, 0
        return EncoderSpec(
            fake_fingerprint(model, self._options.model),
            WIDTH,
            "<f4",
            buckets=self._options.buckets,
            device=self._options.device,
        )

    def prepare(self, image: PageImage) -> FakePreparedPage:
        """Take the bytes of a page, or cause the requested fault; the warm-up page is never faulty."""
        content = image.content if image.content is not None else image.pixels.tobytes()  # type: ignore[union-attr]
        if not self._warm:
            return FakePreparedPage(image, content)
        is_chosen = self._options.on.encode() in content
        if is_chosen and self._options.prepare_gate:
            wait_at_gate(Path(self._options.prepare_gate))
        if self._options.prepare_ms:
            threading.Event().wait(self._options.prepare_ms / 1000)
        fault = self._options.prepare_fault if is_chosen else ""
        if fault == "blank" and image.check_blank:
            raise BlankPage(PageGeometry(source=(28, 28), orientation=1, resized=(28, 28), scale=(1.0, 1.0)))
        self._misbehave(fault)
        return FakePreparedPage(image, content)

    def encode(self, images: Sequence[FakePreparedPage]) -> list[EncodedPage]:
        """Return the digest of each image's bytes, or cause the requested fault; the warm-up page is never faulty."""
        return [self._encode(image.page, image.content) for image in images]

    def _encode(self, page: PageImage, content: bytes) -> EncodedPage:
        started = time.monotonic()
        fault = self._options.fault if self._warm and self._options.on.encode() in content else ""
        if self._warm and self._options.gate:
            wait_at_gate(Path(self._options.gate))
        if self._warm and self._options.hold_ms:
            hold_lock(self._options.hold_ms / 1000)
        self._num_pages += self._warm
        self._warm = True
        self._misbehave(fault)
        if 0 < self._options.gpu_pages < self._num_pages:
            refuse_as_gpu()
        rows = max(1, round(self._options.embed_mib * 2**20 / (4 * WIDTH)))
        values = digest_rows(hashlib.sha256(content).digest(), rows)
        values = {"wrong-width": values[:, :-1].copy(), "wrong-dtype": values.astype("f8")}.get(fault, values)
        if fault == "not-finite":
            values[0, 0] = float("nan")
        grid = (2, 2 * rows + (4 if fault == "wrong-grid" else 0))
        remaining_s = self._options.encode_ms / 1000 - (time.monotonic() - started)
        if remaining_s > 0:
            threading.Event().wait(remaining_s)
        return EncodedPage(values, grid, self._geometry(page, grid), {"encode": (time.monotonic() - started) * 1000})

    def _geometry(self, page: PageImage, grid: tuple[int, int]) -> PageGeometry:
        if side_px := self._options.side_px:
            return fit((side_px, side_px), 1, PixelLimits().lowered(page.max_pixels))
        loss = self._options.resolution_loss
        if page.pixels is not None:
            height, width = page.pixels.shape[:2]
            fitted = fit((width, height), 1, PixelLimits().lowered(page.max_pixels))
            return replace(fitted, resolution_loss=max(loss, fitted.resolution_loss))
        size = (grid[1] * PATCH_PX, grid[0] * PATCH_PX)
        return PageGeometry(source=size, orientation=1, resized=size, scale=(1.0, 1.0), resolution_loss=loss)

    def close(self) -> None:
        """Do nothing; there is nothing to free."""

    @staticmethod
    def _misbehave(fault: str) -> None:
        match fault:
            case "refuse":
                raise PageError("encoder fake is set to refuse this page")
            case "no-memory":
                raise MemoryError
            case _:
                misbehave(fault, "encoder fake")


def digest_rows(digest: bytes, rows: int) -> "NDArray[np.float32]":
    """(rows, WIDTH) float32: the 32 bytes of a digest as numbers, again and again."""
    import numpy as np

    row = np.tile(np.frombuffer(digest, np.uint8).astype(np.float32), WIDTH // 32)  # (WIDTH,)
    return np.tile(row, (rows, 1))  # (rows, WIDTH)
