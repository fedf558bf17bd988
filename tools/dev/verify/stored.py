"""Reference activations in a file, so that the peer's results can be compared where the peer is not installed.

They belong to the tiny model that is made here: random numbers from a seed, the same on every machine.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.tools.dev.verify.pages import VerifyPage
from dotsctl.tools.dev.verify.stages import STAGES, Results
from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.random_checkpoint.shape import Shape

TINY = Shape(hidden=64, layers=2, vision_dim=64, vision_layers=2, real_vocabulary=False)
STORED = Path(__file__).resolve().parents[3] / "tests" / "files" / "reference_activations.npz"
"""The stored results in a checkout; a wheel has no tests."""
ABOUT = "about"
LOGITS = "logits"
TOKENS = "tokens"


def write_tiny(folder: Path) -> Path:
    """Write the tiny model to a new folder, which is given back."""
    write_checkpoint(folder, TINY, "float32")
    return folder


def store(file: Path, model: Path, pages: list[VerifyPage], peer: Results, versions: dict[str, str]) -> int:
    """Write the results of the peer for the pages; the size of the file in bytes.

    Args:
        file: where to.
        model: what the results belong to.
        pages: their sources.
        peer: with logits and tokens.
        versions: of the peer and of what it needs.
    """
    about = {"fingerprint": fingerprint(model), "ids": [page.ids for page in pages], "versions": versions}
    tokens = peer.tokens or []
    longest = max(len(answer) for answer in tokens)
    padded = np.full((len(tokens), longest), -1, np.int32)  # (pages, longest)
    for row, answer in zip(padded, tokens, strict=True):
        row[: len(answer)] = answer
    arrays: dict[str, Any] = {stage: peer.stages[stage].astype(np.float32) for stage in STAGES}
    arrays |= {LOGITS: peer.logits, TOKENS: padded, ABOUT: np.array(json.dumps(about))}
    np.savez_compressed(file, **arrays)
    return file.stat().st_size


def stored_results(file: Path, model: Path, pages: list[VerifyPage]) -> Results:
    """Return the peer's results for the first of the pages, and its answers to as many as there are.

    Raises:
        MissingError: there is no such file.
        UsageError: it belongs to another model, to other pages, or to fewer.
    """
    if not file.is_file():
        raise MissingError(f"{file} is missing", "run this in a checkout of dotsctl, or make the file with --store")
    with np.load(file, allow_pickle=False) as content:
        arrays = dict(content)
    about = json.loads(str(arrays[ABOUT]))
    if about["fingerprint"] != fingerprint(model):
        raise UsageError(
            f"{file} belongs to the model {about['fingerprint'][:12]}, this one is {fingerprint(model)[:12]}",
            "omit --model to compare with the tiny model that the file was made with",
        )
    if about["ids"][: len(pages)] != [page.ids for page in pages]:
        raise UsageError(f"{file} was made with other prompts, or with {len(about['ids'])} pages", "make it again")
    tokens = [[int(token) for token in row if token >= 0] for row in arrays[TOKENS][: len(pages)]]
    return Results({stage: arrays[stage] for stage in STAGES}, arrays[LOGITS], tokens=tokens)
