"""Keys and values of several pages of different length, for one layer; taken back without being moved. MLX alone.

mlx-lm's batch cache keeps the newest position of all pages in one column. Where pages keep different numbers of
drafted tokens it must shift whole histories: 492 ms a pass for four pages of 2,300 positions at the real size, on a
CPU. Here each page begins in the first column and new positions are scattered to where each page ends (4 ms). Taking
back is forgetting: what lies behind a page's end is masked and later overwritten.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

STEP = 256
"""Columns by which the arrays grow; growing copies them."""


@dataclass
class RaggedCache:
    """What a layer of mlx-lm's Qwen2 asks of a cache: ``offset``, ``make_mask`` and ``update_and_fetch``.

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
        """Put other pages behind these."""
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


def _rounded(columns: int) -> int:
    return -(-columns // STEP) * STEP


def _fitted(array: mx.array, columns: int) -> mx.array:
    """Array (pages, kv_heads, columns, head_dim), cut or filled up with zeros."""
    missing = columns - array.shape[2]
    if missing <= 0:
        return array[..., :columns, :]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)])
