"""Finding a model and its fingerprint."""

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs
import pytest
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.directory import (
    DEMO,
    cached_fingerprint,
    demo_directory,
    find_model,
    fingerprint,
    installed_models,
)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and a cache folder that is not the user's."""
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "models"


def install(folder: Path, weights: bytes = b"tensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "dots_ocr"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_without_a_choice_the_only_installed_model_is_taken(models: Path) -> None:
    folder = install(models / "ocr")
    assert find_model(None) == ("ocr", folder.resolve())


def test_several_installed_models_need_a_choice(models: Path) -> None:
    install(models / "b")
    folder = install(models / "a")
    with pytest.raises(UsageError, match="a, b: choose one with --model"):
        find_model(None)
    assert find_model("a") == ("a", folder.resolve())


def test_no_installed_model_is_an_error_with_the_three_ways_to_one(models: Path) -> None:
    with pytest.raises(MissingError) as caught:
        find_model(None)
    ways = ("dotsctl pull rednote-hilab/dots.ocr", "--model demo", "path of a downloaded checkpoint")
    assert all(way in caught.value.remedy for way in ways)


def test_a_model_is_found_by_its_path(models: Path, tmp_path: Path) -> None:
    folder = install(tmp_path / "elsewhere" / "snapshot")
    assert find_model(str(folder)) == ("snapshot", folder.resolve())


def test_a_model_that_is_not_there_is_named_beside_those_that_are(models: Path) -> None:
    install(models / "ocr")
    with pytest.raises(MissingError, match=r"no model 'orc'.*Installed models: ocr, demo"):
        find_model("orc")


def test_folders_and_files_without_a_configuration_are_no_models(models: Path) -> None:
    install(models / "ocr")
    (models / "half").mkdir()
    (models / "notes.txt").write_text("not a model")
    assert installed_models() == ["ocr"]


def test_hidden_folders_are_no_models(models: Path) -> None:
    install(models / ".ocr.partial")
    assert installed_models() == []


def test_the_demo_model_is_only_used_by_name(models: Path) -> None:
    folder = install(models / "ocr")
    assert find_model(None)[1] == folder.resolve()
    assert DEMO not in installed_models()
    assert demo_directory().parts[-2:] == ("client", "demo_model")


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(models: Path, tmp_path: Path) -> None:
    first, second = install(models / "a"), install(tmp_path / "b")
    assert fingerprint(first) == fingerprint(second)
    assert len(fingerprint(first)) == 64
    (second / "README.md").write_text("no part of the model")
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "prompts.json"])
def test_the_fingerprint_changes_with_every_file_of_the_model(models: Path, name: str) -> None:
    folder = install(models / "a")
    before = fingerprint(folder)
    (folder / name).write_bytes(b'{"changed": true}')
    assert fingerprint(folder) != before


def test_moving_bytes_from_one_file_to_the_next_changes_the_fingerprint(models: Path) -> None:
    first, second = install(models / "a", b"ab"), install(models / "b", b"a")
    (first / "model2.safetensors").write_bytes(b"c")
    (second / "model2.safetensors").write_bytes(b"bc")
    assert fingerprint(first) != fingerprint(second)


def test_the_same_bytes_under_another_name_are_another_model(models: Path) -> None:
    first, second = install(models / "a"), install(models / "b")
    for folder, name in ((first, "generation_config.json"), (second, "preprocessor_config.json")):
        (folder / name).write_text("{}")  # both stand between the configuration and the tokenizer
    assert fingerprint(first) != fingerprint(second)


def test_the_fingerprint_is_read_from_the_cache_while_no_file_changes(models: Path, tmp_path: Path) -> None:
    folder = install(models / "a")
    value = fingerprint(folder)
    (entry,) = (tmp_path / "cache" / "dotsctl" / "fingerprints").iterdir()
    assert entry.read_text() == value
    entry.write_text("0" * 64)  # no model has it, so it comes from the cache
    assert fingerprint(folder) == "0" * 64


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"0" * 63, b"../" * 22])
def test_a_damaged_cache_of_fingerprints_is_computed_again(models: Path, tmp_path: Path, content: bytes) -> None:
    folder = install(models / "ocr")
    value = fingerprint(folder)
    (entry,) = (tmp_path / "cache" / "dotsctl" / "fingerprints").iterdir()
    entry.write_bytes(content)
    assert cached_fingerprint(folder) is None
    assert fingerprint(folder) == value == entry.read_text()


def test_a_cached_fingerprint_is_used_only_while_it_is_valid(models: Path) -> None:
    folder = install(models / "a")
    assert cached_fingerprint(folder) is None
    value = fingerprint(folder)
    assert cached_fingerprint(folder) == value
    (folder / "config.json").write_text("{}")
    assert cached_fingerprint(folder) is None


def test_a_cache_that_cannot_be_written_only_costs_time(models: Path, tmp_path: Path) -> None:
    folder = install(models / "a")
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert fingerprint(folder) == fingerprint(folder)


def test_weights_replaced_by_a_tool_that_keeps_size_and_time_have_another_fingerprint(models: Path) -> None:
    folder = install(models / "one")
    (weights,) = folder.glob("*.safetensors")
    before, found = fingerprint(folder), weights.stat()
    other = weights.with_suffix(".new")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(weights)
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)
    assert fingerprint(folder) != before


@pytest.mark.parametrize("is_cached", [True, False])
def test_of_several_processes_that_need_a_fingerprint_at_once_one_hashes_at_a_time_and_the_others_read_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    """Descriptors of one process stand for several: ``flock`` belongs to the open file."""
    folder = install(models / "a")
    if not is_cached:
        (tmp_path / "cache").write_text("a file where the folder should be")
    original, at_once, most, hashed = hashlib.file_digest, threading.Semaphore(0), 0, []
    together = 0

    def digest(stream: BinaryIO, name: str) -> Any:
        nonlocal together, most
        together += 1
        most = max(most, together)
        at_once.acquire(timeout=0.2)  # time for the others to come as well
        hashed.append(stream)
        together -= 1
        return original(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    with ThreadPoolExecutor(3) as threads:
        values = set(threads.map(fingerprint, [folder] * 3))
    assert len(values) == 1 and most == 1
    assert len(hashed) == (3 if is_cached else 9)  # of the three files
