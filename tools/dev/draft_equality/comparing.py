"""One decoder with and without drafts. Needs MLX."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.verifying import Draft, Drafter, NoDrafts
from dotsctl.decoder_worker.model import TextModel, load_model
from dotsctl.decoder_worker.prompt import PromptBuilder
from dotsctl.decoder_worker.row_timing import measure
from dotsctl.decoder_worker.rows import PageRun, RowScheduler
from dotsctl.decoder_worker.splice import splice
from dotsctl.decoder_worker.stop import StopRule
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.encoder_worker.plugin import EncodedPage, PageImage
from dotsctl.encoder_worker.plugins import MLX
from dotsctl.protocol.model.quantisation import KINDS
from dotsctl.tools.measuring.encoding import PageEncoder, kept
from dotsctl.tools.pages.truths import printed_pages
from PIL import Image

ROWS = 16
FREE_ROWS = RowCosts(((1, 1.0),))
"""Costs at which every draft is verified."""
MOST_TOKENS = 160
"""The most tokens of an answer."""
WRONG = 0.06
"""Share of drafted tokens that are wrong."""
SEED = 4_000_000
"""Seed of the first page."""


@dataclass
class DraftComparison:
    """The comparison of all pages with one kind of weights."""

    kind: str
    difference: float
    """Largest difference of a score between a row alone and among others, measured as at loading."""
    pages: int = 0
    equal: int = 0
    tokens: int = 0
    passes: int = 0
    """Passes with drafts."""
    rescored: int = 0
    """Passes among them that decided a token which rounding might have decided."""

    def line(self) -> str:
        """Return one line for people."""
        return (
            f"{self.kind:<8} {self.equal} of {self.pages} answers equal, {self.tokens} tokens in {self.passes} passes, "
            f"{self.rescored} of them for ties; scores of rows differ by {self.difference:.1e}"
        )


class FlawedAnswer:
    """Proposes pieces of a known answer with wrong tokens in them."""

    def __init__(self, tokens: Sequence[int], rng: random.Random) -> None:
        self._tokens, self._rng, self._done = list(tokens), rng, 0
        self.expected_tokens = len(self._tokens)

    def propose(self, limit: int) -> Draft:
        """Return a random number of tokens, some of them wrong."""
        count = self._rng.randint(0, max(0, limit))
        right = self._tokens[self._done : self._done + count]
        tokens = [token ^ 1 if self._rng.random() < WRONG else token for token in right]
        return Draft(tokens, [1.0] * len(tokens))

    def learn(self, tokens: Sequence[int]) -> None:
        """Move on by as many tokens."""
        self._done += len(tokens)


def compare(folder: Path, num_pages: int, kinds: Sequence[str]) -> Iterator[DraftComparison]:
    """Yield the comparison for each kind of weights.

    Args:
        folder: of a model, whose weights are not quantised.
        num_pages: pages, drawn anew; the model's tasks read them in turn.
        kinds: number formats, and keys of ``KINDS``.

    Raises:
        MissingError: the fonts of the pages, or a file of the model is missing.
    """
    pages = _encoded(folder, num_pages)
    for kind in kinds:
        model = load_model(folder, dtype_name=None if kind in KINDS else kind)
        if kind in KINDS:
            nn.quantize(model.network, **asdict(KINDS[kind]))
            mx.eval(model.network.parameters())
        times = measure(model.network)
        outcome = DraftComparison(kind, times.difference)
        for number, page in enumerate(pages):
            _compare_page(outcome, model, _spliced(model, folder, page, number), times.tie_gap, number)
        yield outcome


def _encoded(folder: Path, num_pages: int) -> list[EncodedPage]:
    encoder = PageEncoder(PluginChoice(MLX), folder, lambda note: None)
    found = []
    for truth in printed_pages(num_pages, SEED):
        assert isinstance(truth.image, Image.Image)
        pixels = np.asarray(truth.image.convert("RGB"))
        found.append(kept(encoder.encode_image(PageImage(None, pixels, None))))
    encoder.close()
    return found


def _spliced(model: TextModel, folder: Path, page: EncodedPage, number: int) -> SplicedPage:
    prompts = PromptBuilder(model.tokenizer, read_prompts(folder), model.image_token_id)
    task = prompts.tasks[number % min(2, len(prompts.tasks))]
    built = prompts.build(task, None, (len(page.embeddings),), page.geometry)
    embeddings = splice(built, page.embeddings, model.network.model.embed_tokens, model.dtype, model.width)
    return SplicedPage(built.ids, embeddings)


def _compare_page(outcome: DraftComparison, model: TextModel, page: SplicedPage, tie_gap: float, number: int) -> None:
    """Read a page twice, and add what came of it."""
    adapter = BatchAdapter(model.network, prefill_chunk=256, tie_gap=tie_gap)
    plain, _ = _answer(adapter, model, page, NoDrafts())
    drafted, passes = _answer(adapter, model, page, FlawedAnswer(plain, random.Random(number)))
    outcome.pages += 1
    outcome.equal += drafted == plain
    outcome.tokens += len(plain)
    outcome.passes += passes
    outcome.rescored += adapter.rescored


def _answer(adapter: BatchAdapter, model: TextModel, page: SplicedPage, drafter: Drafter) -> tuple[list[int], int]:
    """Return the tokens of a page, and the passes that they took."""
    rule = StopRule(model.end_ids, MOST_TOKENS)
    scheduler: RowScheduler[SplicedPage] = RowScheduler(adapter, 1, ROWS, 1 << 20, FREE_ROWS)
    scheduler.admit(0, page, PageRun(rule, drafter, len(page.ids)))
    while scheduler.pages:
        scheduler.step()
    return rule.tokens, scheduler.passes
