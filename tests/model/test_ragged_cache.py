from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

mx = pytest.importorskip("mlx.core")

pytestmark = pytest.mark.model
HEADS, DIM = 2, 3


class Plain:
    """The same cache as lists: one (length, HEADS, DIM) array a page."""

    def __init__(self, pages: list[np.ndarray]) -> None:
        self.pages = pages

    def check(self, cache: Any) -> None:
        assert cache.lengths == [len(page) for page in self.pages] == cache.offset.tolist()
        for index, page in enumerate(self.pages):
            held = np.array(cache.keys[index, :, : len(page)]).transpose(1, 0, 2)
            assert np.array_equal(held, page)
            assert np.array_equal(np.array(cache.values[index, :, : len(page)]).transpose(1, 0, 2), -page)


def rows(rng: np.random.Generator, pages: int, length: int) -> tuple[np.ndarray, Any, Any]:
    """(pages, length, HEADS, DIM) values, and the same as a layer gives keys and values."""
    values = rng.normal(size=(pages, length, HEADS, DIM)).astype(np.float32)
    keys = mx.array(values.transpose(0, 2, 1, 3))
    return values, keys, -keys


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(["join", "pass", "pass", "pass", "leave"]), max_size=14))
def test_pages_hold_what_they_kept_whoever_joins_and_leaves(seed: int, events: list[str]) -> None:
    from dotsctl.decoder_worker.adapter import RaggedCache

    rng = np.random.default_rng(seed)
    first, keys, values = rows(rng, 1, int(rng.integers(1, 300)))
    cache, plain = RaggedCache.of_page(keys, values), Plain([first[0]])
    for event in events:
        if event == "join":
            more, keys, values = rows(rng, 1, int(rng.integers(1, 300)))
            cache.join(RaggedCache.of_page(keys, values))
            plain.pages.append(more[0])
        elif event == "pass":
            width = int(rng.integers(1, 90))
            new, keys, values = rows(rng, len(plain.pages), width)
            fetched, _ = cache.update_and_fetch(keys, values)
            assert fetched.shape[2] == max(cache.lengths) + width
            kept = [int(rng.integers(1, width + 1)) for _ in plain.pages]
            cache.keep(kept)
            plain.pages = [np.concatenate([p, n[:k]]) for p, n, k in zip(plain.pages, new, kept, strict=True)]
        elif len(plain.pages) > 1:
            staying = sorted(rng.permutation(len(plain.pages))[: int(rng.integers(1, len(plain.pages)))].tolist())
            cache.select(staying)
            plain.pages = [plain.pages[index] for index in staying]
        plain.check(cache)


def test_a_row_sees_its_own_page_up_to_itself_and_nothing_that_was_taken_back() -> None:
    from dotsctl.decoder_worker.adapter import RaggedCache

    cache = RaggedCache(mx.zeros((2, 1, 8, 2)), mx.zeros((2, 1, 8, 2)), [1, 3])
    cache.make_mask(2)
    cache.keep([1, 2])
    mask = np.array(cache.make_mask(2))[:, 0].astype(int).tolist()
    assert mask == [
        [[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]],
        [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]],
    ]


def test_a_pass_writes_in_place_and_copies_no_history() -> None:
    from dotsctl.decoder_worker.adapter import RaggedCache

    shape = (4, 2, 2048, 128)  # 8 MiB in float32
    cache = RaggedCache(mx.zeros(shape), mx.zeros(shape), [100, 1900, 700, 1500])
    new = mx.ones((4, 2, 3, 128))
    mx.eval(cache.keys, cache.values, new)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in range(3):
        cache.update_and_fetch(new, new)
        cache.keep([1, 3, 2, 1])
        mx.eval(cache.keys, cache.values)
    assert mx.get_peak_memory() - before < 2**20
