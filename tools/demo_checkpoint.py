"""The demo model's tokenizer, prompt and files: everything of a dots.ocr snapshot but the weights' values."""

import json
from pathlib import Path

from dotsctl.tools.demo_network import NetworkShape
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIAL_TOKENS = (
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
"""The tokens of dots.ocr that a served prompt uses, with consecutive ids from 256 on."""
PROMPTS = {"text": "Read the text."}


def build_tokenizer() -> Tokenizer:
    """One token a byte (so any text can be written), plus the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(content, special=True, normalized=False) for content in SPECIAL_TOKENS])
    return tokenizer


def prompt_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids in front of the page's placeholders and behind them, in the served form of dots.ocr."""
    before = tokenizer.encode("<|user|><|img|>").ids
    after = tokenizer.encode(f"<|endofimg|>{PROMPTS['text']}<|endofuser|><|assistant|>").ids
    return before, after


def write_files(folder: Path, shape: NetworkShape, max_pixels: int) -> None:
    """Write every file of the snapshot except ``model.safetensors``."""
    tokenizer = build_tokenizer()
    end_ids = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|endofassistant|>")]
    config = {
        "architectures": ["DotsOCRForCausalLM"],
        "model_type": "dots_ocr",
        "attention_bias": True,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "image_token_id": tokenizer.token_to_id("<|imgpad|>"),
        "intermediate_size": shape.text_intermediate,
        "max_position_embeddings": 2048,
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
            "embed_dim": shape.width,
            "hidden_size": shape.width,
            "intermediate_size": shape.vision_intermediate,
            "is_causal": False,
            "num_attention_heads": shape.heads,
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
        "generation_config.json": {"eos_token_id": end_ids, "max_length": 2048},
        "preprocessor_config.json": preprocessor,
        "prompts.json": PROMPTS,
        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "pad_token": "[PAD]", "add_bos_token": False},
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
