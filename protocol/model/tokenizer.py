"""Checks that tokenizer.json, generation_config.json and config.json name the same tokens.

The files are compared as JSON; the tokenizer itself is built by the decoder alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.config import AGAIN, CONFIG, Problem
from dotsctl.protocol.model.safetensors_header import shown

TOKENIZER = "tokenizer.json"
GENERATION = "generation_config.json"
PLACEHOLDER = "<|imgpad|>"
"""The token that stands in a prompt once for each embedding."""
MARKS = ("<|user|>", "<|img|>", PLACEHOLDER, "<|endofimg|>", "<|endofuser|>", "<|assistant|>")
"""The marks that a prompt is put together from."""


def token_problems(folder: Path, config: dict[str, Any]) -> list[Problem]:
    """Return everything about tokens that prevents the use of the model.

    Args:
        folder: of the model.
        config: its config.json, which has no problems of its own.

    Raises:
        MissingError: one of the files is missing or is no JSON object.
    """
    ids = _token_ids(read_json(folder, TOKENIZER))
    if ids is None:
        return [Problem(TOKENIZER, "model.vocab or added_tokens is missing or broken")]
    rows = config["vocab_size"]
    return [*_tokenizer_problems(ids, config, rows), *_end_problems(read_json(folder, GENERATION), rows)]


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int] | None:
    """Id of each token, or none where the file has another structure."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        return None
    if not all(isinstance(entry, dict) and isinstance(entry.get("content"), str) for entry in added):
        return None
    ids: dict[str, int] = vocabulary | {entry["content"]: entry.get("id") for entry in added}
    return ids if all(type(number) is int and number >= 0 for number in ids.values()) else None


def _tokenizer_problems(ids: dict[str, int], config: dict[str, Any], rows: int) -> Iterator[Problem]:
    for mark in MARKS:
        if mark not in ids:
            yield Problem(TOKENIZER, f"the token {mark} is missing, which prompts of dots.ocr need")
    token, highest = max(ids.items(), key=lambda item: item[1], default=("", -1))
    if highest >= rows:
        what = f"{shown(token)} has the id {highest}, vocab_size in {CONFIG} is {rows}"
        yield Problem(TOKENIZER, what, f"the files are of different models: {AGAIN}")
    # The real config.json has the key; a tokenizer without the placeholder is named above.
    named, placeholder = config.get("image_token_id"), ids.get(PLACEHOLDER)
    if named is not None and placeholder is not None and named != placeholder:
        what = f"image_token_id is {shown(str(named))}, {PLACEHOLDER} has the id {placeholder} in {TOKENIZER}"
        yield Problem(CONFIG, what, f"the files are of different models: {AGAIN}")


def _end_problems(generation: dict[str, Any], rows: int) -> Iterator[Problem]:
    """Yield the problems of the ids that end an answer; without them every answer would run up to the limit."""
    found = generation.get("eos_token_id")
    ends: list[Any] = found if isinstance(found, list) else [found]
    if not ends or not all(type(token) is int for token in ends):
        value = "missing" if found is None else shown(repr(found))
        yield Problem(GENERATION, f"eos_token_id is {value}, it must be one id or a list of ids")
        return
    if outside := [token for token in ends if not 0 <= token < rows]:
        what = f"eos_token_id holds {outside[0]}, vocab_size in {CONFIG} is {rows}"
        yield Problem(GENERATION, what, f"the files are of different models: {AGAIN}")
