"""Saved Core ML packages, executed by the reference interpreter, against the tower in float64."""

import json
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.client.files.sizes import tree_bytes
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk, find_build, function_name
from dotsctl.encoder_worker.coreml.package import Package
from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.protocol.model.half_precision import HalfPlan
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.reference.exact_tower import ExactTower, difference

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model

GRID = (12, 8)
BUCKETS = (96, 160)
Convert = Callable[..., Path]


def random_patches(grid: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(grid[0] * grid[1], 588)).astype(np.float32)


@cache
def exact(model: Path, grid: tuple[int, int]) -> np.ndarray:
    return ExactTower.of(model).embeddings(random_patches(grid), grid)


def reference(folder: Path, grid: tuple[int, int] = GRID) -> np.ndarray:
    return ReferenceTower(folder, Build.read(folder)).encode(random_patches(grid), grid)


@pytest.fixture(scope="module", autouse=True)
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def convert(models_folder: Path) -> Convert:
    """``convert(model, **options)``: the folder of a build; the same one is made once."""
    made: dict[str, Path] = {}

    def make(model: Path, **options: Any) -> Path:
        key = f"{model} {sorted(options.items())}"
        if key not in made:
            options = {"buckets": BUCKETS, "query_tile": 40, "name": f"build-{len(made)}", **options}
            made[key] = convert_encoder(model, ConversionOptions(**options), lambda line: None)
        return made[key]

    return make


@pytest.mark.parametrize(
    ("options", "error", "cosine"),
    [
        ({"precision": "float32"}, 1e-5, 1 - 1e-9),
        ({}, 2e-3, 0.99999),
        ({"chunks": 2}, 2e-3, 0.99999),
        ({"query_tile": 1000}, 2e-3, 0.99999),
        ({"weights": "int8"}, 2e-2, 0.999),
        ({"weights": "int8", "precision": "float32"}, 2e-2, 0.999),
        ({"weights": "int8-per-tensor"}, 5e-2, 0.998),
        ({"weights": "int4"}, 0.25, 0.95),
        ({"weights": "palette6"}, 0.1, 0.99),
    ],
    ids=str,
)
@pytest.mark.parametrize("grid", [GRID, (10, 16)])
def test_a_package_of_the_demo_model_computes_the_tower(
    convert: Convert, options: dict[str, Any], error: float, cosine: float, grid: tuple[int, int]
) -> None:
    expected = exact(demo_directory(), grid)
    found = reference(convert(demo_directory(), **options), grid)
    assert found.shape == expected.shape
    relative, _, smallest = difference(found, expected)
    assert relative <= error
    assert smallest >= cosine


@pytest.mark.parametrize("grid", [(12, 8), (8, 12), (24, 4), (2, 48)])
def test_one_function_serves_every_grid_of_its_bucket(convert: Convert, grid: tuple[int, int]) -> None:
    folder = convert(demo_directory(), precision="float32")
    assert difference(reference(folder, grid), exact(demo_directory(), grid))[0] < 1e-5


def test_a_tower_with_biases_without_last_norm_and_with_other_prefixes_converts(
    convert: Convert, write_model: Callable[..., Path], tensors: dict[str, np.ndarray]
) -> None:
    rng = np.random.default_rng(5)
    biases = {
        name.replace("weight", "bias"): rng.normal(0, 0.3, len(tensor)).astype(np.float32)
        for name, tensor in tensors.items()
        if name.startswith("vision_tower.blocks") and tensor.ndim == 2
    }
    kept = {name: tensor for name, tensor in (tensors | biases).items() if "post_trunk" not in name}
    patch = "vision_tower.patch_embed.patchifier.proj.weight"
    kept[patch] = np.ascontiguousarray(kept[patch].transpose(0, 2, 3, 1))
    renamed = {f"model.{name}" if name.startswith("vision") else name: tensor for name, tensor in kept.items()}
    config = read_json(write_model(), "config.json")["vision_config"] | {"use_bias": True, "post_norm": False}
    model = write_model(tensors=renamed, vision_config=config)
    relative, _, _ = difference(reference(convert(model, precision="float32")), exact(model, GRID))
    assert relative < 1e-5


def scaled_stream(tensors: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    """A tower whose residual stream is ``factor`` times as large, as far as its first norm decides."""
    name = "vision_tower.patch_embed.patchifier.norm.weight"
    return tensors | {name: (tensors[name] * factor).astype(np.float32)}


def test_a_residual_stream_whose_squares_overflow_float16_is_normed_well(
    convert: Convert, write_model: Callable[..., Path], tensors: dict[str, np.ndarray]
) -> None:
    model = write_model(tensors=scaled_stream(tensors, 3000.0))
    folder = convert(model)
    assert difference(reference(folder), exact(model, GRID))[0] < 3e-3


@pytest.fixture
def unscaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions leave magnitudes as they are."""
    monkeypatch.setattr("dotsctl.tools.coreml.build.encoder_plan", lambda *_, **__: HalfPlan())


def test_a_conversion_that_computes_values_beyond_float16_is_refused_by_their_names(
    convert: Convert, write_model: Callable[..., Path], tensors: dict[str, np.ndarray], unscaled: None
) -> None:
    name = "vision_tower.blocks.1.mlp.fc2.weight"
    model = write_model(tensors=tensors | {name: tensors[name] * np.float32(30_000)})
    with pytest.raises(CommandFailedError, match=r"magnitudes: blocks_1_mlp_fc2 reaches [\d,]+, the limit of conv is"):
        convert(model)
    assert Build.read(convert(model, precision="float32")).residual_exponent == 0


def test_a_build_that_computes_its_golden_page_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    monkeypatch.setattr("dotsctl.tools.coreml.tower.MERGER_EPSILON", 3.0)
    with pytest.raises(CommandFailedError, match=r"page of 96 patches, cannot be used: golden page: embeddings differ"):
        convert_encoder(demo_directory(), ConversionOptions(buckets=BUCKETS), lambda line: None)
    assert folders(tmp_path) == []


def test_any_value_of_a_program_can_be_looked_at(convert: Convert) -> None:
    folder = convert(demo_directory(), precision="float32")
    chunk = Interpreter(folder / "tower-1.mlpackage", function_name(96))
    inputs = {key: np.ones(shape, np.float32) for key, (shape, _) in chunk.inputs.items()}
    found = chunk.run(inputs, ["blocks_0_attn_tile0_shares"])
    assert found.keys() == {"embeddings", "blocks_0_attn_tile0_shares"}
    assert found["blocks_0_attn_tile0_shares"].shape == (1, 4, 96, 32)
    assert found["blocks_0_attn_tile0_shares"].sum(axis=2) == pytest.approx(1, abs=1e-5)
    with pytest.raises(CommandFailedError, match="no value blocks_9"):
        chunk.run(inputs, ["blocks_9"])


@pytest.mark.parametrize(("precision", "all_rounded"), [("float16", True), ("float32", False)])
def test_every_value_is_rounded_to_its_declared_type(convert: Convert, precision: str, all_rounded: bool) -> None:
    chunk = Interpreter(convert(demo_directory(), precision=precision) / "tower-1.mlpackage", function_name(96))
    rng = np.random.default_rng(3)
    inputs = {key: rng.normal(size=shape).astype(np.float32) for key, (shape, _) in chunk.inputs.items()}
    wanted = ["blocks_0_attn_tile0_scores", "blocks_0_attn_tile1_shares", "blocks_1_norm1", "blocks_2_product"]
    for values in chunk.run(inputs, wanted).values():
        assert np.array_equal(values, values.astype(np.float16).astype(np.float32)) is all_rounded


def test_values_are_freed_at_their_last_use(convert: Convert) -> None:
    package = convert(demo_directory(), precision="float32") / "tower-1.mlpackage"
    chunk = Interpreter(package, function_name(160))
    inputs = {key: np.ones(shape, np.float32) for key, (shape, _) in chunk.inputs.items()}
    chunk.run(inputs)  # once before, for what numpy and Python keep
    computed = [op for op in operations(package, function_name(160)) if op.type != "const"]
    shapes = [[d.constant.size for d in output.type.tensorType.dimensions] for op in computed for output in op.outputs]
    tracemalloc.start()
    chunk.run(inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * sum(4 * prod(shape) for shape in shapes)


def operations(package: Path, function: str) -> list[Any]:
    return list(Package(package).function(function)[1].operations)


@pytest.mark.parametrize("options", [{}, {"weights": "int8"}, {"weights": "int4"}, {"weights": "palette6"}], ids=str)
def test_a_float16_program_has_documented_operations_alone_and_computes_nothing_in_float32(
    convert: Convert, options: dict[str, Any]
) -> None:
    from dotsctl.tools.coreml.lint import OPERATIONS

    package = convert(demo_directory(), **options) / "tower-1.mlpackage"
    float32 = 11
    for bucket in BUCKETS:
        found = operations(package, function_name(bucket))
        assert {op.type for op in found} <= set().union(*OPERATIONS.values())
        assert not {"scaled_dot_product_attention", "cast"} & {op.type for op in found}
        types = {(op.type, output.type.tensorType.dataType) for op in found for output in op.outputs}
        assert not [kind for kind, dtype in types if dtype == float32]


@pytest.mark.parametrize("options", [{}, {"weights": "int8"}, {"weights": "int4"}, {"weights": "palette6"}], ids=str)
def test_every_name_of_a_function_is_a_valid_identifier_that_is_bound_once(
    convert: Convert, options: dict[str, Any]
) -> None:
    package = Package(convert(demo_directory(), **options) / "tower-1.mlpackage")
    for bucket in BUCKETS:
        message, block = package.function(function_name(bucket))
        values = [one.name for one in message.inputs] + [out.name for op in block.operations for out in op.outputs]
        names = [package.value(op.attributes["name"]) for op in block.operations]
        for bound in (values, names):
            assert len(bound) == len(set(bound))
            assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in bound)
            assert not {"tensor", "state", "fp16", "list", "string", "true"} & set(bound)


def test_names_that_mil_does_not_take_are_changed_and_those_of_outputs_kept(tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, types
    from dotsctl.tools.coreml.package import TARGET, write_package

    with Function({"hidden": mb.placeholder((1, 4), dtype=types.fp16)}, opset_version=TARGET) as function:
        x = function.inputs["hidden"]
        for name in ("twice", "twice", "state", "0 bad.name", "sum"):
            x = mb.add(x=x, y=np.float16(1), name=name)
        function.set_outputs([x])
    write_package({"patches_4": function}, tmp_path / "names.mlpackage")
    found = operations(tmp_path / "names.mlpackage", "patches_4")
    bound = [op.outputs[0].name for op in found if op.type == "add"]
    assert bound == ["twice", "twice_1", "state_workaround", "var_0_bad_name", "sum"]


def test_the_residual_stream_is_never_cut(convert: Convert) -> None:
    package = convert(demo_directory()) / "tower-1.mlpackage"
    found = operations(package, function_name(96))
    stream = {output.name for op in found if op.type == "add" for output in op.outputs if output.name.startswith("bl")}
    stream = {name for name in stream if name.endswith(("attended", "output"))}
    assert len(stream) == 8
    for op in found:
        if op.type in ("split", "slice_by_size"):
            assert op.inputs["x"].arguments[0].name not in stream


def test_scores_of_no_more_queries_than_a_tile_exist_at_a_time(convert: Convert) -> None:
    package = convert(demo_directory()) / "tower-1.mlpackage"
    scores = [op for op in operations(package, function_name(160)) if op.type == "softmax"]
    shapes = [[d.constant.size for d in op.outputs[0].type.tensorType.dimensions] for op in scores]
    assert shapes == [[1, 4, 160, 40]] * 16


def test_weights_are_stored_once_for_all_buckets_and_chunks(convert: Convert) -> None:
    def weight_bytes(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("tower-*/**/weight.bin"))

    one = weight_bytes(convert(demo_directory(), buckets=(96,)))
    assert weight_bytes(convert(demo_directory(), buckets=(96, 160, 240, 352))) <= 1.001 * one
    assert weight_bytes(convert(demo_directory(), chunks=2)) <= 1.01 * one
    assert weight_bytes(convert(demo_directory(), weights="int8")) < 0.55 * one
    assert weight_bytes(convert(demo_directory(), weights="palette6")) < 0.42 * one
    assert weight_bytes(convert(demo_directory(), weights="int4")) < 0.33 * one


def test_the_manifest_lists_what_was_made(convert: Convert) -> None:
    build = Build.read(convert(demo_directory(), chunks=2, compute_units="cpu_and_gpu"))
    assert build.fingerprint == fingerprint(demo_directory())
    assert (build.precision, build.weights, build.buckets, build.query_tile) == ("float16", "same", BUCKETS, 40)
    assert (build.compute_units, build.width, build.head_dim) == ("cpu_and_gpu", 256, 32)
    assert [(chunk.first_layer, chunk.end_layer) for chunk in build.chunks] == [(0, 3), (3, 4)]
    assert build.versions.keys() == {"dotsctl", "python", "coremltools", "numpy", "protobuf"}
    assert all(len(digest) == 64 for chunk in build.chunks for _, digest in chunk.files.values())


@pytest.fixture
def copied(convert: Convert, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only build of the demo model, to be damaged."""
    folder = tmp_path / "models" / convert(demo_directory()).relative_to(models_folder)
    shutil.copytree(convert(demo_directory()), folder)
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    return folder


def find(name: str | None = None) -> tuple[Path, Build]:
    return find_build(demo_directory(), fingerprint(demo_directory()), name)


def test_the_only_build_is_found_and_one_that_is_not_there_is_named(copied: Path) -> None:
    assert find()[0] == find(copied.name)[0] == copied
    with pytest.raises(MissingError, match=rf"'int8'.*there are: {copied.name}.*dotsctl convert .* --encoder coreml"):
        find("int8")
    shutil.rmtree(copied)
    with pytest.raises(MissingError, match=r"no Core ML packages.*dotsctl convert .* --encoder coreml"):
        find()


def test_of_several_builds_float16_is_taken_or_one_must_be_chosen(copied: Path) -> None:
    shutil.copytree(copied, copied.with_name("other"))
    with pytest.raises(
        UsageError, match=r"several builds: build-\d+, other: choose one with --encoder coreml:build=NAME"
    ):
        find()
    assert find("other")[0].name == "other"
    shutil.copytree(copied, copied.with_name("float16"))
    assert find()[0].name == "float16"


def test_a_build_of_another_checkpoint_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "0" * 64}))
    with pytest.raises(MissingError, match="another checkpoint"):
        find()


def test_a_build_of_another_format_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(
        MissingError, match=r"format 99, .* format 2: convert the model again: dotsctl convert MODEL --encoder coreml"
    ):
        find()


def test_a_compute_plan_of_each_page_size_has_a_package_that_shares_the_weights(convert: Convert) -> None:
    folder = convert(demo_directory(), chunks=2)
    build = Build.read(folder)
    inputs, found = {}, {}
    for bucket in BUCKETS:
        plans = build.plan_packages(bucket)
        assert len(plans) == 2
        for chunk, plan in zip(build.chunks, plans, strict=True):
            assert Package(folder / plan).function_names == [function_name(bucket)]
            assert Package(folder / plan).model.description.defaultFunctionName == function_name(bucket)
            weights = [next((folder / name).rglob("weight.bin")) for name in (chunk.file, plan)]
            assert weights[0].samefile(weights[1])
    for name in (build.chunks[0].file, build.plan_packages(96)[0]):
        program = Interpreter(folder / name, function_name(96))
        inputs = inputs or {key: np.ones(shape, np.float32) for key, (shape, _) in program.inputs.items()}
        found[name] = program.run(inputs)["next_hidden"]
    assert len(found) == 2 and np.array_equal(*found.values())


def test_weights_that_packages_share_are_counted_once(convert: Convert) -> None:
    folder = convert(demo_directory(), chunks=2)
    build = Build.read(folder)
    files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    apart = sum((folder / name).stat().st_size for name in ("manifest.json", "golden.npz"))
    assert build.nbytes == sum(files.values()) - apart
    assert tree_bytes(folder) == sum(files.values())


def test_on_a_disk_without_hard_links_a_build_has_no_packages_for_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    monkeypatch.setattr("os.link", refuse)
    lines: list[str] = []
    folder = convert_encoder(demo_directory(), ConversionOptions(buckets=BUCKETS), lines.append)
    assert Build.read(folder).plan_packages(96) == []
    assert [path.name for path in folder.glob("*.mlpackage")] == ["tower-1.mlpackage"]
    assert any("no hard links" in line for line in lines)


@pytest.mark.parametrize("name", ["Manifest.json", "model.mlmodel", "weight.bin"])
@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_package_is_refused(copied: Path, name: str, damage: str) -> None:
    (file,) = (copied / "tower-1.mlpackage").rglob(name)
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[:-10])
    with pytest.raises(MissingError, match=r"damaged: convert the model again"):
        find()


def test_changed_bytes_are_found_when_contents_are_compared(copied: Path) -> None:
    (file,) = (copied / "tower-1.mlpackage").rglob("weight.bin")
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    build = find()[1]
    build.check_files(copied, contents=True)
    file.write_bytes(content)
    build.check_files(copied)
    with pytest.raises(MissingError, match=r"weight\.bin was changed after it was written"):
        build.check_files(copied, contents=True)


def test_a_package_with_wrong_bytes_is_refused_by_the_interpreter(copied: Path) -> None:
    package = copied / "tower-1.mlpackage"
    (weights,) = package.rglob("weight.bin")
    (program,) = package.rglob("model.mlmodel")
    weights.write_bytes(b"\0" * weights.stat().st_size)
    chunk = Interpreter(package, function_name(96))
    with pytest.raises(MissingError, match=r"record at byte \d+ of .* is damaged"):
        chunk.run({key: np.ones(shape, np.float32) for key, (shape, _) in chunk.inputs.items()})
    program.write_bytes(b"\xff" * 100)
    with pytest.raises(MissingError, match="not a valid Core ML package"):
        Interpreter(package, function_name(96))


def test_an_unknown_operation_function_or_input_is_an_error(copied: Path) -> None:
    package = copied / "tower-1.mlpackage"
    with pytest.raises(MissingError, match=r"no function 'main'; it has: patches_160, patches_96"):
        Interpreter(package, "main")
    with pytest.raises(CommandFailedError, match="it was given"):
        Interpreter(package, function_name(96)).run({"patches": np.ones((1, 588, 1, 4), np.float32)})
    (program,) = package.rglob("model.mlmodel")
    program.write_bytes(program.read_bytes().replace(b"\x0a\x04silu", b"\x0a\x04tanh"))
    with pytest.raises(CommandFailedError, match="never writes: tanh"):
        Interpreter(package, function_name(96))


def folders(models: Path) -> list[str]:
    return sorted(path.name for path in models.glob(".derived/*/coreml/*"))


def test_a_conversion_that_fails_or_is_killed_leaves_nothing_and_keeps_the_old_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_model: Callable[..., Path], tensors: dict[str, np.ndarray]
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    model = write_model()
    options = ConversionOptions(buckets=(16,), chunks=2)
    folder = convert_encoder(model, options, lambda line: None)
    abandoned = folder.with_name(f".{folder.name}.999999999")
    abandoned.mkdir()

    def interrupt(line: str) -> None:
        if "package 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_encoder(model, options, interrupt)
    assert folders(tmp_path) == ["float16"]
    assert Build.read(folder).buckets == (16,)
    convert_encoder(model, ConversionOptions(buckets=(64,)), lambda line: None)
    assert folders(tmp_path) == ["float16"]
    assert Build.read(folder).buckets == (64,)


def test_a_full_disk_is_reported_before_and_while_packages_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_model: Callable[..., Path]
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    model, options = write_model(), ConversionOptions(buckets=(16,))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(CommandFailedError, match=r"build float16 takes .* has 0 B free.*DOTSCTL_MODELS"):
            convert_encoder(model, options, lambda line: None)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dotsctl.tools.coreml.package.file_digests", full)
        with pytest.raises(CommandFailedError, match="No space left on device"):
            convert_encoder(model, options, lambda line: None)
    assert folders(tmp_path) == []


def test_weights_that_float16_cannot_hold_are_refused_by_name(
    convert: Convert, write_model: Callable[..., Path], tensors: dict[str, np.ndarray], unscaled: None
) -> None:
    name = "vision_tower.merger.mlp.2.weight"
    model = write_model(tensors=tensors | {name: tensors[name] * np.float32(1e7)})
    with pytest.raises(UsageError, match=r"merger\.mlp\.2\.weight has the value .* precision float32"):
        convert(model)


def test_the_files_of_a_manifest_are_read_back(tmp_path: Path) -> None:
    chunk = Chunk("tower-1.mlpackage", 0, 3, 100, {"Manifest.json": (7, "ab")})
    build = Build("f" * 64, "float16", "same", (96,), 512, "cpu_and_ne", 128, 32, 128, (chunk,), {"numpy": "2"})
    build.write(tmp_path)
    assert Build.read(tmp_path) == build
    assert build.nbytes == 7
