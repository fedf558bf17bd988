"""Validation of a whole model directory: what is taken, and what no change of a byte may do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.checkpoint import INDEX
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.model.stored_layouts import canonical_name
from dotsctl.protocol.model.validation import CheckpointFacts, validate_checkpoint
from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.random_checkpoint.shape import Shape, config_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHAPE = Shape(16, 1, 16, 1, real_vocabulary=False)
WEIGHTS = "model.safetensors"
Change = Callable[[dict[str, Any]], object]


CONFIG_TEXT = json.dumps(config_files(SHAPE, "float32")["config.json"])


def config() -> dict[str, Any]:
    return json.loads(CONFIG_TEXT)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_checkpoint(folder, SHAPE)
    return folder


@pytest.fixture(scope="module")
def facts(good: Path) -> CheckpointFacts:
    return validate_checkpoint(good)


def test_the_demo_model_is_valid() -> None:
    found = validate_checkpoint(demo_directory())
    assert found.limits.max_pixels == 439_040


def mutated(good: Path, folder: Path, content: bytes) -> Path:
    """The good model with another file of weights."""
    if not folder.exists():
        shutil.copytree(good, folder)
    (folder / WEIGHTS).write_bytes(content)
    return folder


def facts_or_refusal(folder: Path) -> CheckpointFacts | None:
    try:
        return validate_checkpoint(folder)
    except MissingError as error:
        assert str(folder) in str(error)
        return None


SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_changed_byte_of_a_header_is_refused_or_changes_nothing(
    good: Path, facts: CheckpointFacts, tmp_path: Path, place: float, byte: int
) -> None:
    content = bytearray((good / WEIGHTS).read_bytes())
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    content[int(place * header_bytes)] = byte
    assert facts_or_refusal(mutated(good, tmp_path / "m", bytes(content))) in (facts, None)


def test_both_outcomes_of_a_changed_byte_exist(good: Path, facts: CheckpointFacts, tmp_path: Path) -> None:
    content = (good / WEIGHTS).read_bytes()
    assert facts_or_refusal(mutated(good, tmp_path / "m", content.replace(b'"pt"', b'"tf"', 1))) == facts
    assert facts_or_refusal(mutated(good, tmp_path / "m", content.replace(b'"F32"', b'"F16"', 1))) is None


@SETTINGS
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_anywhere_is_refused(good: Path, tmp_path: Path, place: float) -> None:
    content = (good / WEIGHTS).read_bytes()
    assert facts_or_refusal(mutated(good, tmp_path / "m", content[: int(place * len(content))])) is None


@SETTINGS
@given(
    file=st.sampled_from(
        ["config.json", "generation_config.json", "tokenizer.json", "preprocessor_config.json", INDEX]
    ),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
)
def test_a_changed_byte_of_a_json_file_is_never_another_error(
    sharded: Path, tmp_path: Path, file: str, place: float, byte: int
) -> None:
    folder = tmp_path / "m"
    if not folder.exists():
        shutil.copytree(sharded, folder)
    content = bytearray((sharded / file).read_bytes())
    content[int(place * len(content))] = byte
    (folder / file).write_bytes(bytes(content))
    facts_or_refusal(folder)
    shutil.copy(sharded / file, folder / file)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    write_checkpoint(folder, SHAPE, shard_bytes=20_000)
    return folder


def edit_header(folder: Path, change: Change) -> None:
    """Change the header of the weights and leave their bytes."""
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize(
    "shape",
    [
        [16, 3, 14, 14],
        [16, 14, 14, 3],
        [16, 588],
    ],
)
def test_the_patch_embedding_may_have_each_of_three_shapes(
    good: Path, tmp_path: Path, facts: CheckpointFacts, shape: list[int]
) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    name = "vision_tower.patch_embed.patchifier.proj.weight"
    edit_header(folder, lambda header: header[name].update(shape=shape))
    assert validate_checkpoint(folder) == facts


def test_the_names_of_newer_conversions_and_rotary_tables_are_taken(
    good: Path, facts: CheckpointFacts, tmp_path: Path
) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())

    def rename(header: dict[str, Any]) -> None:
        for name in [name for name in header if name.startswith("vision_tower.")]:
            header[f"model.{name}"] = header.pop(name)
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        for place, name in enumerate(["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"]):
            offsets = [end + 8 * place, end + 8 * place + 8]
            header[name] = {"dtype": "F32", "shape": [2], "data_offsets": offsets}

    edit_header(folder, rename)
    with (folder / WEIGHTS).open("ab") as stream:
        stream.write(bytes(16))
    assert validate_checkpoint(folder) == facts
    assert canonical_name("model.vision_tower.x") == "vision_tower.x"
    assert canonical_name("model.norm.weight") == "model.norm.weight"


def test_a_model_whose_head_is_its_embedding_table_is_taken(good: Path, tmp_path: Path) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    content = (folder / WEIGHTS).read_bytes()
    sizes_bytes: list[int] = []

    def drop(header: dict[str, Any]) -> None:
        start, end = header.pop("lm_head.weight")["data_offsets"]
        sizes_bytes.append(end - start)  # it is the last tensor

    edit_header(folder, drop)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: -sizes_bytes[0]])
    (folder / "config.json").write_text(json.dumps(config() | {"tie_word_embeddings": True}))
    found = validate_checkpoint(folder)
    assert found.text.tie_word_embeddings


def test_companions_that_macos_writes_are_no_weights(good: Path, facts: CheckpointFacts, tmp_path: Path) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    (folder / f"._{WEIGHTS}").write_bytes(b"\x00\x05\x16\x07")
    assert validate_checkpoint(folder) == facts


def test_a_message_lists_the_first_few_problems_and_counts_the_others(good: Path, tmp_path: Path) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    (folder / "config.json").write_text(json.dumps(config() | {"num_hidden_layers": 2}))
    with pytest.raises(MissingError) as caught:
        validate_checkpoint(folder)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the model in {folder} cannot be used (12 problems):"
    assert lines[1] == f"  {WEIGHTS}: model.layers.1.input_layernorm.weight is missing"
    assert len(lines) == 8
    assert lines[6:] == ["  and 7 more", "What to do: download the model again"]
