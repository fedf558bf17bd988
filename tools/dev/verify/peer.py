"""mlx-vlm as an implementation of ``verify``: its own classes, its own loading, its own greedy decoding.

Its model gets our patches and prompt ids. The result of its processor for the same pictures and questions is compared
too.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.protocol.errors import MissingError
from dotsctl.tools.dev.verify.own import release
from dotsctl.tools.dev.verify.pages import VerifyPage
from dotsctl.tools.dev.verify.stages import Inputs, Results, record
from dotsctl.tools.reference.mlx_tower import DTYPES
from numpy.typing import NDArray

NAME = "mlx-vlm"
PLACEHOLDER = 151_665
"""The one id that its processor knows; models with another vocabulary are not for it."""


def installed() -> str | None:
    """Version, or none."""
    try:
        return version("mlx-vlm")
    except PackageNotFoundError:
        return None


def peer_results(folder: Path, pages: list[VerifyPage], dtype: str, max_tokens: int) -> Results:
    """The same as :func:`dotsctl.tools.dev.verify.own.own_results`, pages one after the other.

    Raises:
        MissingError: mlx-vlm cannot be imported.
    """
    try:
        from mlx_vlm.utils import load_model
    except ImportError as error:
        raise MissingError(f"mlx-vlm cannot be imported ({error})", "pip install mlx-vlm") from None
    model: Any = load_model(folder)
    model.set_dtype(DTYPES[dtype])
    results = Results(_stages(model.vision_tower, pages[0], dtype))
    if max_tokens:
        ends = _end_ids(folder)
        results.logits = _first_logits(model, pages[0])
        results.tokens = [_answer(model, page, ends, max_tokens) for page in pages]
        results.inputs = _inputs(folder, pages) if pages[0].placeholder == PLACEHOLDER else None
    del model
    release()
    return results


def _stages(tower: Any, page: VerifyPage, dtype: str) -> dict[str, NDArray[Any]]:
    patches = mx.array(page.patches).astype(DTYPES[dtype])
    return record(tower, lambda: tower(patches, _grid(page)))


def _grid(page: VerifyPage) -> mx.array:
    """Frames, rows and columns of patches, (1, 3)."""
    return mx.array([[1, *page.grid]])


def _inputs(folder: Path, pages: list[VerifyPage]) -> list[Inputs]:
    """Return the result of its processor and its prompt template for each page."""
    from mlx_vlm.prompt_utils import apply_chat_template
    from mlx_vlm.utils import load_config, load_processor, prepare_inputs

    processor, config = load_processor(folder, add_detokenizer=False), load_config(folder)
    found = []
    for page in pages:
        prompt = apply_chat_template(processor, config, page.question, num_images=1)
        made = prepare_inputs(processor, images=[page.picture], prompts=[prompt])
        found.append(Inputs(made["input_ids"][0].tolist(), np.array(made["pixel_values"])))
    return found


def _end_ids(folder: Path) -> set[int]:
    from dotsctl.protocol.model.checkpoint import read_json

    found = read_json(folder, "generation_config.json")["eos_token_id"]
    return set(found if isinstance(found, list) else [found])


def _first_logits(model: Any, page: VerifyPage) -> NDArray[Any]:
    answer = model(mx.array(page.ids)[None], mx.array(page.patches), image_grid_thw=_grid(page))
    return np.array(answer.logits[0, -1].astype(mx.float32))  # (vocab_size,)


def _answer(model: Any, page: VerifyPage, ends: set[int], max_tokens: int) -> list[int]:
    from mlx_vlm.generate.ar import generate_step

    steps = generate_step(
        mx.array(page.ids)[None],
        model,
        mx.array(page.patches),
        None,
        max_tokens=max_tokens,
        temperature=0.0,
        image_grid_thw=_grid(page),
    )
    tokens: list[int] = []
    for token, _ in steps:
        if int(token) in ends:
            break
        tokens.append(int(token))
    return tokens
