"""Sizes of random checkpoints, and the files besides their tensors as in the real snapshot."""

from dataclasses import dataclass
from typing import Any

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model import layout
from dotsctl.tools.random_checkpoint import tokenizer

REAL_DIM = 1536


def _heads(dim: int) -> int:
    return dim // 128 if dim >= REAL_DIM else 4


@dataclass(frozen=True)
class Shape:
    """The sizes that are free; all others follow from them as in the real model."""

    hidden: int = 128
    layers: int = 4
    vision_dim: int = 256
    vision_layers: int = 4
    real_vocabulary: bool = True
    """The 151,936 rows of the real model, which mlx-vlm needs; else only as many as there are useful tokens."""

    def __post_init__(self) -> None:
        if self.hidden % (2 * _heads(self.hidden)) or self.vision_dim % (4 * _heads(self.vision_dim)):
            raise UsageError(
                f"widths {self.hidden} (decoder) and {self.vision_dim} (encoder) cannot be split into heads",
                "use multiples of 16 below 1536, of 128 from there on",
            )

    @property
    def text(self) -> layout.TextSizes:
        """Sizes of the decoder half."""
        inner = 8960 if self.hidden == REAL_DIM else 2 * self.hidden
        rows = tokenizer.REAL_ROWS if self.real_vocabulary else (self.tokens + 15) // 8 * 8
        return layout.TextSizes(self.hidden, inner, self.layers, _heads(self.hidden), 2, rows)

    @property
    def vision(self) -> layout.VisionSizes:
        """Sizes of the encoder half."""
        dim = self.vision_dim
        return layout.VisionSizes(dim, self.hidden, 11 * dim // 4, self.vision_layers, _heads(dim))

    @property
    def base(self) -> int:
        """Id of the first added token."""
        if self.real_vocabulary:
            return tokenizer.REAL_BASE
        return len(tokenizer.tokenizer_json(real_ids=False)["model"]["vocab"])

    @property
    def tokens(self) -> int:
        """Ids that stand for something."""
        return self.base + len(tokenizer.ADDED)


PRESETS = {
    "tiny": Shape(),
    "mid": Shape(512, 8, 512, 6),
    "six-layers": Shape(REAL_DIM, 2, REAL_DIM, 6),
    "full": Shape(REAL_DIM, 28, REAL_DIM, 42),
}


def config_files(shape: Shape, dtype: str) -> dict[str, dict[str, Any]]:
    """Return the content of the files besides the tensors by name, config.json last; as in the real snapshot."""
    added = {content: shape.base + place for place, content in enumerate(tokenizer.ADDED)}
    text, vision = shape.text, shape.vision
    return {
        "generation_config.json": {
            "max_length": 32768,
            "eos_token_id": [added["<|endoftext|>"], added["<|endofassistant|>"]],
        },
        "preprocessor_config.json": {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "DotsVLProcessor",
            "min_pixels": 3136,
            "max_pixels": 11_289_600,
            "patch_size": 14,
            "temporal_patch_size": 1,
            "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
        "tokenizer.json": tokenizer.tokenizer_json(real_ids=shape.real_vocabulary),
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_bos_token": False,
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|endoftext|>",
            "pad_token": "[PAD]",
            "unk_token": None,
            "model_max_length": 131072,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": False,
            "chat_template": tokenizer.TEXT_TEMPLATE,
        },
        "chat_template.json": {"chat_template": tokenizer.PROCESSOR_TEMPLATE},
        "config.json": {
            "architectures": ["DotsOCRForCausalLM"],
            "model_type": "dots_ocr",
            "attention_bias": True,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "hidden_size": text.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": text.intermediate_size,
            "max_position_embeddings": 131072,
            "max_window_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_hidden_layers": text.num_hidden_layers,
            "num_key_value_heads": text.num_key_value_heads,
            "rms_norm_eps": 1e-6,
            "rope_scaling": None,
            "rope_theta": 1_000_000,
            "sliding_window": 131072,
            "tie_word_embeddings": False,
            "torch_dtype": dtype,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": text.vocab_size,
            "image_token_id": added["<|imgpad|>"],
            "video_token_id": added["<|video_pad|>"],
            "vision_config": {
                "embed_dim": vision.embed_dim,
                "hidden_size": vision.hidden_size,
                "intermediate_size": vision.intermediate_size,
                "num_hidden_layers": vision.num_hidden_layers,
                "num_attention_heads": vision.num_attention_heads,
                "num_channels": 3,
                "patch_size": 14,
                "post_norm": True,
                "rms_norm_eps": 1e-5,
                "spatial_merge_size": 2,
                "temporal_patch_size": 1,
                "use_bias": False,
                "attn_implementation": "flash_attention_2",
                "init_merger_std": 0.02,
                "initializer_range": 0.02,
                "is_causal": False,
            },
        },
    }
