"""``dotsctl compare`` of the Core ML packages, on the compute unit reference, with the MLX tower."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.bucket_patches import prepare
from dotsctl.encoder_worker.opening import open_page, read_limits
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.errors import ExitCode
from dotsctl.protocol.model.buckets import place
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.compare import main as compare
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.measuring.distance import as_seen

from tests.conftest import sample

pytest.importorskip("coremltools")
pytest.importorskip("rapidfuzz")
pytestmark = pytest.mark.model
PAGES = [
    Path(__file__).parents[2] / "client" / "sample_pages" / f"{name}.png" for name in ("invoice", "letter", "notice")
]
COREML = "coreml:compute_units=reference"


@pytest.fixture(scope="module", autouse=True)
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A float16 build of the demo model with buckets of the sample pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(tmp_path_factory.mktemp("models")))
        convert_encoder(demo_directory(), ConversionOptions(buckets=(336, 416, 440)), lambda line: None)
        yield


def compared(capsys: pytest.CaptureFixture[str], encoder: str, *pages: Path) -> dict[str, Any]:
    options: dict[str, Any] = dict.fromkeys(("decoder", "task", "max_pixels", "pages", "password", "output"))
    inputs = tuple(map(str, pages))
    code = compare.run(inputs=inputs, encoders=(encoder, "mlx"), model="demo", dpi=72, as_json=True, **options)
    assert code == ExitCode.OK
    return json.loads(capsys.readouterr().out)


@pytest.mark.sampled
def test_float16_packages_are_near_the_mlx_tower_and_read_the_sample_pages_alike(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = PAGES[: sample(1, of=3)]
    found = compared(capsys, COREML, *pages)
    assert len(found["pages"]) == len(pages)
    ours, _ = found["medians"]
    assert 0.9999 <= ours["cosine_min"] < 1
    assert 1e-5 < ours["relative_error"] < 2e-3
    assert ours["error_rate"] <= 0.01
    assert [page["encoders"][0]["note"] for page in found["pages"]] == [""] * len(pages)


def test_embeddings_of_a_page_on_another_grid_are_compared_on_the_same_pixels_and_its_text_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = compared(capsys, f"{COREML},buckets=336", PAGES[0])
    ours, reference = found["pages"][0]["encoders"]
    assert (ours["grid"], reference["grid"]) == ([14, 24], [20, 22])
    assert "14x24 patches, the reference alone 20x22; embeddings compared on the same pixels" in ours["note"]
    assert ours["cosine_min"] > 0.9999
    assert ours["error_rate"] > 0.05  # a page that lost a quarter of its lines' height reads badly


@pytest.mark.parametrize("bucket", [336, 416, 560])
def test_the_pixels_that_an_encoder_saw_are_those_that_the_plugin_prepared(bucket: int) -> None:
    page = PageImage(PAGES[0].read_bytes(), None, None)
    image, source, orientation = open_page(page)
    placement = place(source, orientation, read_limits(demo_directory()), [bucket])
    again, source, orientation = open_page(as_seen(page, placement.geometry))
    own = place(source, orientation, read_limits(demo_directory()), [bucket])
    assert own.loss == 0 and own.grid == placement.grid
    assert np.array_equal(prepare(again, own).values, prepare(image, placement).values)
