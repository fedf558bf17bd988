"""Layout answers through real processes: the tower, a decoder that answers as dots.ocr does, files as results.

What the demo model finds on a page is not known beforehand, so the decoder is a plugin of this test. It says what
dots.ocr would say of a page with a title in the upper left quarter and a picture in the lower right one, in pixels of
what the encoder saw.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dotsctl import Client
from PIL import Image

from tests.process.conftest import START_S, dotsctl

pytest.importorskip("mlx.core")
pytestmark = [pytest.mark.process, pytest.mark.model]
PLUGIN = """\
import json

from dotsctl.decoder_worker.plugin import DecoderSpec, Finish, Piece
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.parts import FinishReason
from dotsctl.protocol.worker.plugins import PluginDescription


class QuartersDecoder:
    description = PluginDescription(reads_pages=False)

    def load(self, model, options, report):
        self.pages = {}
        width = json.loads((model / "config.json").read_text())["hidden_size"]
        return DecoderSpec(fingerprint(model), width, 2, ("layout", "text"))

    def has_room(self, prompt):
        return len(self.pages) < 2

    def admit(self, prompt):
        width, height = prompt.geometry.resized
        cells = [
            {"bbox": [0, 0, width // 2, height // 2], "category": "Title", "text": "# Quarters"},
            {"bbox": [0, 0, width, 20], "category": "Page-header", "text": "Head"},
            {"bbox": [width // 2, height // 2, width + 9, height], "category": "Picture"},
        ]
        self.pages[prompt.page_id] = iter([json.dumps(cells)[start:start + 7] for start in range(0, 999, 7)])
        self.texts = {**getattr(self, "texts", {}), prompt.page_id: ""}

    def step(self):
        pieces = []
        for page_id in list(self.pages):
            text = next(self.pages[page_id])
            self.texts[page_id] += text
            finish = None
            if not text:
                del self.pages[page_id]
                finish = Finish(FinishReason.STOP, self.texts.pop(page_id), 1, 1)
            pieces.append(Piece(page_id, text, 1, finish))
        return pieces

    def cancel(self, page_id):
        self.pages.pop(page_id, None)

    def close(self):
        pass
"""
OPTIONS = ("--model", "demo", "--decoder", "quarters")


@pytest.fixture(autouse=True)
def quarters(install: Callable[..., None], run_folder: Path) -> None:
    install("quarters_plugin", PLUGIN, "quarters", "QuartersDecoder", "dotsctl.decoders")


def page(path: Path, size: tuple[int, int], orientation: int = 1) -> Path:
    """A page of noise, with the lower right quarter as viewers show it in red."""
    width, height = size if orientation < 5 else size[::-1]  # as viewers show it
    pixels = np.random.default_rng(1).integers(0, 2, (height, width, 3), np.uint8) * np.uint8(200)
    pixels[height // 2 :, width // 2 :] = (255, 0, 0)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {1: image, 6: image.transpose(Image.Transpose.ROTATE_90)}[orientation]
    turned.save(path, exif=exif)
    return path


def read(*arguments: object, cwd: Path) -> str:
    process = dotsctl("ocr", *map(str, arguments), *OPTIONS, cwd=cwd)
    out, err = process.communicate(timeout=START_S)
    assert process.returncode == 0, err
    return str(out)


@pytest.mark.parametrize(("size", "orientation"), [((301, 203), 1), ((203, 301), 6), ((90, 40), 1)])
def test_boxes_are_in_pixels_of_the_page_as_viewers_show_it(
    tmp_path: Path, size: tuple[int, int], orientation: int
) -> None:
    width, height = size if orientation == 1 else size[::-1]
    path = page(tmp_path / "page.png", size, orientation)
    (record,) = (json.loads(line) for line in read(path, "-f", "jsonl", cwd=tmp_path).splitlines())
    assert (record["width"], record["height"], record["status"]) == (width, height, "ok")
    title, _, picture = (cell["bbox"] for cell in record["cells"])
    # The middle of the resized page may lie half a resized pixel beside that of the page.
    assert np.allclose(title, (0, 0, width / 2, height / 2), atol=1)
    assert np.allclose(picture, (width / 2, height / 2, width, height), atol=1)


def test_markdown_has_the_picture_cut_out_of_the_page_beside_it(tmp_path: Path) -> None:
    page(tmp_path / "page.png", (300, 200))
    read("page.png", "-o", "out/page.md", cwd=tmp_path)
    text = (tmp_path / "out" / "page.md").read_text()
    assert text.startswith("# Quarters\n\nHead\n\n![](")
    crop = Image.open(tmp_path / "out" / text.split("![](")[1].split(")")[0])
    assert abs(crop.width - 150) <= 1 and abs(crop.height - 100) <= 1
    assert crop.convert("RGB").getpixel((100, 50)) == (255, 0, 0)
    read("page.png", "-o", "bare.md", "--no-header-footer", "--images", "none", cwd=tmp_path)
    assert (tmp_path / "bare.md").read_text() == "# Quarters\n"


def test_an_overlay_and_a_document_show_the_boxes(tmp_path: Path) -> None:
    page(tmp_path / "page.png", (300, 200))
    read("page.png", "-o", "out/", "-f", "overlay", cwd=tmp_path)
    (drawn,) = (tmp_path / "out").glob("*.png")
    before, after = (np.asarray(Image.open(path).convert("RGB"), int) for path in (tmp_path / "page.png", drawn))
    assert before.shape == after.shape
    assert np.abs(before - after).max(axis=2)[:, 149:151].astype(bool).all(axis=1)[:100].any()
    read("page.png", "-o", "page.html", cwd=tmp_path)
    document = (tmp_path / "page.html").read_text()
    assert "Quarters" in document and "data:image/" in document and document.count('class="box') == 3


def test_cells_are_given_while_the_answer_is_written(tmp_path: Path) -> None:
    path = page(tmp_path / "page.png", (300, 200))
    with Client(model="demo", decoder="quarters", private=True, timeout_s=START_S) as client:
        (whole,) = client.ocr([path])
        assert tuple(client.stream_cells(path)) == whole.cells
    assert [cell.category for cell in whole.cells] == ["Title", "Page-header", "Picture"]
