"""Random checkpoints: the true layout, the same bytes everywhere, and values that keep a network sane."""

import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dotsctl.protocol.errors import OutputError, UsageError
from dotsctl.protocol.model.layout import LM_HEAD, parameters
from dotsctl.protocol.model.safetensors_header import read_header
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.tools.random_checkpoint.checkpoint import BLOCK, CHUNK, Numbers, cli, to_bfloat16, write_checkpoint
from dotsctl.tools.random_checkpoint.shape import PRESETS, Shape
from dotsctl.tools.random_checkpoint.tokenizer import ADDED, PROCESSOR_TEMPLATE, TEXT_TEMPLATE, tokenizer_json

SMALL = Shape(16, 1, 16, 1, real_vocabulary=False)


def test_the_full_size_has_the_tensors_and_parameters_of_the_real_model() -> None:
    shape = PRESETS["full"]
    vision, text = shape.vision.tensors(), shape.text.tensors()
    assert (len(vision), len(text)) == (304, 339)
    assert (parameters(vision), parameters(text)) == (1_262_091_264, 1_777_088_000)


@pytest.mark.parametrize(
    ("name", "dims"),
    {
        "vision_tower.patch_embed.patchifier.proj.weight": (1536, 3, 14, 14),
        "vision_tower.patch_embed.patchifier.proj.bias": (1536,),
        "vision_tower.blocks.41.attn.qkv.weight": (4608, 1536),
        "vision_tower.blocks.0.mlp.fc2.weight": (1536, 4224),
        "vision_tower.merger.ln_q.bias": (1536,),
        "vision_tower.merger.mlp.0.weight": (6144, 6144),
        "vision_tower.merger.mlp.2.bias": (1536,),
        "model.embed_tokens.weight": (151936, 1536),
        "model.layers.27.self_attn.k_proj.bias": (256,),
        "model.layers.0.mlp.down_proj.weight": (1536, 8960),
        "lm_head.weight": (151936, 1536),
    }.items(),
)
def test_tensors_of_the_full_size_have_their_real_shapes(name: str, dims: tuple[int, ...]) -> None:
    shape = PRESETS["full"]
    assert (shape.vision.tensors() | shape.text.tensors())[name] == dims


def test_the_bytes_follow_from_the_seed_on_every_machine(tmp_path: Path) -> None:
    """The digests are those of Linux x86-64, Python 3.11, numpy 2; another value is another generator."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        write_checkpoint(tmp_path / dtype, SMALL, dtype, seed=7)
        found[dtype] = hashlib.sha256((tmp_path / dtype / "model.safetensors").read_bytes()).hexdigest()[:16]
    assert found == {"float32": "882bcd9c4a4a9c51", "bfloat16": "b09f00f0f75de828"}


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_checkpoint(tmp_path / str(seed), SMALL, seed=seed)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "12")
    assert len(first) == len(second)
    assert first != second


def test_what_is_written_is_valid_in_one_file_or_many(tmp_path: Path) -> None:
    facts = []
    for name, shard_bytes in {"one": 1 << 30, "many": 9000}.items():
        count = write_checkpoint(tmp_path / name, SMALL, "bfloat16", shard_bytes=shard_bytes)
        facts.append(validate_checkpoint(tmp_path / name))
        assert facts[-1].encoder.parameters + facts[-1].decoder.parameters == count
    assert facts[0] == facts[1]
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == count * 2
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()


def numbers(shape: tuple[int, ...], name: str = "x.weight") -> np.ndarray:
    return np.concatenate(list(Numbers(3, 0).chunks(name, shape))).reshape(shape)


def test_a_product_keeps_the_variance_of_its_input() -> None:
    weight = numbers((400, 1536))
    x = np.random.default_rng(0).standard_normal((80, 1536))
    y = x @ weight.T
    assert abs(weight.mean()) < 1e-4
    assert abs(y.std() - 1) < 0.02
    values = np.linalg.svd(weight[:300, :300] * (1536 / 300) ** 0.5, compute_uv=False)
    assert 1.8 < values[0] < 2.2, "the largest singular value of a square Gaussian matrix is about 2"
    assert 0.79 < np.median(values) < 0.83, "and the median 0.81: no directions are lost"


def test_rows_of_a_tensor_longer_than_the_block_are_all_different() -> None:
    rows = BLOCK // 1024 + 50  # the last rows come from the beginning of the block again
    table = numbers((rows, 1024))
    assert len(np.unique(table[:, :3], axis=0)) == rows
    assert table.size > BLOCK > CHUNK


def test_ids_without_a_token_get_no_score(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", SMALL, "float32")
    path = tmp_path / "m" / "model.safetensors"
    place = read_header(path)[LM_HEAD]
    head = np.frombuffer(path.read_bytes()[place.start : place.end], np.float32).reshape(place.shape)
    assert SMALL.tokens < len(head)
    assert not head[SMALL.tokens :].any()
    assert head[: SMALL.tokens].any(axis=1).all()


@pytest.mark.parametrize(
    ("value", "bits"),
    [(1.0, 0x3F80), (-2.0, 0xC000), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (1.004, 0x3F81), (0.0, 0)],
)
def test_bfloat16_is_the_nearest_with_ties_to_even(value: float, bits: int) -> None:
    assert to_bfloat16(np.array([value], np.float32)).tolist() == [bits]


def test_the_added_tokens_have_the_ids_of_the_real_tokenizer() -> None:
    content = tokenizer_json()
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    assert ids["<|endoftext|>"] == 151643
    assert ids["<|video_pad|>"] == 151656
    assert ids["<|imgpad|>"] == 151665
    assert ids["<|endofassistant|>"] == 151673
    assert ids["[PAD]"] == 151680
    assert ids["<|image_gen_end|>"] == 151687
    assert sorted([*content["model"]["vocab"].values(), *ids.values()]) == list(range(151688))
    plain = {token["content"] for token in content["added_tokens"] if not token["special"]}
    assert plain == {
        "<tool_call>",
        "</tool_call>",
        *(token for token in ADDED if token.startswith(("<|fim", "<|repo", "<|file"))),
    }


@pytest.mark.parametrize("real_ids", [True, False])
def test_the_tokenizer_splits_and_joins_any_text(tmp_path: Path, real_ids: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    (tmp_path / "t.json").write_text(json.dumps(tokenizer_json(real_ids=real_ids)))
    made = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    assert made.encode(" ").ids == [220]
    assert made.token_to_id("<|system|>") is None
    text = " the layout of a page: Größe 12 €\n\tthe end"
    assert made.decode(made.encode(text).ids) == text
    assert len(made.encode(" the layout of a page").ids) == 5
    assert len(made.encode("<|img|><|imgpad|><|endofimg|>").ids) == 3


def test_both_templates_serialise_a_page_as_the_real_ones_do() -> None:
    jinja2 = pytest.importorskip("jinja2")
    turn = namedtuple("Turn", "role content")
    part = namedtuple("Part", "type text")
    page = [part("image", None), part("text", "Read.")]
    listed = jinja2.Template(PROCESSOR_TEMPLATE).render(messages=[turn("user", page)])
    assert listed == " <|img|><|imgpad|><|endofimg|>Read.<|assistant|>"
    asked = [turn("system", "Be brief."), turn("user", "A?"), turn("assistant", "B."), turn("user", "C?")]
    expected = (
        "<|system|>Be brief.<|endofsystem|>\n<|user|>A?<|endofuser|><|assistant|>B.<|endofassistant|>"
        "<|user|>C?<|endofuser|><|assistant|>"
    )
    for template in (TEXT_TEMPLATE, PROCESSOR_TEMPLATE):
        assert jinja2.Template(template).render(messages=asked) == expected


@pytest.mark.parametrize("shape", [{"hidden": 20}, {"vision_dim": 24}, {"hidden": 1600}])
def test_widths_that_heads_cannot_split_are_refused(shape: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        Shape(**shape)


def test_a_folder_with_a_model_is_kept(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, SMALL, seed=1)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="holds a model already"):
        write_checkpoint(tmp_path, SMALL, seed=2)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_disk_without_room_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 5_000_000_000))
    with pytest.raises(OutputError, match=r"needs 6\.08 GB and its disk has 5\.00 GB free"):
        write_checkpoint(tmp_path, PRESETS["full"], "bfloat16")
    assert not list(tmp_path.iterdir())


def test_the_program_takes_sizes_over_those_of_its_preset(tmp_path: Path) -> None:
    options = (
        "--preset six-layers --hidden 32 --vision-dim 16 --vision-layers 3 --vocab small --dtype float32 --shard-mib 1"
    )
    done = CliRunner().invoke(cli, [str(tmp_path / "m"), *options.split()])
    assert done.exit_code == 0, done.output
    facts = validate_checkpoint(tmp_path / "m")
    assert (facts.text.hidden_size, facts.text.num_hidden_layers) == (32, 2)
    assert (facts.vision.embed_dim, facts.vision.num_hidden_layers) == (16, 3)
    assert "parameters" in done.output
