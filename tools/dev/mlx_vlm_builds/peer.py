"""Converts a checkpoint with mlx-vlm and answers pages with what it wrote: ``python peer.py FOLDER``.

Runs in an environment that has mlx-vlm and not dotsctl, so it imports nothing of ours. FOLDER holds ``job.json`` and
``pages.npz``; the builds are written to ``builds/NAME``, and what mlx-vlm gives to ``results/NAME.npz``.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_vlm.convert import convert
from mlx_vlm.generate.ar import generate_step
from mlx_vlm.utils import load_model


def main(folder: Path) -> None:
    """Make every build of the job and answer its pages, in float32."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "pages.npz", allow_pickle=False) as content:
        arrays = dict(content)
    pages = [(arrays[f"ids{n}"], arrays[f"patches{n}"], arrays[f"grid{n}"]) for n in range(job["pages"])]
    (folder / "results").mkdir()
    for name, options in job["builds"].items():
        print(f"converting and answering {name}", file=sys.stderr, flush=True)
        build = folder / "builds" / name
        convert(job["source"], str(build), **options)
        embeddings, answers = answer(build, pages, job["max_tokens"])
        np.savez(folder / "results" / f"{name}.npz", embeddings=embeddings, answers=np.array(json.dumps(answers)))
    versions = {library: version(library) for library in ("mlx-vlm", "mlx", "transformers")}
    (folder / "versions.json").write_text(json.dumps(versions))


def answer(build: Path, pages: list[tuple[Any, Any, Any]], max_tokens: int) -> tuple[Any, list[list[int]]]:
    """Return the embeddings of all pages, (num_embeddings, width) float32, and the greedy answer to each.

    Args:
        build: folder of the model.
        pages: prompt (length,), patches (num_patches, 588) and grid (2,) of each.
        max_tokens: most tokens of an answer.
    """
    model: Any = load_model(build)
    model.set_dtype(mx.float32)
    ends = json.loads((build / "generation_config.json").read_text())["eos_token_id"]
    embeddings: list[Any] = []
    answers: list[list[int]] = []
    for ids, patches, grid in pages:
        frames = mx.array([[1, *grid.tolist()]])
        embeddings.append(np.array(model.vision_tower(mx.array(patches), frames, output_hidden_states=False)))
        steps = generate_step(
            mx.array(ids)[None],
            model,
            mx.array(patches),
            None,
            max_tokens=max_tokens,
            temperature=0.0,
            image_grid_thw=frames,
        )
        answers.append([])
        for token, _ in steps:
            if int(token) in ends:
                break
            answers[-1].append(int(token))
    return np.concatenate(embeddings), answers


if __name__ == "__main__":
    main(Path(sys.argv[1]))
