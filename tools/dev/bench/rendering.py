"""``python -P -m dotsctl.tools.dev.bench rendering``: CPU time of a client and its render process for each page."""

import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.client.api import Client
from dotsctl.client.inputs.loading import RENDERER
from dotsctl.encoder_worker.plugins import FAKE
from PIL import Image

WIDTH_PX, HEIGHT_PX, DPI = 827, 1209, 200
DIFFERENT = 20
"""Scans that are made; a document repeats them."""


@dataclass(frozen=True)
class RenderingOutcome:
    """CPU milliseconds for each page, and the time that went by."""

    pages: int
    client_ms: float
    render_ms: float
    wall_s: float


def measure(pages: int, documents: int) -> RenderingOutcome:
    """Read scans of one megapixel through fakes, from so many documents of equal length."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _documents(Path(folder), pages // documents, documents)
        with Client(encoder=f"{FAKE}:encode_ms=0", decoder=FAKE, private=True) as client:
            before, started = _own_cpu_s(), time.monotonic()
            count = sum(page.status == "ok" for page in client.ocr(paths))
            wall_s, own_s = time.monotonic() - started, _own_cpu_s() - before
            render_s = _cpu_s_of(RENDERER.pid or 0)
    return RenderingOutcome(count, own_s / count * 1e3, render_s / count * 1e3, wall_s)


def _documents(folder: Path, length: int, count: int) -> list[Path]:
    chance = np.random.default_rng(0)
    grain = [chance.normal(235, 6, (HEIGHT_PX, WIDTH_PX, 1)).clip(0, 255) for _ in range(DIFFERENT)]
    scans = [Image.fromarray(np.repeat(each.astype(np.uint8), 3, axis=2)) for each in grain]
    paths = [folder / f"{number}.pdf" for number in range(count)]
    for number, path in enumerate(paths):
        first, *others = (scans[(number + page) % DIFFERENT] for page in range(length))
        first.save(path, "PDF", save_all=True, append_images=others, resolution=DPI, quality=80)
    return paths


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_s_of(pid: int) -> float:
    """CPU time of another process, its start included; Linux alone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
