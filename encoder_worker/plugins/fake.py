"""An encoder without a model: deterministic, as fast or slow as asked, and faulty on request.

What it makes of a page is the digest of the page's bytes, repeated over the whole array; the ``fake`` decoder checks
every value and writes the digest as text. So a test can tell that the right bytes arrived whole.
"""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from dotsctl.encoder_worker.plugin import BlankPage, EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.protocol.errors import MissingError, PageError, UsageError
from dotsctl.protocol.fakes import (
    FAULTS,
    LOAD_FAULTS,
    WIDTH,
    fake_fingerprint,
    hold_lock,
    misbehave,
    read_options,
    wait_at_gate,
)
from dotsctl.protocol.geometry import PATCH_PX, PageGeometry, PixelLimits, fit
from dotsctl.protocol.gpu_faults import REFUSED_TEXTS
from dotsctl.protocol.parts import Device

PAGE_FAULTS = (*FAULTS, "refuse", "wrong-width", "wrong-dtype", "not-finite", "wrong-grid", "no-memory", "blank")


@dataclass
class FakeOptions:
    """Options of ``--encoder fake:key=value,...``."""

    encode_ms: float = 0.0
    """Milliseconds that a page takes, the making of its array included."""
    embed_mib: float = 1 / 64
    """Size of a page's embeddings."""
    fault: str = field(default="", metadata={"one_of": PAGE_FAULTS})
    """What happens to the pages chosen by ``on``."""
    on: str = ""
    """Only pages whose bytes contain this text are faulty; empty: all."""
    load_fault: str = field(default="", metadata={"one_of": LOAD_FAULTS})
    """What happens instead of loading."""
    hold_ms: float = 0.0
    """Milliseconds of each page in which the interpreter's lock is held, besides ``encode_ms``."""
    gpu_pages: int = 0
    """Pages after which the GPU refuses all further work of this process, as Metal does after faults; 0: never."""
    model: str = ""
    """Pretend to hold another model, of this name."""
    side_px: int = 0
    """Side of the square that every page counts as: its geometry follows the resize rule; 0: a page has the size of
    its embeddings."""
    gate: str = ""
    """Path of a FIFO: a page is held while the FIFO exists and until a writer has opened and closed it."""
    load_gate: str = ""
    """The same for loading."""
    buckets: str = ""
    """Page sizes in patches that it claims to have, as ``336+960``; empty: pages of any size."""
    device: str = field(default=Device.CPU, metadata={"one_of": tuple(Device)})
    """Device that it claims to compute on."""
    resolution_loss: float = 0.0
    """Share of each page's resolution that it claims to have lost, 0 to 1."""


class FakeEncoder:
    """See the module's docstring."""

    def load(self, model: Path, options: dict[str, str], report: Report) -> EncoderSpec:
        """Read the options; takes no time and needs no model."""
        self._options = read_options(FakeOptions, options, "encoder fake")
        match self._options.load_fault:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "refuse":
                raise MissingError("encoder fake was told to miss something: take load_fault away")
        if self._options.load_gate:
            wait_at_gate(Path(self._options.load_gate))
        self._warm, self._num_pages = False, 0
        return EncoderSpec(
            fake_fingerprint(model, self._options.model),
            WIDTH,
            "<f4",
            buckets=_page_sizes(self._options.buckets),
            device=Device(self._options.device),
        )

    def encode(self, images: Sequence[PageImage]) -> list[EncodedPage]:
        """Digest of each image's bytes, or the fault that was asked for; the warm-up page is never faulty."""
        return [self._encode(image) for image in images]

    def _encode(self, page: PageImage) -> EncodedPage:
        started = time.monotonic()
        content = page.content if page.content is not None else page.pixels.tobytes()  # type: ignore[union-attr]
        fault = self._options.fault if self._warm and self._options.on.encode() in content else ""
        if self._warm and self._options.gate:
            wait_at_gate(Path(self._options.gate))
        if self._warm and self._options.hold_ms:
            hold_lock(self._options.hold_ms / 1000)
        self._num_pages += self._warm
        self._warm = True
        self._misbehave(fault)
        if 0 < self._options.gpu_pages < self._num_pages:
            raise RuntimeError(
                f"[METAL] Command buffer execution failed: {REFUSED_TEXTS[1]} (00000004:{REFUSED_TEXTS[0]})"
            )
        if fault == "blank" and page.check_blank:
            raise BlankPage(PageGeometry(source=(28, 28), orientation=1, resized=(28, 28), scale=(1.0, 1.0)))
        rows = max(1, round(self._options.embed_mib * 2**20 / (4 * WIDTH)))
        values = digest_rows(hashlib.sha256(content).digest(), rows)
        values = {"wrong-width": values[:, :-1].copy(), "wrong-dtype": values.astype("f8")}.get(fault, values)
        if fault == "not-finite":
            values[0, 0] = np.nan
        grid = (2, 2 * rows + (4 if fault == "wrong-grid" else 0))
        remaining_s = self._options.encode_ms / 1000 - (time.monotonic() - started)
        if remaining_s > 0:
            threading.Event().wait(remaining_s)
        return EncodedPage(values, grid, self._geometry(page, grid), {"encode": (time.monotonic() - started) * 1000})

    def _geometry(self, page: PageImage, grid: tuple[int, int]) -> PageGeometry:
        if side_px := self._options.side_px:
            return fit((side_px, side_px), 1, PixelLimits().lowered(page.max_pixels))
        size = (grid[1] * PATCH_PX, grid[0] * PATCH_PX)
        loss = self._options.resolution_loss
        return PageGeometry(source=size, orientation=1, resized=size, scale=(1.0, 1.0), resolution_loss=loss)

    def close(self) -> None:
        """Nothing to free."""

    @staticmethod
    def _misbehave(fault: str) -> None:
        match fault:
            case "refuse":
                raise PageError("encoder fake was told to refuse this page")
            case "no-memory":
                raise MemoryError
            case _:
                misbehave(fault, "encoder fake")


def _page_sizes(text: str) -> tuple[int, ...]:
    """Numbers of patches in ascending order. Raises UsageError."""
    parts = text.split("+") if text else []
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"encoder fake: buckets={text!r} is no list of page sizes; write buckets=336+960")
    return tuple(sorted(map(int, parts)))


def digest_rows(digest: bytes, rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """(rows, WIDTH) float32: the 32 bytes of a digest as numbers, again and again."""
    row = np.tile(np.frombuffer(digest, np.uint8).astype(np.float32), WIDTH // 32)  # (WIDTH,)
    return np.tile(row, (rows, 1))  # (rows, WIDTH)
