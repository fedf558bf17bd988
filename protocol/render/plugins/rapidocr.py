"""Side OCR with RapidOCR: the PP-OCR models on ONNX Runtime, which its wheel carries.

A page with 7 lines took 3 s of a core with the start of the models, one of A4 with 126 lines 8 to 10 s (Linux x86-64,
version 3.10, two cores with other load).
"""

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.render.text_blocks import OCR_SIZES, TextLine, in_reading_order, limited, paragraphs
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "rapidocr"
MODULES = ("rapidocr", "onnxruntime")
CORES_A_THREAD = 4
"""Cores of the machine for one thread of OCR: the others belong to the model."""


def available(_: Any) -> str:
    """Return why it cannot run here; empty: it can."""
    missing = [module for module in MODULES if importlib.util.find_spec(module) is None]
    return f"{missing[0]} is not installed: pip install 'dotsctl[hints]'" if missing else ""


class RapidOcrHints:
    """The hint plugin."""

    description = PluginDescription(
        help="Text of any page by RapidOCR, on the CPU; takes 1 to 10 seconds of a core.",
        available=available,
        needs_model=False,
        turn=2,
    )

    def load(self) -> None:
        """Load the models."""
        from rapidocr import RapidOCR

        threads = max(1, (os.cpu_count() or 1) // CORES_A_THREAD)
        engine = "EngineConfig.onnxruntime"
        self._read = RapidOCR(
            params={f"{engine}.intra_op_num_threads": threads, f"{engine}.inter_op_num_threads": threads}
        )

    def hint(self, page: "NDArray[Any]") -> PageHint | None:
        """Return the paragraphs of a page of uint8 (height, width, 3), RGB."""
        import numpy as np

        found = self._read(np.ascontiguousarray(page[:, :, ::-1]))  # it takes BGR, as OpenCV does
        if found.boxes is None or found.txts is None:
            return None
        lines = [_line(text, corners) for text, corners in zip(found.txts, found.boxes, strict=True)]
        size = (float(page.shape[1]), float(page.shape[0]))
        return limited(paragraphs(in_reading_order(lines), OCR_SIZES), size, NAME)


def _line(text: str, corners: "NDArray[Any]") -> TextLine:
    """A line of text with the four corners of its box, (4, 2)."""
    x0, y0 = (float(side) for side in corners.min(axis=0))
    x1, y1 = (float(side) for side in corners.max(axis=0))
    return TextLine(text, (x0, y0, x1, y1), y0, y1)
