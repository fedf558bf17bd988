"""The one file that knows mlx-lm's model and caches (mlx-lm 0.32). Imported by the MLX plugin alone.

A page is prefilled into a cache of its own, a chunk at a time, up to the last token of its prompt; then its cache joins
those of the running pages. A pass takes one or more rows of every running page: its newest token and the tokens drafted
behind it. Then each page keeps as many rows as were right, which differs from page to page.

Kernels may round differently by the number of rows. A token that is chosen among several rows by less than that is not
taken: a pass with one row for each page follows and decides, as it does without drafts.

mlx-lm's own batching is not used: it takes no embeddings and verifies no drafts. It also wires all of the GPU's memory
down, which has brought macOS kernels to panic (mlx#3186); nothing here calls what does that.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import mlx.core as mx
from dotsctl.decoder_worker import bare_mlx_lm  # noqa: F401
from dotsctl.decoder_worker.drafts.verifying import accepted
from dotsctl.decoder_worker.rows import NOT_FINITE, Rows
from mlx_lm.models import qwen2
from mlx_lm.models.cache import KVCache, make_prompt_cache

FREED_BYTES = 1 << 30
"""Buffers that MLX may keep for reuse; its own limit on a Mac is nearly all of the memory."""

Network: TypeAlias = qwen2.Model
STEP = 256
"""Columns by which the caches of running pages grow; growing copies them."""


@dataclass
class RaggedCache:
    """The cache interface that a layer of mlx-lm's Qwen2 calls: ``offset``, ``make_mask`` and ``update_and_fetch``.

    mlx-lm's batch cache keeps the newest position of all pages in one column. Where pages keep different numbers of
    drafted tokens it must shift complete histories: 492 ms a pass for four pages of 2,300 positions at the real size,
    on a CPU. Here each page begins in the first column and new positions are scattered to where each page ends (4 ms).
    Nothing is removed: what lies behind a page's end is masked and later overwritten.

    A pass writes rows behind every page's end without moving the ends; that is done by :meth:`keep` when all layers
    have run and it is known how many of the rows stay.
    """

    keys: mx.array
    """(pages, kv_heads, columns, head_dim)"""
    values: mx.array
    lengths: list[int]
    """Filled columns of each page."""

    def __post_init__(self) -> None:
        self.offset = mx.array(self.lengths)
        """(pages,) where the rotary positions of the next rows begin."""

    @classmethod
    def of_page(cls, keys: mx.array, values: mx.array) -> "RaggedCache":
        """Cache of one page, from (1, kv_heads, length, head_dim)."""
        return cls(keys, values, [keys.shape[2]])

    def make_mask(self, num_rows: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        """(pages, 1, num_rows, columns) true where a row of the coming pass may look; always an array."""
        columns = mx.arange(max(self.lengths) + num_rows)
        rows = self.offset[:, None] + mx.arange(num_rows)  # (pages, num_rows)
        return columns <= rows[:, None, :, None]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Write (pages, kv_heads, num_rows, head_dim) behind each page; all columns that the mask covers."""
        used = max(self.lengths) + keys.shape[2]
        self._grow(used)
        places = self.offset[:, None] + mx.arange(keys.shape[2])  # (pages, num_rows)
        places = mx.broadcast_to(places[:, None, :, None], keys.shape)
        self.keys = mx.put_along_axis(self.keys, places, keys, axis=2)
        self.values = mx.put_along_axis(self.values, places, values, axis=2)
        return self.keys[..., :used, :], self.values[..., :used, :]

    def keep(self, rows: Sequence[int]) -> None:
        """Take ``rows[i]`` of the rows that were written last for the i-th page; the others are void."""
        self.lengths = [length + count for length, count in zip(self.lengths, rows, strict=True)]
        self.offset = mx.array(self.lengths)

    def join(self, other: "RaggedCache") -> None:
        """Append other pages to these."""
        columns = _rounded(max(*self.lengths, *other.lengths))
        self.keys = mx.concatenate([_fitted(self.keys, columns), _fitted(other.keys, columns)])
        self.values = mx.concatenate([_fitted(self.values, columns), _fitted(other.values, columns)])
        self.lengths = self.lengths + other.lengths
        self.offset = mx.array(self.lengths)

    def select(self, pages: Sequence[int]) -> None:
        """Keep the pages at these places alone, and no more columns than the longest of them needs."""
        self.lengths = [self.lengths[page] for page in pages]
        columns, chosen = _rounded(max(self.lengths)), mx.array(list(pages))
        self.keys = _fitted(self.keys[chosen], columns)
        self.values = _fitted(self.values[chosen], columns)
        self.offset = mx.array(self.lengths)

    def _grow(self, columns: int) -> None:
        if columns > self.keys.shape[2]:
            self.keys = _fitted(self.keys, _rounded(columns))
            self.values = _fitted(self.values, _rounded(columns))


@dataclass
class SplicedPage:
    """A prompt to prefill."""

    ids: list[int]
    embeddings: mx.array
    """(len(ids), width), evaluated."""


@dataclass
class _Prefill:
    page: SplicedPage
    caches: list[KVCache]
    done: int = 0
    """Positions in the caches."""


@dataclass
class BatchAdapter:
    """Implements :class:`dotsctl.decoder_worker.rows.RowModel`. All calls in the thread that loaded the model."""

    network: Network
    prefill_chunk: int
    """Positions of one chunk, the longest stall that a new page causes."""
    look_ahead: bool = False
    """Begin the next pass before the tokens of this one are known to Python. For a GPU, which else waits for Python; on
    a CPU it saves nothing, and the pass that is begun in vain when a page ends costs 7 % with short pages."""
    freed_bytes: int = FREED_BYTES
    """Buffers that MLX may keep for reuse."""
    tie_gap: float = 0.0
    """Distance of the two best scores up to which a token among several rows is decided by a pass with one row; 0: rows
    have the same scores whatever their number."""
    rescored: int = 0
    """Passes so far that followed to decide such tokens."""
    _prefills: dict[int, _Prefill] = field(default_factory=dict)
    _pages: list[int] = field(default_factory=list)
    """Running pages in the order of the batch."""
    _caches: list[RaggedCache] = field(default_factory=list)
    """One a layer; empty while nothing runs."""
    _ahead: mx.array | None = None
    """(pages, 1) result of the next pass where it has begun; dropped when pages join or leave."""

    def __post_init__(self) -> None:
        mx.set_cache_limit(self.freed_bytes)

    def open(self, page_id: int, page: SplicedPage) -> None:
        """Begin the prefill of a page."""
        self._prefills[page_id] = _Prefill(page, make_prompt_cache(self.network))

    def advance(self, page_id: int) -> int | None:
        """Prefill one chunk. When all but the prompt's last token is done the page joins the batch: that token."""
        prefill = self._prefills[page_id]
        last = len(prefill.page.ids) - 1
        end = min(prefill.done + self.prefill_chunk, last)
        if end > prefill.done:
            rows = prefill.page.embeddings[prefill.done : end]
            # The network without its head, whose 151,936 columns are not needed here.
            self.network.model(None, prefill.caches, rows[None])
            mx.eval([cache.state for cache in prefill.caches])
            prefill.done = end
        if end < last:
            return None
        del self._prefills[page_id]
        self._join(page_id, prefill.caches)
        return prefill.page.ids[last]

    @property
    def has_begun(self) -> bool:
        """Return whether the next pass runs already, with one row for each page."""
        return self._ahead is not None

    def score(self, rows: Mapping[int, Rows], *, look_ahead: bool = True) -> dict[int, list[int]]:
        """One pass over all running pages; for each the tokens that greedy decoding gives, at least one."""
        width = 1 + max(len(rows[page].draft) for page in self._pages)
        if width == 1:
            tokens = self._step([rows[page].last for page in self._pages], look_ahead=look_ahead)
        else:
            self._ahead = None
            tokens = self._verify([rows[page] for page in self._pages], width)
        return dict(zip(self._pages, tokens, strict=True))

    def _step(self, newest: list[int], *, look_ahead: bool) -> list[list[int]]:
        """Return the next token of each page, from a pass with one row for each."""
        best = self._ahead
        if best is None:
            best = self._launch(mx.array(newest)[:, None])
        self._keep([1] * len(self._pages))  # known before the pass has ended
        self._ahead = self._launch(best) if self.look_ahead and look_ahead else None
        return cast(list[list[int]], best.tolist())  # (pages, 1)

    def _verify(self, rows: list[Rows], width: int) -> list[list[int]]:
        """Return the right tokens of each page's draft and one more; what rounding may decide is decided alone."""
        scores = self._scores(mx.array([_padded(row, width) for row in rows]))  # (pages, width, vocabulary)
        best, lead = _best(scores), _lead(scores) if self.tie_gap else None
        mx.eval(best, *([] if lead is None else [lead]))
        choices = cast(list[list[int]], best.tolist())
        tokens = certain = [accepted(row.draft, choice) for row, choice in zip(rows, choices, strict=True)]
        if lead is not None:
            leads = cast(list[list[float]], lead.tolist())
            certain = [_certain(each, by, self.tie_gap) for each, by in zip(tokens, leads, strict=True)]
        self._keep([len(each) for each in certain])
        if certain == tokens:
            return tokens
        self.rescored += 1
        newest = [_newest(row, each) for row, each in zip(rows, certain, strict=True)]
        more = self._step(newest, look_ahead=False)
        return [each if NOT_FINITE in each else each + one for each, one in zip(certain, more, strict=True)]

    def drop(self, page_ids: Collection[int]) -> None:
        """Forget pages, running or in prefill."""
        for page_id in page_ids:
            self._prefills.pop(page_id, None)
        staying = [index for index, page in enumerate(self._pages) if page not in page_ids]
        if len(staying) == len(self._pages):
            return
        self._pages, self._ahead = [self._pages[index] for index in staying], None
        if staying:
            for cache in self._caches:
                cache.select(staying)
            self._evaluate()
        else:
            self._caches = []
        if not self._pages and not self._prefills:
            mx.clear_cache()

    def _join(self, page_id: int, caches: list[KVCache]) -> None:
        """Append a prefilled page to the running ones."""
        joining = [RaggedCache.of_page(*cache.keys_and_values()) for cache in caches]
        for cache, other in zip(self._caches, joining, strict=False):  # there are none before the first page
            cache.join(other)
        self._caches = self._caches or joining
        self._pages.append(page_id)
        self._ahead = None
        self._evaluate()

    def _launch(self, tokens: mx.array) -> mx.array:
        """Begin a pass over tokens (pages, 1), which need not be known yet: the best tokens behind them."""
        best = _best(self._scores(tokens))  # (pages, 1)
        mx.async_eval(best)  # type: ignore[no-untyped-call]
        return best

    def _scores(self, tokens: mx.array) -> mx.array:
        """Scores (pages, width, vocabulary) of all tokens behind each of ``tokens`` (pages, width)."""
        return pass_scores(self.network, tokens, self._caches)

    def _keep(self, rows: list[int]) -> None:
        for cache in self._caches:
            cache.keep(rows)

    def _evaluate(self) -> None:
        mx.eval([(cache.keys, cache.values) for cache in self._caches])


def pass_scores(network: Network, tokens: mx.array, caches: Sequence[RaggedCache]) -> mx.array:
    """Return the scores (pages, width, vocabulary) of all tokens behind each of ``tokens`` (pages, width)."""
    rows = network.model.embed_tokens(tokens)  # (pages, width, columns); bfloat16 of a table in a float format
    scores: mx.array = network(None, caches, rows.astype(network.model.norm.weight.dtype))
    return scores


def repeated_caches(network: Network, ids: list[int], columns: int) -> list[RaggedCache]:
    """Return evaluated caches of one page whose keys and values are those of a short text, repeated to ``columns``."""
    prefilled = make_prompt_cache(network)
    network.model(mx.array([ids]), prefilled)
    repeats = (1, 1, columns // len(ids), 1)
    caches = [RaggedCache.of_page(*(mx.tile(part, repeats) for part in cache.keys_and_values())) for cache in prefilled]
    mx.eval([(cache.keys, cache.values) for cache in caches])
    return caches


def _best(scores: mx.array) -> mx.array:
    """Return the best token of each row of scores (pages, width, vocabulary), or ``NOT_FINITE``.

    The largest score shows NaN and infinity among all; finding it costs what finding its place does.
    """
    is_finite = mx.isfinite(mx.max(scores, axis=-1))  # (pages, width)
    return mx.where(is_finite, mx.argmax(scores, axis=-1).astype(mx.int32), NOT_FINITE)  # (pages, width)


def _lead(scores: mx.array) -> mx.array:
    """Return the lead of the best score of each row (pages, width, vocabulary); infinity where it is no number."""
    first = mx.argmax(scores, axis=-1, keepdims=True)  # (pages, width, 1)
    others = mx.put_along_axis(scores, first, mx.array(-mx.inf, scores.dtype), axis=-1)
    top, second = (mx.max(each, axis=-1).astype(mx.float32) for each in (scores, others))  # (pages, width)
    return mx.where(mx.isfinite(top), top - second, mx.inf)


def _certain(tokens: list[int], lead: Sequence[float], gap: float) -> list[int]:
    """Return the tokens before the first one that leads by no more than ``gap``."""
    return tokens[: next((place for place in range(len(tokens)) if lead[place] <= gap), len(tokens))]


def _newest(rows: Rows, tokens: list[int]) -> int:
    """Return the newest token of a page behind those that a pass gave."""
    return tokens[-1] if tokens and tokens[-1] != NOT_FINITE else rows.last


def _padded(rows: Rows, width: int) -> list[int]:
    """Tokens of one page in a pass, filled up with its newest one; what is filled up is never kept."""
    return [rows.last, *rows.draft] + [rows.last] * (width - 1 - len(rows.draft))


def _rounded(columns: int) -> int:
    return -(-columns // STEP) * STEP


def _fitted(array: mx.array, columns: int) -> mx.array:
    """Array (pages, kv_heads, columns, head_dim), cut or filled up with zeros."""
    missing = columns - array.shape[2]
    if missing <= 0:
        return array[..., :columns, :]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)])
