"""Refuses a repository that dotsctl cannot load, before its weights are downloaded.

Names are checked first, then config.json and the small files beside it, then the headers of the weight files, of which
no more than the beginning is read. All of that takes less than 5 MB.
"""

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from dotsctl.client.files.sizes import size_text
from dotsctl.client.models.download import download, fetch_beginning
from dotsctl.client.models.hub import Hub, RemoteFile, Snapshot
from dotsctl.protocol.errors import CommandFailedError, MissingError
from dotsctl.protocol.model.checkpoint import INDEX, read_index, read_json
from dotsctl.protocol.model.config import CONFIG, OTHER_BUILD, OURS, Problem, config_problems, sizes
from dotsctl.protocol.model.quantisation import stored_quantisation
from dotsctl.protocol.model.safetensors_header import StoredTensor, header_bytes, read_header
from dotsctl.protocol.model.tasks import PROMPTS
from dotsctl.protocol.model.tokenizer import GENERATION, TOKENIZER, token_problems
from dotsctl.protocol.model.validation import PREPROCESSOR, CheckpointFacts, read_limits
from dotsctl.protocol.model.weights import Headers, half_facts, missing_files, weight_problems
from dotsctl.protocol.parts import Role
from dotsctl.protocol.typed_values import brief

WEIGHTS = ".safetensors"
NEEDED = (CONFIG, TOKENIZER, GENERATION, PREPROCESSOR)
FETCHED = (
    *NEEDED,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.*",
    PROMPTS,
    f"*{WEIGHTS}",
    f"*{WEIGHTS}.index.json",
    "readme*",
    "*license*",
    "*licence*",
    "notice*",
)
"""Patterns of the names, in lower case, of the files in a repository's root that are fetched."""
NEVER = (".bin", ".pt", ".pth", ".py", ".pkl", ".ckpt")
"""Endings of files that can run code, or hold code."""
GGUF = ".gguf"
ADAPTER = "adapter_config.json"
"""A file that only adapters have, such as those of LoRA."""
MOST_JSON_BYTES = 1_000_000
"""Size limit of config.json, and of the index; those of dots.ocr have 2 and 84 kB."""
MOST_HEADERS_BYTES = 2_000_000
"""Size limit of all headers together; those of dots.ocr with 4 bits have about 140 kB."""
FIRST_BYTES = 16_384
"""Bytes of a weight file that are read before the length of its header is known."""


def select(snapshot: Snapshot) -> list[RemoteFile]:
    """The files that dotsctl needs, the small ones first and the weights last.

    Raises:
        CommandFailedError: the repository lacks one, or its weights are in another format.
    """
    names = {file.name for file in snapshot.files}
    files = [file for file in snapshot.files if _is_fetched(file.name)]
    if problem := _format_problem(names, [file.name for file in files]):
        raise CommandFailedError(f"{snapshot.repo} {problem}", OTHER_BUILD)
    if missing := [name for name in NEEDED if name not in names]:
        raise CommandFailedError(f"{snapshot.repo} has no {missing[0]}: it is not a dots.ocr snapshot")
    return sorted(files, key=lambda file: (file.name != CONFIG, file.name.endswith(WEIGHTS), file.size_bytes))


def first_weights(files: Sequence[RemoteFile]) -> RemoteFile | None:
    """Return the first weight file of :func:`select`, before which all others are there."""
    return next((file for file in files if file.name.endswith(WEIGHTS)), None)


def _is_fetched(name: str) -> bool:
    lower = name.lower()
    return "/" not in name and not lower.endswith(NEVER) and any(fnmatch(lower, pattern) for pattern in FETCHED)


def _format_problem(names: set[str], fetched: Sequence[str]) -> str:
    """The reason why the repository has no weights that are read; empty: it has some."""
    weights = [name for name in fetched if name.endswith(WEIGHTS)]
    if ADAPTER in names and all(name.startswith("adapter_") for name in weights):
        return f"holds an adapter ({ADAPTER}), which changes a model and is none by itself"
    if weights:
        return ""
    if others := sorted(name for name in names if name.endswith(NEVER) and not name.endswith(".py")):
        return f"has its weights only as {others[0]}: dotsctl reads .safetensors, which cannot run code"
    if others := sorted(name for name in names if name.endswith(GGUF)):
        return f"has its weights only as {others[0]}, the format of llama.cpp: dotsctl reads .safetensors"
    return "has no .safetensors file: it holds no weights that dotsctl can read"


def examine(hub: Hub, snapshot: Snapshot, files: Sequence[RemoteFile], folder: Path) -> CheckpointFacts:
    """Download what shows whether the weights can be loaded, and return what they are.

    Args:
        hub: where the files come from.
        snapshot: the commit.
        files: those of :func:`select`.
        folder: where the files will be; what is downloaded stays there.

    Raises:
        MissingError: they cannot be loaded.
        CommandFailedError: the Hub refuses, or the network is down.
        OSError: a file cannot be written.
    """
    small = {file.name: file for file in files if not file.name.endswith(WEIGHTS)}
    weights = [file for file in files if file.name.endswith(WEIGHTS)]
    try:
        config = _fetch_json(hub, snapshot, small[CONFIG], folder)
        found, expected = config.get("model_type"), OURS["model_type"]
        if found != expected:
            what = f"it is of the type {brief(found)}, and dotsctl reads {expected!r} (dots.ocr, dots.mocr)"
            raise MissingError(what)
        _require(config_problems(config))
        for name in (GENERATION, PREPROCESSOR, INDEX):
            if name in small:
                _fetch_json(hub, snapshot, small[name], folder)
        limits = read_limits(folder)
        places = read_index(folder)
        _require(missing_files([file.name for file in weights], places))
        headers = _headers(hub, snapshot, weights, folder)
        _require(weight_problems(config, headers, places))
    except MissingError as error:
        raise MissingError(error.problem.replace(f"{folder}{os.sep}", "")) from None
    halves = half_facts(headers, stored_quantisation(config))
    return CheckpointFacts(*sizes(config), halves[Role.ENCODER], halves[Role.DECODER], limits)


def token_reason(folder: Path) -> str:
    """Return why the tokens of a folder without weights do not fit together; empty: they do."""
    try:
        _require(token_problems(folder, read_json(folder, CONFIG)))
    except MissingError as error:
        return error.problem.replace(f"{folder}{os.sep}", "")
    return ""


def _require(problems: Sequence[Problem]) -> None:
    """Raise MissingError with the first problem, if there are some."""
    if problems:
        more = f"; {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise MissingError(f"{problems[0].file}: {problems[0].what}{more}")


def _fetch_json(hub: Hub, snapshot: Snapshot, file: RemoteFile, folder: Path) -> dict[str, Any]:
    if file.size_bytes > MOST_JSON_BYTES:
        raise MissingError(f"{file.name} has {size_text(file.size_bytes)}, more than {size_text(MOST_JSON_BYTES)}")
    download(hub, snapshot, file, folder, lambda size_bytes: None)
    return read_json(folder, file.name)


def _headers(hub: Hub, snapshot: Snapshot, weights: Sequence[RemoteFile], folder: Path) -> Headers:
    """The headers of all weight files. Raises MissingError for one that is broken or too long."""
    headers: dict[str, dict[str, StoredTensor]] = {}
    read_bytes = 0
    for file in weights:
        path = fetch_beginning(hub, snapshot, file, folder, FIRST_BYTES)
        try:
            needed_bytes = header_bytes(path, file.size_bytes)
            read_bytes += max(needed_bytes, FIRST_BYTES)
            if read_bytes > MOST_HEADERS_BYTES:
                raise MissingError(f"{file.name}: the headers have more than {size_text(MOST_HEADERS_BYTES)}")
            fetch_beginning(hub, snapshot, file, folder, needed_bytes)
            headers[file.name] = read_header(path, file.size_bytes)
        except MissingError as error:
            raise MissingError(error.problem.replace(str(path), file.name)) from None
    return headers
