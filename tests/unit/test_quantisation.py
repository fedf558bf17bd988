"""The storage of packed matrices: the entries of config.json, and the bytes that they take."""

from math import prod

import pytest
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.quantisation import KINDS, Quantisation, chosen_quantisation, stored_quantisation
from dotsctl.tools.commands import DECODER_KINDS
from dotsctl.tools.random_checkpoint.shape import PRESETS

FOUR = Quantisation(4, 64)


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"group_size": 64, "bits": 4, "mode": "affine"}, FOUR),
        ({"group_size": 64, "bits": 4}, FOUR),
        ({"bits": 6}, Quantisation(6, 64)),
        ({"mode": "mxfp8"}, Quantisation(8, 32, "mxfp8")),
        ({"group_size": 16, "bits": 4, "mode": "nvfp4"}, Quantisation(4, 16, "nvfp4")),
    ],
)
def test_bits_groups_and_mode_are_read_with_the_defaults_of_mlx(
    key: str, section: dict[str, object], expected: Quantisation
) -> None:
    assert stored_quantisation({key: section}).of("model.embed_tokens") == expected


def test_a_matrix_may_be_stored_otherwise_than_the_rest() -> None:
    section = {
        "group_size": 32,
        "bits": 4,
        "mode": "mxfp4",
        "language_model.model.lm_head": {"group_size": 64, "bits": 6},
        "language_model.model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
        "vision_tower.blocks.0.attn.qkv": False,
    }
    found = stored_quantisation({"quantization": section})
    assert found.of("lm_head") == Quantisation(6, 64)
    assert found.of("model.layers.1.mlp.down_proj") == Quantisation(8, 32, "mxfp8")
    assert found.of("model.layers.0.mlp.down_proj") == Quantisation(4, 32, "mxfp4")


def test_without_a_word_in_config_json_nothing_is_known() -> None:
    for config in ({}, {"quantization": None}, {"quantization": {}}):
        assert stored_quantisation(config).of("lm_head") is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"quant_method": "awq", "bits": 4}, "names the method 'awq', and MLX has only affine"),
        (
            {"bits": 7, "group_size": 64},
            "affine of 7 bits in groups of 64 is not supported: bits are 2, 3, 4, 5, 6",
        ),
        ({"bits": 4, "group_size": 64, "mode": "nvfp4"}, "groups are of 16"),
        ({"bits": 4, "mode": "fp8"}, "mode 'fp8'"),
        ({"bits": 4, "model.norm": {"bits": 1}}, "quantization: model.norm: affine of 1 bits"),
        ([4], "quantization is list, not an object"),
    ],
)
def test_what_mlx_cannot_compute_is_named(section: object, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        stored_quantisation({"quantization": section})
    assert words in str(refused.value)


@pytest.mark.parametrize("bits", KINDS)
def test_every_kind_is_named_by_the_option_that_makes_it(bits: str) -> None:
    chosen = chosen_quantisation(bits)
    assert chosen.option == bits
    assert chosen.has_usual_groups
    assert chosen_quantisation("8", 32) == Quantisation(8, 32)
    assert not chosen_quantisation("8", 32).has_usual_groups


def test_the_tensors_of_a_matrix_have_the_shapes_of_mlx() -> None:
    assert Quantisation(5, 64).shapes((10, 128)) == {".weight": (10, 20), ".scales": (10, 2), ".biases": (10, 2)}
    assert Quantisation(8, 32, "mxfp8").shapes((10, 128)) == {".weight": (10, 32), ".scales": (10, 4)}


def test_the_real_build_of_4_bits_has_the_bytes_of_these_shapes_and_a_header() -> None:
    """``model.safetensors`` of mlx-community/dots.mocr-4bit at 708b576d has 3,524,130,967 bytes."""
    full, tensor_bytes = PRESETS["full"], 0
    for shape in [*full.vision.tensors().values(), *full.text.tensors().values()]:
        tensor_bytes += 2 * prod(shape)
    for shape in full.text.tensors().values():
        if len(shape) == 2:
            packed = KINDS["4"].shapes(shape)
            tensor_bytes += 4 * prod(packed[".weight"]) + 2 * 2 * prod(packed[".scales"]) - 2 * prod(shape)
    assert 100_000 < 3_524_130_967 - tensor_bytes < 150_000


@pytest.mark.parametrize(("bits", "expected"), [("4", 0.5625), ("8", 1.0625), ("mxfp4", 0.53125), ("nvfp4", 0.5625)])
def test_a_weight_takes_its_bits_and_its_share_of_the_scales(bits: str, expected: float) -> None:
    assert KINDS[bits].weight_bytes(2) == expected


def test_the_command_offers_every_kind() -> None:
    assert tuple(KINDS) == DECODER_KINDS
