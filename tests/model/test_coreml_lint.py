"""The rules that packages keep: each finds a package that breaks it, and the packages of every scheme keep all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.package import Package
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.coreml import lint
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.lint import RULES, lint_package, operation_counts
from dotsctl.tools.coreml.lint_values import lint_values
from dotsctl.tools.coreml.options import BITS, ConversionOptions

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model
FUNCTION = "patches_8"
Body = Callable[[Any, Any], Any]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """``written(body, shape)``: a package with one function; ``body(mb, x)`` computes its output from ``hidden``."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, types
    from dotsctl.tools.coreml.package import TARGET, write_package

    def make(body: Body, shape: tuple[int, ...] = (1, 8, 1, 8), precision: str = "float16") -> Path:
        kind = types.fp16 if precision == "float16" else types.fp32
        with Function({"hidden": mb.placeholder(shape, dtype=kind)}, opset_version=TARGET) as function:
            function.set_outputs([body(mb, function.inputs["hidden"])])
        path = tmp_path / f"made-{len(list(tmp_path.iterdir()))}.mlpackage"
        write_package({FUNCTION: function}, path)
        return path

    return make


def rules(package: Path, **options: Any) -> set[str]:
    return {finding.rule for finding in lint_package(package, "float16", **options)}


def twice(mb: Any, x: Any) -> Any:
    return mb.add(x=x, y=x, name="twice")


def change(package: Path, edit: Callable[[Any], object]) -> None:
    """Edit the block of operations of a saved package."""
    opened = Package(package)
    edit(opened.function(FUNCTION)[1])
    (file,) = package.rglob("*.mlmodel")
    file.write_bytes(opened.model.SerializeToString())


def test_a_sound_package_breaks_no_rule(written: Callable[..., Path]) -> None:
    package = written(twice)
    assert lint_package(package, "float16") == []
    assert operation_counts(package) == {FUNCTION: 1}


@pytest.mark.parametrize("name", ["state", "1st", "a.b", "hidden"])
def test_a_name_that_mil_does_not_allow_or_that_is_bound_twice_is_found(
    written: Callable[..., Path], name: str
) -> None:
    def rename(block: Any) -> None:
        block.operations[-1].outputs[0].name = name
        block.outputs[:] = [name]

    package = written(twice)
    change(package, rename)
    assert rules(package) == {"names"}


def test_an_operation_name_that_is_used_twice_is_found(written: Callable[..., Path]) -> None:
    def rename(block: Any) -> None:
        for op in block.operations:
            op.attributes["name"].immediateValue.tensor.strings.values[:] = ["same"]

    package = written(lambda mb, x: twice(mb, mb.mul(x=x, y=x, name="squares")))
    change(package, rename)
    assert [str(finding) for finding in lint_package(package, "float16")] == [
        f"names: {FUNCTION} same is the name of a second operation"
    ]


def test_values_out_of_order_unused_or_of_a_strange_operation_are_found(written: Callable[..., Path]) -> None:
    def body(mb: Any, x: Any) -> Any:
        mb.mul(x=x, y=x, name="unused")
        return twice(mb, mb.mul(x=x, y=x, name="squares"))

    package = written(body)
    assert [finding.problem for finding in lint_package(package, "float16")] == ["is not used"]

    def reverse(block: Any) -> None:
        last = type(block.operations[-1])()
        last.CopyFrom(block.operations[-1])
        del block.operations[-1]
        block.operations.insert(0, last)

    change(package, reverse)
    assert any("takes squares, which is not computed before it" in str(one) for one in lint_package(package, "float16"))
    strange = written(lambda mb, x: mb.tanh(x=x, name="bent"))
    assert [finding.problem for finding in lint_package(strange, "float16")] == [
        "is an operation tanh, which the converter does not use"
    ]


def test_a_long_axis_and_a_sixth_axis_are_found(written: Callable[..., Path]) -> None:
    assert rules(written(twice, (1, 4, 1, 16_384))) == set()
    assert rules(written(twice, (1, 4, 1, 16_385))) == {"sizes"}
    package = written(twice, (1, 1, 2, 2, 2))

    def add_axis(block: Any) -> None:
        tensor = block.operations[-1].outputs[0].type.tensorType
        tensor.dimensions.add().constant.size = 1

    assert rules(package) == set()
    change(package, add_axis)
    assert rules(package) == {"sizes"}


def test_float32_is_found_in_a_float16_package_alone(written: Callable[..., Path]) -> None:
    package = written(twice, precision="float32")
    problems = {finding.problem for finding in lint_package(package, "float16")}
    assert problems == {"is float32 in a float16 package", "is an input or output in float32 of a float16 package"}
    assert lint_package(package, "float32") == []
    half = written(lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="fp32", name="wide"), dtype="fp16", name="narrow"))
    assert rules(half) == {"precision", "structure"}


def test_a_large_transposed_operand_is_found(written: Callable[..., Path]) -> None:
    def product(mb: Any, x: Any) -> Any:
        return mb.matmul(x=x, y=x, transpose_y=True, name="scores")

    assert rules(written(product, (1, 1, 8, 16_000))) == set()
    found = lint_package(written(product, (1, 63, 8, 16_000)), "float16")
    assert [finding.rule for finding in found] == ["transposed operands"]
    assert "transposes 16,128,000 bytes" in found[0].problem


@pytest.mark.parametrize(("channels", "found"), [(1023, set()), (1024, {"scaled norms"})])
def test_a_wide_norm_with_scales_is_found(written: Callable[..., Path], channels: int, found: set[str]) -> None:
    def norm(mb: Any, x: Any) -> Any:
        return mb.layer_norm(
            x=x, axes=[1], gamma=np.ones(channels, np.float16), epsilon=np.float16(1e-3), name="normed"
        )

    assert rules(written(norm, (1, channels, 1, 4))) == found


@pytest.mark.parametrize(("epsilon", "found"), [(6.2e-5, set()), (1e-5, {"epsilons"}), (1e-9, {"epsilons"})])
def test_an_epsilon_below_the_normal_numbers_is_found_unless_it_is_allowed(
    written: Callable[..., Path], epsilon: float, found: set[str]
) -> None:
    package = written(lambda mb, x: mb.layer_norm(x=x, axes=[1], epsilon=np.float16(epsilon), name="normed"))
    assert rules(package) == found
    assert rules(package, may_have_subnormal_epsilons=True) == set()


def test_too_many_operations_and_too_large_weights_are_found(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(mb: Any, x: Any) -> Any:
        for number, rows in enumerate((16, 8)):
            matrix = np.ones((rows, x.shape[1], 1, 1), np.float16)
            x = mb.conv(x=x, weight=mb.const(val=matrix, name=f"weight{number}"), name=f"product{number}")
        return x

    package = written(body)
    assert rules(package) == set()
    monkeypatch.setattr(lint, "MAX_OPERATIONS", 1)
    monkeypatch.setattr(lint, "DENSE_LIMIT_BYTES", 512)
    problems = [finding.problem for finding in lint_package(package, "float16")]
    assert problems == [
        "has 2 operations, at most 1 compile in reasonable time",
        "has 512 bytes of expanded weights, the limit is 512",
    ]


@pytest.mark.parametrize("weights", BITS)
def test_packages_of_the_demo_model_keep_all_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    lines: list[str] = []
    folder = convert_encoder(demo_directory(), ConversionOptions(weights=weights, buckets=(96, 160)), lines.append)
    packages = sorted(folder.glob("*.mlpackage"))
    assert len(packages) == 3  # one with both functions, and one for the plan of each
    assert [finding for package in packages for finding in lint_package(package, "float16")] == []
    assert any(f"{len(RULES)} rules kept; operations: " in line for line in lines)
    assert any("no value beyond its limit" in line for line in lines)
    sizes = {weight.stat().st_ino: weight.stat().st_nlink for weight in folder.rglob("weight.bin")}
    assert list(sizes.values()) == [3]


@pytest.mark.parametrize(
    ("name", "limit"),
    [("product", 32_752), ("sum", 65_504), ("piece", 4_094), ("half", 65_504), ("scaled", 65_504)],
)
@pytest.mark.parametrize("factor", [1, 1.01])
def test_a_value_beyond_its_limit_is_found(
    written: Callable[..., Path], name: str, limit: float, factor: float
) -> None:
    def body(mb: Any, x: Any) -> Any:
        made = {
            "product": lambda: mb.matmul(x=x, y=np.eye(8, dtype=np.float16)[None, None], name="product"),
            "sum": lambda: mb.add(x=x, y=np.float16(0), name="sum"),
            "piece": lambda: mb.split(x=x, num_splits=2, axis=3, name="piece")[0],
            "half": lambda: mb.slice_by_size(x=x, begin=[0] * 4, size=[1, 4, 1, 8], name="half"),
            "scaled": lambda: mb.mul(x=x, y=np.float16(1), name="scaled"),
        }
        return made[name]()

    program = Interpreter(written(body), FUNCTION)
    inputs = np.full((1, 8, 1, 8), limit, np.float32)
    program.run({"hidden": inputs})
    assert list(lint_values([program])) == []
    program.magnitudes = {key: peak * factor for key, peak in program.magnitudes.items()}
    found = {finding.where.partition("_")[0] for finding in lint_values([program])}
    assert found == ({name} if factor > 1 else set())


def test_a_value_that_is_not_a_number_is_beyond_every_limit(written: Callable[..., Path]) -> None:
    program = Interpreter(written(twice), FUNCTION)
    program.run({"hidden": np.full((1, 8, 1, 8), np.nan, np.float32)})
    assert ["reaches inf" in str(finding) for finding in lint_values([program])] == [True]
