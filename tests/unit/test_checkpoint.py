import json
from math import prod
from pathlib import Path

import pytest
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.checkpoint import INDEX, read_json, tensor_files
from dotsctl.protocol.model.layout import VisionSizes
from dotsctl.protocol.parts import Role


def shards(folder: Path, places: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    for file in set(places.values()):
        (folder / file).touch()


def test_a_single_file_holds_everything(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert tensor_files(tmp_path, Role.ENCODER) == [tmp_path / "model.safetensors"]


def test_only_the_shards_of_a_half_are_named(tmp_path: Path) -> None:
    shards(tmp_path, {"vision_tower.x": "a.safetensors", "model.x": "b.safetensors", "lm_head.weight": "b.safetensors"})
    assert tensor_files(tmp_path, Role.ENCODER) == [tmp_path / "a.safetensors"]
    assert tensor_files(tmp_path, Role.DECODER) == [tmp_path / "b.safetensors"]


def test_an_absent_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path, {"model.x": "a.safetensors", "model.y": "b.safetensors"})
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(MissingError, match=r"lacks b\.safetensors"):
        tensor_files(tmp_path, Role.DECODER)


def test_an_index_without_the_half_is_another_model(tmp_path: Path) -> None:
    shards(tmp_path, {"model.x": "a.safetensors"})
    with pytest.raises(MissingError, match=r"not a dots\.ocr model"):
        tensor_files(tmp_path, Role.ENCODER)


def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(MissingError, match="can run code"):
        tensor_files(tmp_path, Role.DECODER)


def test_a_folder_without_weights_states_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="download the complete"):
        tensor_files(tmp_path, Role.DECODER)


@pytest.mark.parametrize("content", [None, b"{", b"[1]", b"\xff"])
def test_a_json_file_that_is_absent_or_broken_is_an_error_with_its_path(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(MissingError, match=r"config\.json.*download"):
        read_json(tmp_path, "config.json")


def test_a_json_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert read_json(tmp_path, "config.json") == {"a": 1}


@pytest.mark.parametrize(("patches", "expected"), [(960, 2.59e12), (5760, 22.7e12), (8640, 40.5e12), (19_824, 150e12)])
def test_a_page_takes_as_many_operations_as_its_matrix_products(patches: int, expected: float) -> None:
    tower = VisionSizes(1536, 1536, 4224, 42, 12)
    weights = sum(prod(shape) for name, shape in tower.tensors().items() if name.endswith("weight") and len(shape) > 1)
    merger = 4 * 1536 * (4 * 1536 + 1536)
    by_weights = 2 * patches * (weights - merger + merger / 4) + 4 * patches**2 * 1536 * 42
    assert tower.operations(patches) == pytest.approx(by_weights, rel=1e-9)
    assert tower.operations(patches) == pytest.approx(expected, rel=0.005)
