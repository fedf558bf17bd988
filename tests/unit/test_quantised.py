import json
from pathlib import Path
from typing import Any

import pytest
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.decoder_worker.quantised import MANIFEST, decoder_folder, file_digest, open_quantised
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.model.quantisation import KINDS, Quantisation

from tests.plugins import load_plugin

DIGEST = "ab" * 32
EIGHT = KINDS["8"]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def folder(models: Path) -> Path:
    """A quantised decoder of one file."""
    made = decoder_folder(EIGHT, DIGEST)
    made.mkdir(parents=True)
    (made / "lm_head.safetensors").write_bytes(b"weights")
    write(made)
    return made


def write(folder: Path, **changes: Any) -> None:
    files = {"lm_head.safetensors": file_digest(folder / "lm_head.safetensors")}
    manifest = {"format": 1, "fingerprint": DIGEST, "bits": 8, "group_size": 64, "mode": "affine", "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def refusal(model: Path, quantisation: Quantisation = EIGHT) -> str:
    with pytest.raises(MissingError) as refused:
        open_quantised(model, DIGEST, quantisation)
    return str(refused.value)


def test_a_complete_decoder_of_the_model_is_found(folder: Path) -> None:
    assert open_quantised(Path("/m"), DIGEST, EIGHT).files == (folder / "lm_head.safetensors",)


def test_a_decoder_that_was_never_made_is_answered_with_the_command_that_makes_it(models: Path) -> None:
    assert refusal(demo_directory()).endswith(": dotsctl convert demo --decoder-bits 8")
    grouped = refusal(models.resolve() / "dots.ocr", Quantisation(4, 32))
    assert grouped.endswith(": dotsctl convert dots.ocr --decoder-bits 4 --group-size 32")
    assert refusal(Path("/my models/m")).endswith(": dotsctl convert '/my models/m' --decoder-bits 8")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fingerprint": "cd" * 32}, f"fingerprint is '{'cd' * 32}', not '{DIGEST}'"),
        ({"format": 2}, "format is 2, not 1"),
        ({"bits": 4}, "bits is 4, not 8"),
        ({"group_size": 32}, "group_size is 32, not 64"),
        ({"mode": "mxfp8"}, "mode is 'mxfp8', not 'affine'"),
        ({"files": {}}, "lists no files"),
        ({"files": ["lm_head.safetensors"]}, "lists no files"),
    ],
)
def test_a_decoder_of_another_kind_is_refused(folder: Path, changes: dict[str, Any], problem: str) -> None:
    write(folder, **changes)
    message = refusal(demo_directory())
    assert problem in message
    assert message.endswith("rebuild it: dotsctl convert demo --decoder-bits 8 --force")


@pytest.mark.parametrize("content", ["", "{", "[]", None])
def test_an_unreadable_manifest_is_refused(folder: Path, content: str | None) -> None:
    (folder / MANIFEST).unlink()
    if content is not None:
        (folder / MANIFEST).write_text(content)
    assert str(folder / MANIFEST) in refusal(Path("/m"))


def test_one_changed_byte_is_noticed(folder: Path) -> None:
    (folder / "lm_head.safetensors").write_bytes(b"weighTs")
    assert "lm_head.safetensors is damaged" in refusal(Path("/m"))


def test_an_absent_file_is_named(folder: Path) -> None:
    (folder / "lm_head.safetensors").unlink()
    assert "lm_head.safetensors cannot be read (No such file or directory)" in refusal(Path("/m"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bits": "7"}, "4, 5, 6, 8, mxfp4, mxfp8 or nvfp4"),
        ({"bits": "8", "group_size": "48"}, "groups are of 32, 64 or 128"),
        ({"bits": "mxfp4", "group_size": "64"}, "groups are of 32"),
        ({"group_size": "64"}, "write bits=8,group_size=64"),
        ({"bits": "eight"}, "bits='eight'"),
        ({"levels": "8"}, "use batch, rows, prefill_chunk, cache_mib, mlx_cache_mib, context, bits, group_size, dtype"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(options: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_plugin(MLXDecoder(), Path("/no/such/model"), options, lambda _: None)
    assert problem in str(refused.value)
