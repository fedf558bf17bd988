"""How the tower is written down does not change what it computes: folded scales, powers of two, forms of attention."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.manifest import function_name
from dotsctl.encoder_worker.coreml.package import Package
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, patches_input, rotary_inputs
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.coreml.lint import lint_package
from dotsctl.tools.coreml.scaling import normal_exponent, stream_exponent, tensor_exponents
from dotsctl.tools.reference.exact_tower import ExactTower, difference
from dotsctl.tools.reference.tower_tensors import TowerTensors
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model
GRID = (4, 6)


def tower_function(
    model: Path,
    *,
    exponents: Mapping[str, int],
    residual_exponent: int = 0,
    precision: str = "float32",
    scheme: str = "same",
) -> Any:
    """The complete tower of a small model as a function for pages of ``GRID``."""
    from dotsctl.tools.coreml.attention import AttentionOptions
    from dotsctl.tools.coreml.package import TARGET
    from dotsctl.tools.coreml.stored_weights import StoredWeights
    from dotsctl.tools.coreml.tower import TowerBuilder, TowerPart

    config = config_of(model)
    weights = StoredWeights(TowerTensors(model), precision, scheme, exponents)
    builder = TowerBuilder(config, weights, AttentionOptions(query_tile=10), residual_exponent)
    return builder.function(TowerPart(0, config.num_hidden_layers, config.num_hidden_layers), GRID[0] * GRID[1], TARGET)


def write_tower(model: Path, path: Path, **options: Any) -> Path:
    """The same as a package."""
    from dotsctl.tools.coreml.package import write_package

    write_package({function_name(GRID[0] * GRID[1]): tower_function(model, **options)}, path)
    return path


def config_of(model: Path) -> VisionConfig:
    return VisionConfig.from_json(read_json(model, "config.json")["vision_config"])


def page() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(GRID[0] * GRID[1], 588)).astype(np.float32)


def run(package: Path, model: Path) -> np.ndarray:
    cosines, sines = rotary_inputs(GRID, config_of(model).head_dim)
    program = Interpreter(package, function_name(GRID[0] * GRID[1]))
    (found,) = program.run({"patches": patches_input(page()), "cos": cosines, "sin": sines}).values()
    return embeddings_of(found)


def constant(package: Path, name: str) -> np.ndarray:
    opened = Package(package)
    (op,) = (op for op in opened.function(opened.function_names[0])[1].operations if op.outputs[0].name == name)
    return np.asarray(opened.value(op.attributes["val"]))


def test_scales_and_shifts_of_norms_are_folded_into_the_matrices_behind_them(
    tmp_path: Path, write_model: Callable[..., Path], tensors: dict[str, np.ndarray]
) -> None:
    package = write_tower(write_model(), tmp_path / "tower.mlpackage", exponents={})
    block, merger = "vision_tower.blocks.1", "vision_tower.merger"
    for matrix, norm in (("mlp.fc1", "norm2"), ("mlp.fc3", "norm2")):
        expected = tensors[f"{block}.{matrix}.weight"] * tensors[f"{block}.{norm}.weight"]
        found = constant(package, f"blocks_1_{matrix.replace('.', '_')}_weight")
        assert np.array_equal(found[:, :, 0, 0], expected)
    values = np.split(tensors[f"{block}.attn.qkv.weight"], 3)[2] * tensors[f"{block}.norm1.weight"]
    assert np.array_equal(constant(package, "blocks_1_attn_qkv_weight_2")[:, :, 0, 0], values)
    shifts = np.tile(tensors[f"{merger}.ln_q.bias"], 4).astype(np.float64)
    expected = tensors[f"{merger}.mlp.0.bias"] + tensors[f"{merger}.mlp.0.weight"] @ shifts
    assert constant(package, "merger_mlp_0_bias") == pytest.approx(expected, rel=1e-6)
    operations = Package(package).function(function_name(24))[1].operations
    assert not [op for op in operations if op.type == "layer_norm" and {"gamma", "beta"} & set(op.inputs)]


def test_weights_of_four_bits_are_not_spread_by_the_scales_of_norms(
    tmp_path: Path, write_model: Callable[..., Path], tensors: dict[str, np.ndarray]
) -> None:
    name = "vision_tower.blocks.0.norm2.weight"
    uneven = tensors[name] * np.where(np.arange(len(tensors[name])) % 7 == 0, 100, 1).astype(np.float32)
    model = write_model(tensors=tensors | {name: uneven})
    package = write_tower(model, tmp_path / "tower.mlpackage", exponents={}, scheme="int4")
    assert np.array_equal(constant(package, "blocks_0_norm2_weight").reshape(-1), uneven)
    opened = Package(package)
    operations = {op.outputs[0].name for op in opened.function(opened.function_names[0])[1].operations}
    assert {"blocks_0_norm1_scaled", "blocks_0_norm2_scaled", "blocks_1_norm1_scaled"} <= operations


@pytest.mark.parametrize("post_norm", [True, False])
@pytest.mark.parametrize("residual_exponent", [-5, 0, 4])
def test_powers_of_two_leave_the_embeddings_as_they_are(
    tmp_path: Path, write_model: Callable[..., Path], residual_exponent: int, post_norm: bool
) -> None:
    model = write_model(
        vision_config=read_json(write_model(), "config.json")["vision_config"] | {"post_norm": post_norm}
    )
    exponents = tensor_exponents(config_of(model), residual_exponent)
    exponents |= {"blocks.0.attn.qkv.weight.2": 3, "blocks.0.attn.proj.weight": residual_exponent - 3}
    exponents |= {"blocks.1.mlp.fc3.weight": -2, "blocks.1.mlp.fc2.weight": residual_exponent + 2}
    package = write_tower(model, tmp_path / "tower.mlpackage", exponents=exponents, residual_exponent=residual_exponent)
    assert difference(run(package, model), ExactTower.of(model).embeddings(page(), GRID))[0] < 2e-6


@pytest.mark.parametrize("post_norm", [True, False])
def test_every_epsilon_of_a_float16_tower_is_a_normal_number(
    tmp_path: Path, write_model: Callable[..., Path], post_norm: bool
) -> None:
    model = write_model(
        vision_config=read_json(write_model(), "config.json")["vision_config"] | {"post_norm": post_norm}
    )
    config = config_of(model)
    exponent = stream_exponent(config)
    scaled = write_tower(
        model,
        tmp_path / "scaled.mlpackage",
        exponents=tensor_exponents(config, exponent),
        residual_exponent=exponent,
        precision="float16",
    )
    assert lint_package(scaled, "float16") == []
    plain = write_tower(model, tmp_path / "plain.mlpackage", exponents={}, precision="float16")
    assert {finding.rule for finding in lint_package(plain, "float16")} == {"epsilons"}


@given(st.floats(1e-12, 1.0))
def test_an_input_is_scaled_no_more_than_its_epsilon_needs(epsilon: float) -> None:
    smallest, exponent = float(np.finfo(np.float16).smallest_normal), normal_exponent(epsilon)
    assert epsilon * 4.0**exponent >= smallest * (1 - 1e-12)
    assert exponent == 0 or epsilon * 4.0 ** (exponent - 1) < smallest


def test_the_backend_passes_of_coremltools_that_are_left_out_would_change_no_operation() -> None:
    from coremltools.converters.mil.mil import Program
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline, PassPipelineManager

    config = config_of(demo_directory())
    exponent = stream_exponent(config)
    exponents = tensor_exponents(config, exponent)
    function = tower_function(demo_directory(), exponents=exponents, residual_exponent=exponent, precision="float16")

    def computed() -> list[tuple[str, str]]:
        return [(op.op_type, op.outputs[0].name) for op in function.operations if op.op_type != "const"]

    program, before = Program(), computed()
    program.add_function("main", function)
    PassPipelineManager.apply_pipeline(program, PassPipeline.get_pipeline("backend_mlprogram"))
    assert computed() == before
    assert len(before) > 100


def test_every_form_of_attention_of_the_laboratory_computes_the_same_layer(tmp_path: Path) -> None:
    from dotsctl.tools.coreml.lab import lab_packages

    rng, patches, found = np.random.default_rng(0), 528, {}
    for made in lab_packages(demo_directory(), patches, tmp_path):
        program = Interpreter(made.path, function_name(patches))
        shapes = {name: shape for name, (shape, _) in program.inputs.items()}
        assert shapes["hidden"] == (1, made.width, 1, patches) and shapes["cos"] == (1, 1, made.head_dim, patches)
        if not found:
            inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        found[made.name] = program.run(inputs)["next_hidden"]
        softmax = [op for op in program.steps if op.type == "softmax"]
        shape = [axis.constant.size for axis in softmax[0].outputs[0].type.tensorType.dimensions]
        assert shape[1] == (1 if made.split_heads else 4)
        assert shape[2 if made.attention == "query-major" else 3] <= made.query_tile
        assert len(softmax) == (4 if made.split_heads else 1) * -(-patches // made.query_tile)
        assert made.flops == 2 * patches * (4 * 128**2 + 3 * 128 * 352) + 4 * patches**2 * 128
        shutil.rmtree(made.path)
    assert len(found) == 12
    first = found["key-major-together-512"]
    assert all(difference(value[0, :, 0].T, first[0, :, 0].T)[0] < 1e-3 for value in found.values())
    assert list(tmp_path.iterdir()) == []
