"""The command that proves a build: what it shows, and when it fails."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.dev.prove_encoder import main

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A float16 build of the demo model in two packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(tmp_path_factory.mktemp("models")))
        yield convert_encoder(demo_directory(), ConversionOptions(buckets=(96,), chunks=2), lambda line: None)


def prove(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", *arguments])


def test_each_package_and_the_embeddings_are_compared() -> None:
    outcome = prove("--grid", "8x12", "--json", "--limit", "2e-3")
    assert outcome.exit_code == 0, outcome.output
    proof = json.loads(outcome.stdout)
    assert [part["name"] for part in proof["parts"]] == ["layer 3", "embeddings"]
    for part in proof["parts"]:
        assert 1e-5 < part["relative_error"] < 2e-3
        assert 0.99999 < part["min_cosine"] < 1
    assert len(proof["largest"]) == 5 and max(proof["largest"].values()) < 32752
    assert proof["findings"] == []
    text = prove("--grid", "8x12").stdout
    assert "layer 3 " in text and "embeddings " in text and "products 32752" in text


def test_an_error_above_the_limit_ends_with_1_and_a_wrong_grid_with_2() -> None:
    outcome = prove("--limit", "1e-6")
    assert outcome.exit_code == 1
    assert "relative error is above 1e-06" in outcome.stderr
    for grid in ("8x8", "3x32", "wide"):
        assert prove("--grid", grid).exit_code == 2


def test_a_build_with_changed_bytes_is_not_proved(folder: Path) -> None:
    (file,) = folder.rglob("tower-1.mlpackage/**/weight.bin")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    outcome = prove()
    file.write_bytes(content)
    assert outcome.exit_code == 3
    assert "was changed after it was written" in outcome.stderr
