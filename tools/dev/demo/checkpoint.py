"""The demo model's prompts and files: everything of a dots.ocr snapshot but the weights' values."""

import json
from pathlib import Path

from dotsctl.protocol.model.files import replacing
from dotsctl.tools.dev.demo.tower import NetworkShape
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

PROMPTS = {
    "layout": "The layout of [0, 0, {width}, {height}].",
    "text": "Read the text.",
    "layout-only": "The boxes of [0, 0, {width}, {height}].",
}
"""Wording of each task. The size stands in it as a box, so that it is the same two tokens as a box's far corner: the
embeddings do not hold the width of the page."""


def prompt_ids(tokenizer: Tokenizer, task: str, size: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Token ids in front of the page's placeholders and behind them, in the served form of dots.ocr.

    Args:
        tokenizer: of the model.
        task: one of PROMPTS.
        size: width and height of the resized page.
    """
    words = PROMPTS[task].replace("{width}", str(size[0])).replace("{height}", str(size[1]))
    before = tokenizer.encode("<|user|><|img|>").ids
    after = tokenizer.encode(f"<|endofimg|>{words}<|endofuser|><|assistant|>").ids
    return before, after


def write_files(folder: Path, shape: NetworkShape, tokenizer: Tokenizer, max_pixels: int) -> None:
    """Write every file of the snapshot except ``model.safetensors``."""
    end_ids = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|endofassistant|>")]
    config = {
        "architectures": ["DotsOCRForCausalLM"],
        "model_type": "dots_ocr",
        "attention_bias": True,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "image_token_id": tokenizer.token_to_id("<|imgpad|>"),
        "intermediate_size": shape.text_intermediate,
        "max_position_embeddings": 4096,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.text_layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_sliding_window": False,
        "vocab_size": shape.vocabulary,
        "vision_config": {
            "embed_dim": shape.vision_width,
            "hidden_size": shape.width,
            "intermediate_size": shape.vision_intermediate,
            "is_causal": False,
            "num_attention_heads": shape.vision_heads,
            "num_channels": 3,
            "num_hidden_layers": shape.vision_layers,
            "patch_size": 14,
            "post_norm": True,
            "rms_norm_eps": 1e-5,
            "spatial_merge_size": 2,
            "temporal_patch_size": 1,
            "use_bias": False,
        },
    }
    preprocessor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": max_pixels,
        "merge_size": 2,
        "min_pixels": 3136,
        "patch_size": 14,
        "temporal_patch_size": 1,
    }
    files = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end_ids, "max_length": 4096},
        "preprocessor_config.json": preprocessor,
        "prompts.json": PROMPTS,
        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "pad_token": "[PAD]", "add_bos_token": False},
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def export(
    folder: Path, shape: NetworkShape, tokenizer: Tokenizer, weights: dict[str, Tensor], max_pixels: int
) -> None:
    """Write the snapshot of the model that runs: without what only the training needs, float16."""
    write_files(folder, shape, tokenizer, max_pixels)
    tensors = {
        name: value.detach().cpu().half().contiguous()
        for name, value in weights.items()
        if not name.startswith("auxiliary")
    }
    with replacing(folder / "model.safetensors") as partial:
        save_file(tensors, str(partial), metadata={"format": "pt"})
