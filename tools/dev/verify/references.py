"""The references of ``verify`` that are written for it: NumPy with float64, and PyTorch with float32."""

from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.checkpoint import all_tensor_files, read_json
from dotsctl.protocol.model.config import CONFIG
from dotsctl.protocol.model.layout import PATCH_PIXELS, PATCH_WEIGHT
from dotsctl.protocol.model.quantisation import LEVELS, OFFSETS, SCALES, stored_quantisation
from dotsctl.protocol.model.stored_layouts import canonical_name, patch_matrix
from dotsctl.tools.dev.verify.own import release
from dotsctl.tools.dev.verify.pages import VerifyPage
from dotsctl.tools.dev.verify.stages import STAGES, Results
from dotsctl.tools.reference.exact_tower import ExactTower
from numpy.typing import NDArray


def tensor_reader(folder: Path) -> Callable[[str], NDArray[np.float32]]:
    """Gives a tensor by its published name, float32 and with the published axes, and keeps none.

    The files are opened again for each tensor, since MLX would keep those that it has read.
    """
    stored = stored_quantisation(read_json(folder, CONFIG))
    places = {
        canonical_name(name): (str(file), name)
        for file in all_tensor_files(folder)
        for name in cast(dict[str, mx.array], mx.load(str(file)))
    }

    def load(name: str) -> mx.array:
        if name not in places:
            raise MissingError(f"{folder} has no tensor {name}", "download the model again")
        file, stored_name = places[name]
        return cast(dict[str, mx.array], mx.load(file))[stored_name]

    def get(name: str) -> NDArray[np.float32]:
        tensor, matrix = load(name), name.removesuffix(LEVELS)
        packing = stored.of(matrix)
        if f"{matrix}{SCALES}" in places and packing is not None:
            offsets = load(f"{matrix}{OFFSETS}") if packing.is_affine else None
            tensor = mx.dequantize(tensor, load(f"{matrix}{SCALES}"), offsets, **asdict(packing))
        if name == PATCH_WEIGHT:
            tensor = patch_matrix(tensor).reshape(-1, *PATCH_PIXELS)
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
    read = tensor_reader(folder)

    def get(name: str) -> Any:
        return torch.from_numpy(read(name))

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
