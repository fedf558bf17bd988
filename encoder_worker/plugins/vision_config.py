"""Sizes of the vision tower of dots.ocr, from ``vision_config`` of config.json. Imports no MLX."""

from dataclasses import dataclass
from typing import Any

from dotsctl.protocol.errors import UsageError

FIXED = {"num_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 1}
"""The values that no dots.ocr model has otherwise, and that the cutting of pages into patches relies on."""


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the tower.

    dots.ocr: embed_dim 1536, hidden_size 1536, intermediate_size 4224, num_hidden_layers 42, num_attention_heads 12,
    rms_norm_eps 1e-5, use_bias false, post_norm true; always 3 channels, patches of 14 pixels, merged 2x2.
    """

    embed_dim: int
    """Width of the tower."""
    hidden_size: int
    """Width of its result, which is the decoder's."""
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    rms_norm_eps: float
    use_bias: bool
    post_norm: bool

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "VisionConfig":
        """Read the section; raises UsageError for a key that is missing or a value that this tower cannot have."""
        for key, value in FIXED.items():
            if content.get(key, value) != value:
                raise UsageError(f"vision_config: {key} is {content[key]}, a dots.ocr model has {value}")
        try:
            config = cls(**{key: content[key] for key in cls.__dataclass_fields__})
        except KeyError as error:
            raise UsageError(f"vision_config lacks {error}: this is not a dots.ocr model") from None
        if config.embed_dim % (4 * config.num_attention_heads):
            raise UsageError(
                f"vision_config: embed_dim {config.embed_dim} cannot be split into {config.num_attention_heads} heads "
                "of a width that is a multiple of 4"
            )
        return config

    @property
    def head_dim(self) -> int:
        """Width of one attention head; 128 in dots.ocr."""
        return self.embed_dim // self.num_attention_heads
