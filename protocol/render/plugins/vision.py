"""Side OCR with Apple's Vision framework, through PyObjC; on macOS alone. Never run on a Mac so far."""

import importlib.util
import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.render.text_blocks import OCR_SIZES, TextLine, in_reading_order, limited, paragraphs
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "vision"


def available(_: Any) -> str:
    """Return why it cannot run here; empty: it can."""
    if sys.platform != "darwin":
        return "Apple's Vision framework is part of macOS"
    if importlib.util.find_spec("Vision") is None:
        return "pyobjc-framework-Vision is not installed: pip install 'dotsctl[hints]'"
    return ""


class VisionHints:
    """The hint plugin."""

    description = PluginDescription(
        help="Text of any page by Apple's Vision framework, on macOS.",
        available=available,
        needs_model=False,
        turn=1,
    )

    def load(self) -> None:
        """Load the framework."""
        import objc
        import Vision

        self._objc, self._vision = objc, Vision

    def hint(self, page: "NDArray[Any]") -> PageHint | None:
        """Return the paragraphs of a page of uint8 (height, width, 3), RGB. Raises RuntimeError where Vision fails."""
        height, width = page.shape[:2]
        with self._objc.autorelease_pool():
            lines = list(self._lines(page, width, height))
        return limited(paragraphs(in_reading_order(lines), OCR_SIZES), (float(width), float(height)), NAME)

    def _lines(self, page: "NDArray[Any]", width: int, height: int) -> Iterator[TextLine]:
        """The lines that Vision finds, with boxes in pixels."""
        from PIL import Image

        picture = io.BytesIO()
        Image.fromarray(page).save(picture, "TIFF")  # without compression, which would take longer than the rest
        request = self._vision.VNRecognizeTextRequest.alloc().init()
        request.setRecognitionLevel_(self._vision.VNRequestTextRecognitionLevelAccurate)
        request.setAutomaticallyDetectsLanguage_(True)
        handler = self._vision.VNImageRequestHandler.alloc().initWithData_options_(picture.getvalue(), None)
        is_done, error = handler.performRequests_error_([request], None)
        if not is_done:
            raise RuntimeError(f"Vision cannot read the page: {error}")
        for observation in request.results() or ():
            if candidates := observation.topCandidates_(1):
                box = observation.boundingBox()  # shares of the page, from its lower left corner
                x0, y1 = box.origin.x * width, (1 - box.origin.y) * height
                x1, y0 = x0 + box.size.width * width, y1 - box.size.height * height
                yield TextLine(str(candidates[0].string()), (x0, y0, x1, y1), y0, y1)
