"""The builds of a checkpoint that mlx-vlm's converter writes, its answers to pages, and ours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.tools.bench.peers.environment import run_peer
from dotsctl.tools.dev.verify.own import own_results
from dotsctl.tools.dev.verify.pages import VerifyPage, make_pages, read_tokenizer
from numpy.typing import NDArray

BUILDS: dict[str, dict[str, Any]] = {
    "bf16": {},
    **{f"{bits}bit": {"quantize": True, "q_bits": bits, "q_group_size": 64} for bits in (4, 5, 6, 8)},
    **{
        mode: {"quantize": True, "q_bits": None, "q_group_size": None, "q_mode": mode}
        for mode in ("mxfp4", "mxfp8", "nvfp4")
    },
    "mixed_4_6": {"quantize": True, "q_bits": 4, "q_group_size": 64, "quant_predicate": "mixed_4_6"},
}
"""Arguments of ``mlx_vlm.convert.convert`` by name: the kinds that mlx-community publishes, and one with exceptions."""
PROGRAM = Path(__file__).with_name("peer.py")
PAGES = 8
MAX_TOKENS = 48
"""The most tokens of an answer."""
TOLERANCE = 1e-5
"""Largest difference of any number of an embedding, in float32."""


@dataclass(frozen=True)
class PeerResults:
    """The results of mlx-vlm for the pages with one build."""

    embeddings: NDArray[np.float32]
    """(num_embeddings, width) of all pages."""
    answers: list[list[int]]
    """Greedy answer to each page, without end tokens."""


@dataclass(frozen=True)
class Difference:
    """The differences between our results and those of mlx-vlm with one build."""

    name: str
    largest: float
    """Largest difference of any number of an embedding."""
    equal: int
    """Pages with the same answer, token by token."""
    drafted: int
    """The same, when every token of the answer is drafted."""
    tokens: int
    """Tokens of mlx-vlm's answers."""

    @property
    def match(self) -> bool:
        """Tell whether all answers are equal and the embeddings are within the tolerance."""
        return self.equal == self.drafted == PAGES and self.largest <= TOLERANCE

    def line(self) -> str:
        """Return one line for people."""
        verdict = "match" if self.match else "NO MATCH"
        return (
            f"{self.name:<10} embeddings differ by {self.largest:.1e}, {self.equal} of {PAGES} answers equal, with "
            f"drafts {self.drafted}, {self.tokens} tokens: {verdict}"
        )


def pages_of(folder: Path) -> list[VerifyPage]:
    """Return the pages, with the prompts of a model."""
    return make_pages(read_tokenizer(folder), PAGES)


def make_builds(python: Path, source: Path, folder: Path) -> dict[str, PeerResults]:
    """Convert a checkpoint to every build, below ``folder/builds``, and let mlx-vlm answer the pages.

    Args:
        python: of an environment with mlx-vlm.
        source: the checkpoint.
        folder: an empty one.

    Raises:
        CommandFailedError: mlx-vlm fails.
    """
    pages = pages_of(source)
    arrays: dict[str, Any] = {}
    for number, page in enumerate(pages):
        arrays |= {f"ids{number}": page.ids, f"patches{number}": page.patches, f"grid{number}": page.grid}
    np.savez(folder / "pages.npz", **arrays)
    job = {"source": str(source), "builds": BUILDS, "pages": len(pages), "max_tokens": MAX_TOKENS}
    (folder / "job.json").write_text(json.dumps(job))
    run_peer(python, PROGRAM, folder)
    return {name: _results(folder / "results" / f"{name}.npz") for name in BUILDS}


def _results(file: Path) -> PeerResults:
    with np.load(file, allow_pickle=False) as content:
        return PeerResults(content["embeddings"], json.loads(str(content["answers"])))


def compare(name: str, folder: Path, peer: PeerResults) -> Difference:
    """Load a build and compare its embeddings and answers with mlx-vlm's.

    Raises:
        MissingError: the build cannot be loaded.
    """
    pages = pages_of(folder)
    own = own_results(folder, pages, "float32", MAX_TOKENS)
    drafted = own_results(folder, pages, "float32", MAX_TOKENS, hints=peer.answers)
    assert own.embeddings is not None and own.tokens is not None and drafted.tokens is not None
    largest = np.abs(np.concatenate(own.embeddings) - peer.embeddings).max()
    equal, hinted = (
        sum(ours == theirs for ours, theirs in zip(tokens, peer.answers, strict=True))
        for tokens in (own.tokens, drafted.tokens)
    )
    return Difference(name, float(largest), equal, hinted, sum(map(len, peer.answers)))
