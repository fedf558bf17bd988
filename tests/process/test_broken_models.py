"""Broken models through the command line and real workers: one message, exit code 3, nothing left behind."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.random_checkpoint.shape import Shape

from tests.process.conftest import dotsctl

pytestmark = pytest.mark.process
PAGE = Path(__file__).parents[2] / "client" / "sample_pages" / "notice.png"
TIMEOUT_S = 50.0
SECOND = "model-00002-of-00003.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("mlx.core")
    pytest.importorskip("mlx_lm")
    write_checkpoint(tmp_path / "model", Shape(16, 1, 16, 1, real_vocabulary=False), shard_bytes=60_000)
    return tmp_path / "model"


def ocr(model: Path, *options: str) -> tuple[int, str, str]:
    process = dotsctl("ocr", "--model", str(model), "--encoder", "mlx", "--decoder", "mlx", *options, str(PAGE))
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def remove_shard(model: Path) -> None:
    (model / SECOND).unlink()


def cut_shard(model: Path) -> None:
    os.truncate(model / SECOND, (model / SECOND).stat().st_size - 10)


def two_layers(model: Path) -> None:
    content = json.loads((model / "config.json").read_text()) | {"num_hidden_layers": 2}
    (model / "config.json").write_text(json.dumps(content))


def no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def no_numbers(model: Path) -> None:
    for path in model.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        length = int.from_bytes(content[:8], "little")
        for name, tensor in json.loads(content[8 : 8 + length]).items():
            if name.startswith("model.layers.0.self_attn.q_proj"):
                start, end = tensor["data_offsets"]
                content[8 + length + start : 8 + length + end] = b"\xff" * (end - start)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_numbers, ("the model computes NaN or infinity", "download it again")),
        (remove_shard, ("model.safetensors.index.json", SECOND, "does not exist", "download the model again")),
        (cut_shard, (SECOND, "cut off", "download it again")),
        (two_layers, ("model.layers.1.input_layernorm.weight is missing", "and 7 more", "download the model again")),
        (no_tokenizer, ("tokenizer.json is missing", "download the complete dots.ocr snapshot")),
    ],
)
def test_a_broken_model_is_one_message_and_exit_code_3(
    run_folder: Path, model: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    spoil(model)
    code, out, err = ocr(model)
    assert (code, out) == (3, ""), err
    assert all(word in err for word in words), err
    assert err.count(": download ") == 1, err
    assert "Traceback" not in err


def test_the_same_model_reads_a_page_before_it_is_broken(run_folder: Path, model: Path) -> None:
    code, _, err = ocr(model, "--no-readiness-page", "--max-tokens", "4", "--max-pixels", "20000")
    assert code == 0, err
