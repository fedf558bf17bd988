"""Reads pages with mlx-vlm: ``python program.py FOLDER``.

Runs in an environment that has mlx-vlm and not dotsctl, so it imports nothing of ours. FOLDER holds ``job.json`` (the
model's folder, ``files``, ``prompt``, ``max_tokens``, ``way``, and ``libraries`` of a BLAS to load first); the measured
times are written to ``result.json``.
"""

import ctypes
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Load the model, read one page to warm it up, then read all pages and write what that took."""
    job = json.loads((folder / "job.json").read_text())
    for library in job["libraries"]:  # must come before mlx.core
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    from mlx_vlm import load

    model, processor = load(job["model"])
    read = {"batch": batch, "sequential": sequential}[job["way"]]
    read(model, processor, job["files"][:1], job["prompt"], job["max_tokens"])
    started, processor_s = time.perf_counter(), time.process_time()
    result = read(model, processor, job["files"], job["prompt"], job["max_tokens"])
    result["wall_s"] = time.perf_counter() - started
    result["cpu_s"] = time.process_time() - processor_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_bytes"] = peak if sys.platform == "darwin" else 1024 * peak
    (folder / "result.json").write_text(json.dumps(result))


def batch(model: Any, processor: Any, files: list[str], prompt: str, max_tokens: int) -> dict[str, Any]:
    """Read all pages with ``batch_generate``: encoded together, decoded together."""
    from mlx_vlm import batch_generate

    found = batch_generate(model, processor, images=files, prompts=[prompt] * len(files), max_tokens=max_tokens)
    return {"tokens": found.stats.generation_tokens, "first_token_s": []}


def sequential(model: Any, processor: Any, files: list[str], prompt: str, max_tokens: int) -> dict[str, Any]:
    """Read page after page with ``stream_generate``, as a user's loop does."""
    from mlx_vlm import stream_generate
    from mlx_vlm.prompt_utils import apply_chat_template

    templated = apply_chat_template(processor, model.config, prompt, num_images=1)
    tokens, first_s = 0, []
    for file in files:
        started, first, count = time.perf_counter(), None, 0
        for piece in stream_generate(model, processor, templated, image=[file], max_tokens=max_tokens, temperature=0.0):
            first = first or time.perf_counter() - started
            count = piece.generation_tokens
        tokens += count
        first_s.append(first)
    return {"tokens": tokens, "first_token_s": first_s}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
