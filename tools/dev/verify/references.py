"""The references of ``verify`` that are written for it: NumPy with float64, and PyTorch with float32."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.tools.dev.verify.own import release
from dotsctl.tools.dev.verify.pages import VerifyPage
from dotsctl.tools.dev.verify.stages import STAGES, Results
from dotsctl.tools.reference.exact_tower import ExactTower
from numpy.typing import NDArray

CONVERTED = "model.vision_tower."
"""The prefix of the tower's names in newer conversions."""


def tensor_reader(folder: Path, prefixes: tuple[str, ...]) -> Callable[[str], NDArray[np.float32]]:
    """Gives a tensor by its name, float32, and keeps none.

    The files are opened again for each tensor, since MLX would keep those that it has read.
    """
    files = [str(file) for file in tensor_files(folder, prefixes)]
    places = {name: file for file in files for name in cast(dict[str, mx.array], mx.load(file))}
    places = {name: file for name, file in places.items() if name.startswith(prefixes)}

    def get(name: str) -> NDArray[np.float32]:
        stored = name if name in places else name.replace("vision_tower.", CONVERTED, 1)
        if stored not in places:
            raise MissingError(f"{folder} has no tensor {name}", "download the model again")
        tensor = cast(dict[str, mx.array], mx.load(places[stored]))[stored]
        return np.array(tensor.astype(mx.float32))

    return get


def float64_results(folder: Path, page: VerifyPage) -> Results:
    """Activations of a page."""
    stages: dict[str, NDArray[Any]] = {}

    def keep(stage: str, rows: NDArray[np.float64]) -> None:
        if stage in STAGES:
            stages[stage] = rows

    ExactTower.of(folder).embeddings(page.patches, page.grid, keep)
    release()
    return Results(stages)


def torch_version() -> str | None:
    """Version of PyTorch, or none."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def torch_results(folder: Path, page: VerifyPage, with_logits: bool) -> Results:
    """Activations of a page, and the logits of its first step.

    Raises:
        MissingError: PyTorch cannot be imported.
    """
    try:
        import torch
        from dotsctl.tools.dev.verify import torch_model
    except ImportError as error:
        raise MissingError(f"PyTorch cannot be imported ({error})", "pip install torch") from None
    read = tensor_reader(folder, ("vision_tower.", "model.", "lm_head."))

    def get(name: str) -> Any:
        tensor = read(name)
        if tensor.ndim == 4 and tensor.shape[1:] == (14, 14, 3):  # as MLX conversions have the patch embedding
            tensor = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))
        return torch.from_numpy(tensor)

    config = read_json(folder, "config.json")
    patches, ids = torch.from_numpy(page.patches), torch.tensor(page.ids)
    with torch.inference_mode():
        stages = torch_model.tower_stages(patches, page.grid, get, config["vision_config"])
        results = Results({stage: tensor.numpy() for stage, tensor in stages.items()})
        if with_logits:
            logits = torch_model.first_logits(ids, page.placeholder, stages["merger"], get, config)
            results.logits = logits.numpy()
    release()
    return results
