"""Puts a page's embeddings into its prompt. Imported by the MLX plugin alone."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.decoder_worker.prompt import Prompt
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import CELL_PX
from numpy.typing import NDArray

Embed = Callable[[mx.array], mx.array]
"""Rows of the embedding table (length, width) for ids (length,)."""


def check_length(prompt: Prompt, context: int) -> int:
    """Positions that are left for the answer; raises PageError E_TOO_LARGE when there are none.

    Args:
        prompt: of one page.
        context: positions that the model has, or that the user allows.
    """
    length, page = len(prompt.ids), prompt.ids.count(prompt.placeholder)
    if length < context:
        return context - length
    num_text = length - page
    fitting = (context - num_text) * 3 // 4  # a page of so many embeddings leaves a quarter of them for the answer
    remedy = f"--max-pixels {fitting * CELL_PX**2} would do" if fitting > 0 else "shorten the prompt"
    raise PageError(
        f"the prompt has {length} tokens, {page} of them for the page; there are {context} positions for prompt and "
        "answer",
        f"{remedy}",
        code=ErrorCode.TOO_LARGE,
    )


def splice(
    prompt: Prompt, page: NDArray[Any], embed: Embed, dtype: mx.Dtype, width: int, factor: float = 1.0
) -> mx.array:
    """Return the embeddings of the prompt, (length, width): the page's where placeholders stand, else the table's.

    The result is evaluated, so that ``page`` may be freed.

    Args:
        prompt: with one placeholder for each row of ``page``.
        page: (num_embeddings, width); uint16 is read as bfloat16.
        embed: the model's embedding table.
        dtype: of the result.
        width: of the model.
        factor: power of two to multiply the page with; the table of ``embed`` is multiplied already.

    Raises:
        PageError: E_BAD_EMBED, the page has another width or number of rows than the prompt.
    """
    places = np.flatnonzero(np.array(prompt.ids) == prompt.placeholder)
    if page.shape != (len(places), width) or not len(places):
        raise PageError(
            f"embeddings of shape {page.shape} for {len(places)} placeholders of width {width}: "
            "encoder and decoder must load the same model",
            code=ErrorCode.BAD_EMBED,
        )
    rows = mx.array(page)  # (num_embeddings, width)
    if page.dtype == np.uint16:
        rows = rows.view(mx.bfloat16)
    spliced = embed(mx.array(prompt.ids)).astype(dtype)  # (length, width)
    spliced[mx.array(places)] = (rows.astype(mx.float32) * factor).astype(dtype)
    mx.eval(spliced)
    return spliced
