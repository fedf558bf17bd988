"""Models on the disk, and commands that are called on them."""

import json
from pathlib import Path

from click.testing import CliRunner, Result
from dotsctl.client.cli.main import cli
from dotsctl.client.models.record import PullRecord
from dotsctl.protocol.model.directory import derived_directory

from tests.fake_hub import safetensors

WEIGHTS = safetensors({"vision_tower.a": ("BF16", [10, 100], 2000), "lm_head.weight": ("F32", [3000], 12_000)})
CONFIG = {
    "model_type": "dots_ocr",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "max_position_embeddings": 2048,
    "vision_config": {"embed_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
}


def install(folder: Path, weights: bytes = WEIGHTS) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "preprocessor_config.json").write_text('{"min_pixels": 3136, "max_pixels": 7840}')
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def derive(digest: str, size_bytes: int = 5000) -> Path:
    made = derived_directory(digest) / "coreml"
    made.mkdir(parents=True)
    (made / "weights").write_bytes(bytes(size_bytes))
    return derived_directory(digest)


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments, prog_name="dotsctl")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(code: int, *arguments: str) -> str:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    return result.stderr


RECORD = PullRecord("a/Dots", "c0ffee" + "0" * 34, "mit", "2026-11-20T10:00:00+00:00", "model card", {})
