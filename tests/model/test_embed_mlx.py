"""``dotsctl embed`` with the real encoder of the demo model."""

from pathlib import Path

import numpy as np
import pytest
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.protocol.errors import ExitCode
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.tools import embed
from PIL import Image

from tests.plugins import load_plugin

pytest.importorskip("mlx.core")
pytestmark = pytest.mark.model
LETTER = Path(__file__).parents[2] / "client" / "sample_pages" / "letter.png"


def test_a_png_and_a_pdf_become_what_the_encoder_makes_of_them(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypdfium2")
    monkeypatch.chdir(tmp_path)
    Image.open(LETTER).convert("RGB").save("one.pdf", resolution=100)
    order = {"output": "out", "model": "demo", "encoder": None, "pages": None, "dpi": 100, "password": None}
    inputs = (str(LETTER), "one.pdf")
    assert embed.run(inputs=inputs, max_pixels=40_000, force=False, **order) == ExitCode.OK
    encoder = MLXEncoder()
    load_plugin(encoder, demo_directory(), {}, lambda _: None)
    (expected,) = encode_images(encoder, [PageImage(LETTER.read_bytes(), None, 40_000)])
    found = {path.name: np.load(path) for path in tmp_path.rglob("*.npz")}
    assert sorted(found) == ["letter.npz", "one.npz"]
    letter, pdf = found["letter.npz"], found["one.npz"]
    rows, columns = expected.grid
    assert letter["embeddings"].dtype == np.float32 and letter["embeddings"].shape == (rows * columns // 4, 256)
    assert np.array_equal(letter["embeddings"], expected.embeddings)
    assert letter["grid"].tolist() == [rows, columns]
    assert letter["resized"].tolist() == [14 * rows, 14 * columns]
    assert letter["resized"].prod() <= 40_000
    assert letter["fingerprint"].item() == fingerprint(demo_directory())
    assert pdf["grid"].tolist() == [rows, columns]
    assert pdf["embeddings"].shape == letter["embeddings"].shape
    for stored in found.values():
        stored.close()
