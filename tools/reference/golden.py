"""Writes the golden page of a build: the embeddings of the tower in float64, computed from the checkpoint."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from dotsctl.encoder_worker.coreml.golden_page import Golden, draw_page, golden_of
from dotsctl.encoder_worker.coreml.manifest import GOLDEN, MANIFEST, Build, builds_directory
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.files import read_file
from dotsctl.tools.reference.exact_tower import ExactTower, layer_name
from dotsctl.tools.reference.tower_tensors import TowerTensors

Report = Callable[[str], None]


def write_golden(
    model: Path, config: VisionConfig, fingerprint: str, buckets: Sequence[int], folder: Path, report: Report
) -> tuple[int, str]:
    """Write the golden page into the folder of a build; another build of the model may lend it.

    At the width of dots.ocr and for a page of 960 patches two layers and the merger took 5.5 s of CPU on x86-64, so all
    42 should take about two minutes of it.

    Args:
        model: directory of the model.
        config: of its tower.
        fingerprint: of the model.
        buckets: of the build; the golden page is of the smallest.
        folder: of the build.
        report: receives the progress.

    Returns:
        Size in bytes and sha256 of the file.

    Raises:
        MissingError: a tensor of the model is missing or damaged.
    """
    bucket = min(buckets)
    lent = _lent(fingerprint, bucket)
    if lent is not None:
        shutil.copyfile(lent, folder / GOLDEN)
    else:
        report(f"golden page of {bucket} patches, in float64")
        page, layers = draw_page(bucket), config.num_hidden_layers

        reported = {layer_name(layer): layer for layer in range(6, layers, 6)}

        def watch(stage: str, _: object) -> None:
            if stage in reported:
                report(f"golden page: layer {reported[stage]} of {layers}")

        golden_of(ExactTower(TowerTensors(model), config).embeddings(page.values, page.grid, watch)).write(folder)
    content = read_file(folder / GOLDEN)
    return len(content), hashlib.sha256(content).hexdigest()


def _lent(fingerprint: str, bucket: int) -> Path | None:
    """The golden page of a sound build of the same model with the same smallest page; none: there is none."""
    for manifest in sorted(builds_directory(fingerprint).glob(f"[!.]*/{MANIFEST}")):
        path = manifest.parent / GOLDEN
        try:
            build = Build.read(manifest.parent)
            content = read_file(path) if build.golden else b""
            sound = build.golden == (len(content), hashlib.sha256(content).hexdigest())
            if sound and build.fingerprint == fingerprint and Golden.read(manifest.parent).bucket == bucket:
                return path
        except (MissingError, OSError):
            continue  # it is damaged, and of no use here
    return None
