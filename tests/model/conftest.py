"""Small random models in the layout of dots.ocr, written to temporary folders."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.protocol.worker.blas import preload_blas

preload_blas()  # before any test module imports mlx
safetensors_numpy = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("mlx.core")

# In the order of the real tokenizer, with ids from 256 on.
MARKS = (
    "<|endoftext|>",
    "<|imgpad|>",
    "<|img|>",
    "<|endofimg|>",
    "<|user|>",
    "<|endofuser|>",
    "<|assistant|>",
    "<|endofassistant|>",
    "[PAD]",
)
VOCABULARY = 256 + len(MARKS) + 7  # the real table has rows without a token too


@dataclass(frozen=True)
class Sizes:
    """Of both halves."""

    width: int = 48
    vision_width: int = 64
    heads: int = 4
    layers: int = 2
    positions: int = 1024


def _tokenizer() -> Any:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_tokens([tokenizers.AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    return made


def _config(sizes: Sizes) -> dict[str, Any]:
    vision = {
        "embed_dim": sizes.vision_width,
        "hidden_size": sizes.width,
        "intermediate_size": 96,
        "is_causal": False,
        "num_attention_heads": sizes.heads,
        "num_channels": 3,
        "num_hidden_layers": sizes.layers,
        "patch_size": 14,
        "post_norm": True,
        "rms_norm_eps": 1e-5,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "use_bias": False,
    }
    return {
        "architectures": ["DotsOCRForCausalLM"],
        "model_type": "dots_ocr",
        "hidden_size": sizes.width,
        "image_token_id": 257,
        "intermediate_size": 80,
        "max_position_embeddings": sizes.positions,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
        "vision_config": vision,
    }


def random_tensors(sizes: Sizes, seed: int = 0) -> dict[str, np.ndarray]:
    """All tensors by their original names; norms and biases are random too, so that none can be forgotten."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}

    def matrix(name: str, rows: int, columns: int, bias: bool = False, gain: float = 1.0) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, gain / columns**0.5, (rows, columns))
        if bias:
            tensors[f"{name}.bias"] = rng.normal(0, 0.1, rows)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(1, 0.2, width)

    vision, width, kv_width = sizes.vision_width, sizes.width, sizes.width // sizes.heads * 2
    patch = "vision_tower.patch_embed.patchifier"
    tensors[f"{patch}.proj.weight"] = rng.normal(0, 1 / 24, (vision, 3, 14, 14))
    tensors[f"{patch}.proj.bias"] = rng.normal(0, 0.1, vision)
    norm(f"{patch}.norm", vision)
    for index in range(sizes.layers):
        block = f"vision_tower.blocks.{index}"
        norm(f"{block}.norm1", vision)
        matrix(f"{block}.attn.qkv", 3 * vision, vision, gain=2)
        matrix(f"{block}.attn.proj", vision, vision)
        norm(f"{block}.norm2", vision)
        matrix(f"{block}.mlp.fc1", 96, vision)
        matrix(f"{block}.mlp.fc3", 96, vision)
        matrix(f"{block}.mlp.fc2", vision, 96)
    norm("vision_tower.post_trunk_norm", vision)
    norm("vision_tower.merger.ln_q", vision)
    tensors["vision_tower.merger.ln_q.bias"] = rng.normal(0, 0.1, vision)
    matrix("vision_tower.merger.mlp.0", 4 * vision, 4 * vision, bias=True)
    matrix("vision_tower.merger.mlp.2", width, 4 * vision, bias=True)
    tensors["model.embed_tokens.weight"] = rng.normal(0, 1, (VOCABULARY, width))
    for index in range(sizes.layers):
        layer = f"model.layers.{index}"
        norm(f"{layer}.input_layernorm", width)
        matrix(f"{layer}.self_attn.q_proj", width, width, bias=True, gain=2)
        matrix(f"{layer}.self_attn.k_proj", kv_width, width, bias=True, gain=2)
        matrix(f"{layer}.self_attn.v_proj", kv_width, width, bias=True)
        matrix(f"{layer}.self_attn.o_proj", width, width)
        norm(f"{layer}.post_attention_layernorm", width)
        matrix(f"{layer}.mlp.gate_proj", 80, width)
        matrix(f"{layer}.mlp.up_proj", 80, width)
        matrix(f"{layer}.mlp.down_proj", width, 80)
    norm("model.norm", width)
    matrix("lm_head", VOCABULARY, width, gain=3)
    tensors["lm_head.weight"][256 + len(MARKS) :] = 0
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """``write_model(sizes, tensors, end_ids, shards, **changes to config.json)``: the folder of a new model."""

    def write(
        sizes: Sizes | None = None,
        tensors: dict[str, np.ndarray] | None = None,
        end_ids: list[int] | None = None,
        shards: int = 1,
        **changes: Any,
    ) -> Path:
        sizes = sizes or Sizes()
        tensors = tensors or random_tensors(sizes)
        folder = tmp_path_factory.mktemp("model")
        _tokenizer().save(str(folder / "tokenizer.json"))
        end = [256, 263] if end_ids is None else end_ids
        files = {
            "config.json": _config(sizes) | changes,
            "generation_config.json": {"eos_token_id": end, "max_length": 1 << 20},
            "preprocessor_config.json": {"min_pixels": 3136, "max_pixels": 200_000, "patch_size": 14, "merge_size": 2},
            "prompts.json": {"text": "Read."},
        }
        names, places = sorted(tensors), {}
        for shard in range(shards):
            file = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            places |= dict.fromkeys(names[shard::shards], file)
            safetensors_numpy.save_file({name: tensors[name] for name in names[shard::shards]}, folder / file)
        if shards > 1:
            files["model.safetensors.index.json"] = {"weight_map": places}
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture(scope="session")
def model_sizes() -> Sizes:
    return Sizes()


@pytest.fixture(scope="session")
def tensors(model_sizes: Sizes) -> dict[str, np.ndarray]:
    return random_tensors(model_sizes)


@pytest.fixture(scope="session")
def model(write_model: Writer) -> Path:
    """Folder of a random model whose answers end at chance."""
    return write_model()
