"""Small builds and mlx-vlm's answers in one file, so that CI compares with them where mlx-vlm is not installed."""

import json
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from dotsctl.protocol.errors import MissingError
from dotsctl.tools.dev.mlx_vlm_builds.builds import BUILDS, PeerResults
from dotsctl.tools.random_checkpoint.shape import Shape

SMALL = Shape(hidden=64, layers=2, vision_dim=16, vision_layers=2, real_vocabulary=False)
"""The sizes of the stored builds: rows of 64 weights are the smallest that every kind can divide into groups."""
SEED = 8
"""Some of its answers end by themselves, and no two pages have the same one."""
STORED = Path(__file__).resolve().parents[3] / "tests" / "files" / "mlx_vlm_builds.zip"
"""The stored builds in a checkout; a wheel has no tests."""
ANSWERS, EMBEDDINGS, VERSIONS = "answers.json", "embeddings.npy", "versions.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the archive, so that the same builds give the same bytes."""


def store(file: Path, folder: Path, results: Mapping[str, PeerResults]) -> int:
    """Write the builds below ``folder/builds`` and what mlx-vlm gave; the size of the file in bytes.

    The embeddings are stored once: no build changes the encoder.

    Raises:
        ValueError: mlx-vlm gave other embeddings with another build.
    """
    first = results[next(iter(BUILDS))].embeddings
    for name, result in results.items():
        if not np.array_equal(result.embeddings, first):
            raise ValueError(f"the embeddings of {name} are not those of the other builds")
    embeddings = BytesIO()
    np.save(embeddings, first, allow_pickle=False)
    content = {
        ANSWERS: json.dumps({name: result.answers for name, result in results.items()}).encode(),
        EMBEDDINGS: embeddings.getvalue(),
        VERSIONS: (folder / VERSIONS).read_bytes(),
    }
    for path in sorted((folder / "builds").rglob("*")):
        if path.is_file():
            content[str(path.relative_to(folder))] = path.read_bytes()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
    return file.stat().st_size


def stored_builds(file: Path, folder: Path) -> dict[str, PeerResults]:
    """Unpack the builds below ``folder/builds``; return what mlx-vlm gave with each.

    Raises:
        MissingError: there is no such file.
    """
    if not file.is_file():
        raise MissingError(f"{file} is missing", "run this in a checkout of dotsctl")
    with zipfile.ZipFile(file) as archive:
        answers = json.loads(archive.read(ANSWERS))
        embeddings = np.load(BytesIO(archive.read(EMBEDDINGS)), allow_pickle=False)
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("builds/")])
    return {name: PeerResults(embeddings, answers[name]) for name in answers}
