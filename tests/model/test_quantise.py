"""The sweep over ways to store the weights of Core ML packages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dotsctl.client.inputs.pages import pages_of_file
from dotsctl.encoder_worker.coreml.manifest import Build, builds_directory
from dotsctl.encoder_worker.opening import read_limits
from dotsctl.protocol.errors import DotsctlError, NoInputError, UsageError
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.dev.quantise import main as quantise
from dotsctl.tools.dev.quantise.layers import LayerErrors, exact_stages, prepared, run_build
from dotsctl.tools.measuring.encoding import page_image
from dotsctl.tools.pages.fonts import EVERYWHERE
from dotsctl.tools.pages.truths import generated_pages
from dotsctl.tools.reference.exact_tower import MERGER, ExactTower, difference
from PIL import Image

pytest.importorskip("coremltools")
pytest.importorskip("rapidfuzz")
pytestmark = pytest.mark.model
INVOICE = Path(__file__).parents[2] / "client" / "sample_pages" / "invoice.png"
COMPONENTS = ["patch embedding", "layer 1", "layer 2", "layer 3", "layer 4", "merger"]


@pytest.fixture(scope="module", autouse=True)
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(folder))
        yield folder


def sweep(*words: str, page: Path = INVOICE) -> Any:
    result = CliRunner().invoke(quantise.cli, ["demo", "--pages", str(page), *words])
    assert result.exit_code == 0, result.output
    return result


def test_fewer_bits_are_smaller_and_less_exact_in_every_component(tmp_path: Path) -> None:
    (truth,) = generated_pages(1, 3, "medium", EVERYWHERE, 0.0, vocabulary="random")  # a page without easy words
    assert isinstance(truth.image, Image.Image)
    truth.image.save(tmp_path / "page.png")
    (tmp_path / "page.txt").write_text(truth.text, encoding="utf-8")
    result = sweep("--weights", "same,int4", "-o", str(tmp_path / "out"), page=tmp_path / "page.png")
    summary = json.loads((tmp_path / "out" / "quantization_summary.json").read_text())
    builds = summary["builds"]
    assert [build["weights"] for build in builds] == ["same", "int4"]
    exact, coarse = builds
    assert exact["size_bytes"] > 2 * coarse["size_bytes"]
    for build in builds:
        assert [component["name"] for component in build["components"]] == COMPONENTS
        assert build["components"][-1]["relative_error"] == build["relative_error"]
        for component in build["components"]:
            assert component["score"] == pytest.approx(1 - component["relative_error"])
    scores = [[component["score"] for component in build["components"]] for build in builds]
    assert all(more > less for more, less in zip(*scores, strict=True))
    assert exact["min_cosine"] > 0.99999 > coarse["min_cosine"]
    assert exact["relative_error"] < 2e-3
    assert (exact["token_agreement"], exact["error_rate"]) == (1, 0)
    assert coarse["relative_error"] > 20 * exact["relative_error"]
    assert coarse["token_agreement"] < 1
    assert exact["truth_error_rate"] < 0.1
    assert (tmp_path / "out" / "quantization_summary.png").read_bytes().startswith(b"\x89PNG")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["float16", "float16-int4"]
    assert lines[-1].startswith("merger")


def test_a_build_with_the_same_options_is_used_again_and_another_one_of_that_name_is_kept() -> None:
    folder = builds_directory(fingerprint(demo_directory())) / "float16-palette6"
    own = ConversionOptions("float16", "palette6", buckets=(96,), query_tile=40)
    convert_encoder(demo_directory(), own, lambda line: None)
    made = quantise.make_builds(demo_directory(), ["palette6"], "float16")["palette6"]
    assert made.name == "sweep-float16-palette6"
    assert Build.read(folder).buckets == (96,)
    written = (made / "manifest.json").stat().st_mtime_ns
    assert quantise.make_builds(demo_directory(), ["palette6"], "float16") == {"palette6": made}
    assert (made / "manifest.json").stat().st_mtime_ns == written


def test_every_layer_is_seen_however_the_tower_is_cut(tmp_path: Path) -> None:
    """In float32 each component is the exact one, so that no value is compared with that of another layer."""
    (page,) = pages_of_file(INVOICE, "invoice")
    options = ConversionOptions("float32", buckets=(440,), chunks=3, name="cut")
    folder = convert_encoder(demo_directory(), options, lambda line: None)
    build, errors = Build.read(folder), LayerErrors()
    patches = prepared(page_image(page, None), read_limits(demo_directory()), build)
    exact = exact_stages(ExactTower.of(demo_directory()), patches, tmp_path)
    found = run_build(folder, build, patches, exact, errors)
    assert [component.name for component in errors.components()] == COMPONENTS
    assert all(component.relative_error < 1e-5 for component in errors.components())
    assert difference(found, np.load(exact[MERGER]))[0] < 1e-5


def test_a_score_is_never_below_0_and_an_error_is_the_mean_over_pages() -> None:
    errors, exact = LayerErrors(), np.ones((2, 2))
    errors.add("merger", exact, exact)
    errors.add("merger", -3 * exact, exact)
    (component,) = errors.components()
    assert (component.score, component.relative_error, component.min_cosine) == (0.0, 2.0, pytest.approx(-1))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--weights", "same,int2"], UsageError, "'int2' is none of same, int8"),
        (["--pages", "no.png"], NoInputError, "no such file"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(words: list[str], error: type[DotsctlError], message: str) -> None:
    result = CliRunner().invoke(quantise.cli, ["demo", *words])
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
