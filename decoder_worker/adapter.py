"""The one file that knows mlx-lm's model and cache (mlx-lm 0.32). Imported by the MLX plugin alone.

A page is prefilled into a cache of its own, a chunk at a time, up to the last token of its prompt; then its cache joins
those of the running pages. A pass takes one or more rows of every running page: its newest token and the tokens drafted
behind it. Then each page keeps as many rows as were right, which differs from page to page.

mlx-lm's own batching is not used: it takes no embeddings and verifies no drafts. It also wires all of the GPU's memory
down, which has brought macOS kernels to panic (mlx#3186); nothing here calls what does that.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import mlx.core as mx
from dotsctl.decoder_worker.drafts import accepted
from dotsctl.decoder_worker.ragged_cache import RaggedCache
from dotsctl.decoder_worker.rows import Rows
from mlx_lm.models import qwen2
from mlx_lm.models.cache import KVCache, make_prompt_cache

FREED_BYTES = 1 << 30
"""Buffers that MLX may keep for reuse; its own limit on a Mac is nearly all of the memory."""


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

    network: qwen2.Model
    prefill_chunk: int
    """Positions of one chunk, the longest stall that a new page causes."""
    look_ahead: bool = False
    """Begin the next pass before the tokens of this one are known to Python. For a GPU, which else waits for Python; on
    a CPU it saves nothing, and the pass that is begun in vain when a page ends costs 7 % with short pages."""
    _prefills: dict[int, _Prefill] = field(default_factory=dict)
    _pages: list[int] = field(default_factory=list)
    """Running pages in the order of the batch."""
    _caches: list[RaggedCache] = field(default_factory=list)
    """One a layer; empty while nothing runs."""
    _ahead: mx.array | None = None
    """(pages, 1) result of the next pass where it has begun; dropped when pages join or leave."""

    def __post_init__(self) -> None:
        mx.set_cache_limit(FREED_BYTES)

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
            # The network without its head, whose 151,936 columns nobody reads here.
            self.network.model(None, prefill.caches, rows[None])
            mx.eval([cache.state for cache in prefill.caches])
            prefill.done = end
        if end < last:
            return None
        del self._prefills[page_id]
        self._join(page_id, prefill.caches)
        return prefill.page.ids[last]

    def score(self, rows: Mapping[int, Rows]) -> dict[int, list[int]]:
        """One pass over all running pages; for each the tokens that greedy decoding gives, at least one."""
        width = 1 + max(len(rows[page].draft) for page in self._pages)
        best = self._ahead if width == 1 else None
        if best is None:
            best = self._launch(mx.array([_padded(rows[page], width) for page in self._pages]))
        self._ahead = None
        if width == 1:  # what every page keeps is known before the pass has ended
            self._keep([1] * len(self._pages))
            self._ahead = self._launch(best) if self.look_ahead else None
        choices = cast(list[list[int]], best.tolist())  # (pages, width)
        kept = [accepted(rows[page].draft, choice) for page, choice in zip(self._pages, choices, strict=True)]
        if width > 1:
            self._keep([len(tokens) for tokens in kept])
        return dict(zip(self._pages, kept, strict=True))

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
        """Put a prefilled page behind the running ones."""
        joining = [RaggedCache.of_page(*cache.keys_and_values()) for cache in caches]
        for cache, other in zip(self._caches, joining, strict=False):  # there are none before the first page
            cache.join(other)
        self._caches = self._caches or joining
        self._pages.append(page_id)
        self._ahead = None
        self._evaluate()

    def _launch(self, tokens: mx.array) -> mx.array:
        """Begin a pass over tokens (pages, width), which need not be known yet: the best tokens behind each."""
        best = mx.argmax(self.network(tokens, cache=self._caches), axis=-1)  # (pages, width)
        mx.async_eval(best)  # type: ignore[no-untyped-call]
        return best

    def _keep(self, rows: list[int]) -> None:
        for cache in self._caches:
            cache.keep(rows)

    def _evaluate(self) -> None:
        mx.eval([(cache.keys, cache.values) for cache in self._caches])


def _padded(rows: Rows, width: int) -> list[int]:
    """Tokens of one page in a pass, filled up with its newest one; what is filled up is never kept."""
    return [rows.last, *rows.draft] + [rows.last] * (width - 1 - len(rows.draft))
