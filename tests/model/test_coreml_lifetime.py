"""Inputs of predictions, which Core ML lets go of a second later in a thread of its own."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml import prediction
from dotsctl.encoder_worker.coreml.device_tower import DeviceTower
from dotsctl.encoder_worker.coreml.golden_page import draw_page
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.encoder_worker.coreml.prediction import owned_input, predict
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions

from tests.coreml_stand_in import Framework, use

ct = pytest.importorskip("coremltools")
pytestmark = pytest.mark.model
WAIT_S = 20.0
MANY = 1 << 29


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(tmp_path_factory.mktemp("models")))
        return convert_encoder(demo_directory(), ConversionOptions(buckets=(24,), chunks=2), lambda line: None)


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Framework:
    monkeypatch.setattr(prediction, "_owned", {})
    return use(monkeypatch)


def wait_released(framework: Framework, count: int) -> None:
    for _ in range(count):
        framework.released.get(timeout=WAIT_S)


def encode(folder: Path) -> np.ndarray:
    """A page by a tower that is gone afterwards, as in a trial."""
    tower, page = DeviceTower(folder, Build.read(folder), "cpu_and_ne", (24,), lambda line: None), draw_page(24)
    found = tower.encode(page.values, page.grid)
    tower.close()
    return found


def test_core_ml_is_never_the_last_owner_of_an_input(folder: Path, framework: Framework) -> None:
    encode(folder)
    gc.collect()
    wait_released(framework, 6)
    assert framework.crashes == []
    assert len(prediction._owned) == 4  # patches, hidden, cosines and sines
    assert all(sys.getrefcount(array) > MANY for array in prediction._owned.values())


def test_the_stand_in_notices_an_input_that_its_caller_has_dropped(
    folder: Path, framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "owned_input", lambda name, shape: np.zeros(shape, np.float32))
    framework.records_inputs = False
    with framework.is_held_back:  # until the caller has dropped its inputs, however long its predictions take
        encode(folder)
    wait_released(framework, 6)
    assert set(framework.crashes) >= {"patches", "hidden"}


def test_every_tower_of_a_process_uses_the_same_input_arrays(folder: Path, framework: Framework) -> None:
    first = encode(folder)
    known = dict(prediction._owned)
    assert np.array_equal(encode(folder), first)
    assert prediction._owned.keys() == known.keys()
    assert all(prediction._owned[key] is array for key, array in known.items())
    wait_released(framework, 12)


def test_an_owned_array_survives_references_that_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_owned", {})
    array = owned_input("x", (2, 3))
    assert array.dtype == np.float32 and array.shape == (2, 3) and array.flags.writeable
    assert owned_input("x", (2, 3)) is array and owned_input("y", (2, 3)) is not array
    assert sys.getrefcount(array) > MANY


def test_float16_is_widened_and_the_bindings_rules_are_kept(folder: Path, framework: Framework) -> None:
    (path,) = [path for path in folder.rglob("tower-1.mlmodelc") if path.is_dir()]
    model = ct.models.CompiledMLModel(str(path), ct.ComputeUnit.CPU_ONLY, "patches_24")
    tables = {name: np.ones((1, 1, Build.read(folder).head_dim, 24), np.float16) for name in ("cos", "sin")}
    (out,) = predict(model, {"patches": np.ones((1, 588, 1, 24), np.float16), **tables}).values()
    assert out.dtype == np.float32 and out.flags.c_contiguous
    with pytest.raises(CommandFailedError, match="does not match the shape specified in the model"):
        predict(model, {"patches": np.ones((1, 588, 1, 28), np.float32), **tables})
    with pytest.raises(CommandFailedError, match="is required"):
        predict(model, tables)
    wait_released(framework, 3)
