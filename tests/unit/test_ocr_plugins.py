"""Side OCR plugins, with stand-ins of the libraries that they call; with RapidOCR itself where it is installed."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dotsctl.protocol.render.plugins import rapidocr, vision
from dotsctl.protocol.render.plugins.rapidocr import RapidOcrHints
from dotsctl.protocol.render.plugins.vision import VisionHints
from dotsctl.protocol.worker.plugins import HINT, described
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = np.zeros((200, 400, 3), np.uint8)
PAGE[:, :, 0] = 255
LINES = [("second line", (20, 60, 200, 80)), ("First", (20, 30, 120, 50)), ("far below", (20, 150, 200, 170))]
"""Lines in an order that is not that of reading, with boxes in pixels."""


def module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    return made


@pytest.fixture
def rapid(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Stands for RapidOCR 3.10: ``read`` notes the pages, ``lines`` is what it finds on them."""
    state = SimpleNamespace(lines=LINES, pages=[], params=None)

    class RapidOCR:
        def __init__(self, params: dict[str, Any]) -> None:
            state.params = params

        def __call__(self, page: Any) -> SimpleNamespace:
            state.pages.append(page)
            if not state.lines:
                return SimpleNamespace(boxes=None, txts=None, scores=None)
            boxes = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for _, (x0, y0, x1, y1) in state.lines]
            return SimpleNamespace(boxes=np.array(boxes, np.float32), txts=tuple(text for text, _ in state.lines))

    monkeypatch.setitem(sys.modules, "rapidocr", module("rapidocr", RapidOCR=RapidOCR))
    yield state


def loaded(cls: type) -> Any:
    plugin = described(HINT, "test", cls).cls()
    plugin.load()
    return plugin


def test_lines_of_rapidocr_become_paragraphs_in_reading_order(rapid: SimpleNamespace) -> None:
    hint = loaded(RapidOcrHints).hint(PAGE)
    assert [(block.text, block.box) for block in hint.blocks] == [
        ("First second line", (20, 30, 200, 80)),
        ("far below", (20, 150, 200, 170)),
    ]
    assert (hint.size, hint.source) == ((400, 200), "rapidocr")


def test_rapidocr_gets_blue_first_and_a_share_of_the_cores(rapid: SimpleNamespace) -> None:
    loaded(RapidOcrHints).hint(PAGE)
    (page,) = rapid.pages
    assert page[0, 0].tolist() == [0, 0, 255] and page.flags.c_contiguous
    assert all(threads >= 1 for threads in rapid.params.values()) and len(rapid.params) == 2


def test_a_page_without_text_has_no_hint(rapid: SimpleNamespace) -> None:
    rapid.lines = []
    assert loaded(RapidOcrHints).hint(PAGE) is None


class Vision:
    """Stands for Apple's framework as PyObjC shows it; ``lines`` is what it finds on a page."""

    VNRequestTextRecognitionLevelAccurate = 0

    def __init__(self) -> None:
        self.lines, self.error, self.pictures, self.settings = LINES, None, list[bytes](), dict[str, Any]()
        framework = self

        class VNRecognizeTextRequest:
            @classmethod
            def alloc(cls) -> "VNRecognizeTextRequest":
                return cls()

            def init(self) -> "VNRecognizeTextRequest":
                return self

            def setRecognitionLevel_(self, level: int) -> None:
                framework.settings["level"] = level

            def setAutomaticallyDetectsLanguage_(self, is_on: bool) -> None:
                framework.settings["language"] = is_on

            def results(self) -> list[Any] | None:
                return [framework.observation(*line) for line in framework.lines] or None

        class VNImageRequestHandler:
            @classmethod
            def alloc(cls) -> "VNImageRequestHandler":
                return cls()

            def initWithData_options_(self, content: bytes, options: None) -> "VNImageRequestHandler":
                framework.pictures.append(content)
                return self

            def performRequests_error_(self, requests: list[Any], error: None) -> tuple[bool, str | None]:
                return framework.error is None, framework.error

        self.VNRecognizeTextRequest, self.VNImageRequestHandler = VNRecognizeTextRequest, VNImageRequestHandler

    def observation(self, text: str, box: tuple[float, float, float, float]) -> SimpleNamespace:
        """A line with its box in shares of the page, from its lower left corner."""
        (height, width), (x0, y0, x1, y1) = PAGE.shape[:2], box
        origin = SimpleNamespace(x=x0 / width, y=1 - y1 / height)
        size = SimpleNamespace(width=(x1 - x0) / width, height=(y1 - y0) / height)
        found = SimpleNamespace(string=lambda: text)
        return SimpleNamespace(
            topCandidates_=lambda count: [found][:count] if text else [],
            boundingBox=lambda: SimpleNamespace(origin=origin, size=size),
        )


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vision]:
    made = Vision()
    monkeypatch.setitem(sys.modules, "Vision", made)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "objc", module("objc", autorelease_pool=contextlib.nullcontext))
    yield made


def test_lines_of_vision_become_paragraphs_with_boxes_from_the_upper_left_corner(framework: Vision) -> None:
    framework.lines = [*LINES, ("", (0, 0, 10, 10))]
    hint = loaded(VisionHints).hint(PAGE)
    assert [block.text for block in hint.blocks] == ["First second line", "far below"]
    assert np.allclose([block.box for block in hint.blocks], [(20, 30, 200, 80), (20, 150, 200, 170)])
    assert (hint.size, hint.source) == ((400, 200), "vision")
    assert framework.settings == {"level": framework.VNRequestTextRecognitionLevelAccurate, "language": True}


def test_vision_gets_the_page_as_a_picture_file(framework: Vision, tmp_path: Path) -> None:
    loaded(VisionHints).hint(PAGE)
    (tmp_path / "page").write_bytes(framework.pictures[0])
    with Image.open(tmp_path / "page") as picture:
        assert np.array_equal(np.asarray(picture), PAGE)


def test_vision_finds_nothing_or_fails(framework: Vision) -> None:
    framework.lines = []
    assert loaded(VisionHints).hint(PAGE) is None
    framework.error = "no such revision"
    with pytest.raises(RuntimeError, match="Vision cannot read the page: no such revision"):
        loaded(VisionHints).hint(PAGE)


@pytest.mark.parametrize(
    ("platform", "has_module", "reason"),
    [
        ("linux", True, "Apple's Vision framework is part of macOS"),
        ("darwin", False, "pyobjc-framework-Vision is not installed: pip install 'dotsctl[hints]'"),
        ("darwin", True, ""),
    ],
)
def test_vision_runs_on_macos_with_pyobjc(
    monkeypatch: pytest.MonkeyPatch, platform: str, has_module: bool, reason: str
) -> None:
    monkeypatch.setattr(vision.sys, "platform", platform)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if has_module else None)
    assert vision.available(None) == reason


@pytest.mark.parametrize("missing", ["rapidocr", "onnxruntime"])
def test_rapidocr_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else name)
    assert rapidocr.available(None) == f"{missing} is not installed: pip install 'dotsctl[hints]'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert rapidocr.available(None) == ""


@pytest.mark.skipif(bool(rapidocr.available(None)), reason="RapidOCR is not installed")
def test_rapidocr_itself_reads_a_sample_page_with_boxes_on_its_words() -> None:
    with Image.open(ROOT / "client" / "sample_pages" / "letter.png") as picture:
        page = np.asarray(picture.convert("RGB"))
    hint = loaded(RapidOcrHints).hint(page)
    assert "Keller" in hint.text
    for block in hint.blocks:
        x0, y0, x1, y1 = (round(side) for side in block.box)
        assert page[y0:y1, x0:x1].min() < 128, f"nothing is drawn at {block.box}"
