"""The forms of attention that a program may have: which operand is transposed, and what is computed at a time.

Scores of all queries would not fit into memory, so they exist for one tile of queries at a time. The fused operation
``scaled_dot_product_attention`` is not used: the Neural Engine gives wrong numbers with it for long pages.
"""

from dataclasses import dataclass
from typing import Any

from coremltools.converters.mil import Builder as mb

KEY_MAJOR = "key-major"
"""Scores (keys, queries), softmax over keys. The keys are transposed once a layer, no product transposes an operand.
Source: Apple's split_einsum, https://github.com/apple/ml-stable-diffusion."""
QUERY_MAJOR = "query-major"
"""Scores (queries, keys), as in most towers. The product with the values transposes the shares of a tile."""
FORMS = (KEY_MAJOR, QUERY_MAJOR)
Var = Any
"""A value of the program that is being built."""


@dataclass(frozen=True)
class AttentionOptions:
    """The form in which attention is written; every choice computes the same."""

    query_tile: int = 512
    """Largest number of queries whose scores exist at a time."""
    split_heads: bool = False
    """One product for each head, instead of one for all heads."""
    form: str = KEY_MAJOR
    """One of ``FORMS``."""


def attend(q: Var, k: Var, v: Var, options: AttentionOptions, label: str) -> Var:
    """Attention of all patches to all.

    Args:
        q: scaled queries, (1, heads, head_dim, patches).
        k: keys, of the same shape.
        v: values, of the same shape.
        options: the form.
        label: start of the names of all values.

    Returns:
        (1, heads, head_dim, patches).
    """
    if options.form == KEY_MAJOR:
        k = mb.transpose(x=k, perm=[0, 1, 3, 2], name=f"{label}_keys")  # (1, heads, patches, head_dim)
    heads = q.shape[1]
    if not options.split_heads or heads == 1:
        return _attend_tiles(q, k, v, options, label, f"{label}_joined")
    operands = {"queries": q, "keys": k, "values": v}
    parts = [mb.split(x=x, num_splits=heads, axis=1, name=f"{label}_{name}_of") for name, x in operands.items()]
    attended = []
    for number, (queries, keys, values) in enumerate(zip(*parts, strict=True)):
        name = f"{label}_head{number}"
        attended.append(_attend_tiles(queries, keys, values, options, name, f"{name}_joined"))
    return mb.concat(values=attended, axis=1, name=f"{label}_joined")


def _attend_tiles(q: Var, k: Var, v: Var, options: AttentionOptions, label: str, output: str) -> Var:
    """Attention, one tile of queries after the other; the keys are transposed already if the form needs it."""
    tiles = []
    for number, queries in enumerate(_tiles(q, options.query_tile, label)):
        name = f"{label}_tile{number}"
        if options.form == KEY_MAJOR:
            scores = mb.matmul(x=k, y=queries, name=f"{name}_scores")  # (1, heads, patches, tile)
            shares = mb.softmax(x=scores, axis=2, name=f"{name}_shares")
            tiles.append(mb.matmul(x=v, y=shares, name=f"{name}_values"))  # (1, heads, head_dim, tile)
        else:
            scores = mb.matmul(x=queries, y=k, transpose_x=True, name=f"{name}_scores")  # (1, heads, tile, patches)
            shares = mb.softmax(x=scores, axis=3, name=f"{name}_shares")
            tiles.append(
                mb.matmul(x=v, y=shares, transpose_y=True, name=f"{name}_values")
            )  # (1, heads, head_dim, tile)
    return mb.concat(values=tiles, axis=3, name=output) if len(tiles) > 1 else tiles[0]


def _tiles(q: Var, query_tile: int, label: str) -> list[Var]:
    """The queries in tiles of nearly equal size, each (1, heads, head_dim, tile)."""
    patches = q.shape[3]
    number = -(-patches // query_tile)
    if number == 1:
        return [q]
    sizes = [patches * (i + 1) // number - patches * i // number for i in range(number)]
    return list(mb.split(x=q, split_sizes=sizes, axis=3, name=f"{label}_tiles"))
