"""Our own tower and decoder as an implementation of ``verify``."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.verifying import KnownAnswer
from dotsctl.decoder_worker.model import TextModel, load_model
from dotsctl.decoder_worker.prompt import Prompt
from dotsctl.decoder_worker.rows import PageRun, RowScheduler
from dotsctl.decoder_worker.splice import splice
from dotsctl.decoder_worker.stop import StopRule
from dotsctl.tools.dev.verify.pages import VerifyPage
from dotsctl.tools.dev.verify.stages import Inputs, Results, record
from dotsctl.tools.reference.mlx_tower import DTYPES, open_tower
from numpy.typing import NDArray

ROWS_A_PAGE = 4
"""Rows of a pass for each page: its newest token, and three drafted ones."""
FREE_ROWS = RowCosts(((1, 1.0),))
"""Costs at which every draft is verified."""


def own_results(
    folder: Path, pages: list[VerifyPage], dtype: str, max_tokens: int, hints: Sequence[Sequence[int]] = ()
) -> Results:
    """Activations of the first page; with ``max_tokens`` above 0 its logits, and answers to all pages, too.

    Tower and decoder are in memory one after the other, as in two processes.

    Args:
        folder: of the model.
        pages: what is read.
        dtype: what is computed in.
        max_tokens: most tokens of an answer; 0: none is computed.
        hints: tokens to draft each answer from, in the order of the pages; empty: nothing is drafted.
    """
    results, embeddings = _encode(folder, pages if max_tokens else pages[:1], dtype)
    results.embeddings = embeddings
    if max_tokens:
        model = load_model(folder)
        model.network.set_dtype(DTYPES[dtype])
        spliced = [_splice(model, page, rows) for page, rows in zip(pages, embeddings, strict=True)]
        results.logits = _first_logits(model, spliced[0])
        results.tokens = _answers(model, spliced, max_tokens, hints or [()] * len(pages))
    release()
    return results


def release() -> None:
    """Free what the last implementation held; MLX frees its buffers only when the last reference is gone."""
    gc.collect()
    mx.clear_cache()


def _encode(folder: Path, pages: list[VerifyPage], dtype: str) -> tuple[Results, list[NDArray[Any]]]:
    """Activations of the first page, and the embeddings of all, which go through the tower in one call."""
    tower, chunk = open_tower(folder, dtype)
    first = mx.array(pages[0].patches).astype(DTYPES[dtype])
    stages = record(tower, lambda: tower(first, [pages[0].grid], chunk))
    together = mx.array(np.concatenate([page.patches for page in pages])).astype(DTYPES[dtype])
    rows = np.array(tower(together, [page.grid for page in pages], chunk).astype(mx.float32))
    ends = np.cumsum([len(page.patches) // 4 for page in pages])[:-1]
    inputs = [Inputs(page.ids, page.patches) for page in pages]
    return Results(stages, inputs=inputs), np.split(rows, ends)


def _splice(model: TextModel, page: VerifyPage, rows: NDArray[Any]) -> SplicedPage:
    embed = model.network.model.embed_tokens
    prompt = Prompt(page.ids, page.placeholder)
    return SplicedPage(page.ids, splice(prompt, rows, embed, model.network.model.norm.weight.dtype, model.width))


def _first_logits(model: TextModel, page: SplicedPage) -> NDArray[Any]:
    logits = model.network(None, None, page.embeddings[None])  # (1, length, vocab_size)
    return np.array(logits[0, -1].astype(mx.float32))


def _answers(
    model: TextModel, pages: list[SplicedPage], max_tokens: int, hints: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Tokens of all pages, decoded together by the worker's own scheduler."""
    positions = len(pages) * (max(len(page.ids) for page in pages) + max_tokens)
    scheduler: RowScheduler[SplicedPage] = RowScheduler(
        BatchAdapter(model.network, prefill_chunk=256), len(pages), ROWS_A_PAGE * len(pages), positions, FREE_ROWS
    )
    rules = [StopRule(model.end_ids, max_tokens) for _ in pages]
    for index, (page, rule, hint) in enumerate(zip(pages, rules, hints, strict=True)):
        scheduler.admit(index, page, PageRun(rule, KnownAnswer(hint), len(page.ids)))
    while scheduler.pages:
        scheduler.step()
    return [rule.tokens for rule in rules]
