"""Search for the page sizes that Core ML packages are made for: ``python -P -m dotsctl.tools.dev.bucket_search``.

A package has one program for each number of patches, at most a few of them, and a page goes to the smallest one that
costs no notable resolution. The search draws page sizes as people have them, prepares each at every quality, and prints
the sets of programs that read them with the fewest operations in relation to their own.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
import numpy as np
from dotsctl.protocol.geometry import PATCH_PX, PixelLimits, Window, fit
from dotsctl.protocol.model.buckets import (
    MAX_FUNCTIONS,
    TOLERATED_LOSS,
    grids,
    place,
    standard_buckets,
)
from dotsctl.protocol.model.layout import VisionSizes
from dotsctl.protocol.parts import QUALITY_PIXELS, Quality
from numpy.typing import NDArray

DOTS_OCR = VisionSizes(1536, 1536, 4224, 42, 12)
SCANS_MM = {"A4": (210.0, 297.0), "Letter": (215.9, 279.4), "A5": (148.0, 210.0), "Legal": (215.9, 355.6)}
SCREENS_PX = ((1280, 720), (1920, 1080), (2560, 1440), (1024, 768), (1600, 1200))
PHOTOS_PX = ((3024, 4032), (3000, 4000), (2448, 3264), (1080, 1920), (2160, 3840), (3456, 4608))
RECEIPT_MM = (58.0, 80.0)
"""Widths of the two paper rolls."""
CUTTING_PX = ((400, 1400), (200, 900))
"""Least and greatest width, and height, of a part of a screen that was cut out."""
KINDS = {"A4": 32, "Letter": 16, "photo": 14, "slide": 9, "A5": 9, "receipt": 9, "Legal": 5, "cutting": 6}
"""Kinds of page and their shares in percent."""
MM_PER_INCH = 25.4
GPU_CHARGE = 2.0
"""Weight of operations on the GPU, where they hold the decoder up."""
LARGEST = 9500
"""Most patches of a bucket: with more, attention costs more than everything else, and a GPU is the better device."""
FEWEST_GRIDS = 15
"""A number of patches with fewer grids fits too few shapes of pages."""


@dataclass(frozen=True)
class DrawnPage:
    """One page size as people have it."""

    kind: str
    """A key of ``KINDS``."""
    size: tuple[int, int]
    """Width and height in pixels."""
    window: Window
    """The part inside white margins."""

    def limits(self, quality: Quality) -> PixelLimits:
        """Limits of dots.ocr at a quality."""
        standard = PixelLimits()
        return PixelLimits(standard.min_pixels, QUALITY_PIXELS[quality] or standard.max_pixels)

    def window_at(self, quality: Quality) -> Window | None:
        """The part that is read; margins are trimmed below full quality only."""
        return None if quality is Quality.FULL else self.window


def draw_pages(count: int, seed: int) -> Iterator[DrawnPage]:
    """Page sizes: scans at 150 to 300 dpi, receipts, slides, photographs and cuttings; half with margins to trim.

    A sixth lies on its side. A scan is up to 1 % larger or smaller than its paper. The same seed draws the same pages.
    """
    rng = random.Random(seed)
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=count)
    for kind in kinds:
        width, height = _upright_size(kind, rng)
        if rng.random() < 1 / 6:
            width, height = height, width
        yield DrawnPage(kind, (width, height), _window(kind, (width, height), rng))


def _upright_size(kind: str, rng: random.Random) -> tuple[int, int]:
    """Width and height in pixels."""
    if kind == "slide":
        return rng.choice(SCREENS_PX)
    if kind == "photo":
        return rng.choice(PHOTOS_PX)
    if kind == "cutting":
        width_px, height_px = CUTTING_PX
        return rng.randint(*width_px), rng.randint(*height_px)
    per_mm = rng.choice((150, 200, 200, 240, 300, 300)) / MM_PER_INCH
    if kind == "receipt":
        width_mm = rng.choice(RECEIPT_MM)
        return round(width_mm * per_mm), round(width_mm * rng.uniform(1.2, 4.0) * per_mm)
    width_mm, height_mm = SCANS_MM[kind]
    return (
        round(width_mm * per_mm * rng.uniform(0.99, 1.01)),
        round(height_mm * per_mm * rng.uniform(0.99, 1.01)),
    )


def _window(kind: str, size: tuple[int, int], rng: random.Random) -> Window:
    """The part inside the margins; photographs and every second scan have none that are white."""
    width, height = size
    if kind == "photo" or rng.random() < 0.5:
        return 0, 0, width, height
    left, right = rng.uniform(0.03, 0.12), rng.uniform(0.03, 0.12)
    top, bottom = rng.uniform(0.03, 0.12), rng.uniform(0.03, 0.25)
    return round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height)


def losses(pages: Sequence[DrawnPage], quality: Quality, buckets: Sequence[int]) -> NDArray[np.float64]:
    """(pages, buckets) share of the resolution that each page loses in each bucket alone."""
    return np.array(
        [
            [place(page.size, 1, page.limits(quality), (bucket,), page.window_at(quality)).loss for bucket in buckets]
            for page in pages
        ]
    )


def coverage(pages: Sequence[DrawnPage], quality: Quality, buckets: Sequence[int]) -> float:
    """Share of the pages that lose no notable resolution in the best of the buckets."""
    return float((losses(pages, quality, buckets).min(axis=1) <= TOLERATED_LOSS).mean())


def charges(pages: Sequence[DrawnPage], quality: Quality, buckets: Sequence[int]) -> NDArray[np.float64]:
    """(pages, buckets) operations of each page in each bucket over those of the page alone; not over ``GPU_CHARGE``.

    A page that would lose notable resolution in a bucket goes to the GPU.
    """
    own_px = [fit(page.size, 1, page.limits(quality), page.window_at(quality)).resized for page in pages]
    own = np.array([DOTS_OCR.operations(width * height // PATCH_PX**2) for width, height in own_px])  # (pages,)
    in_bucket = np.array([DOTS_OCR.operations(bucket) for bucket in buckets])  # (buckets,)
    good = losses(pages, quality, buckets) <= TOLERATED_LOSS  # (pages, buckets)
    return np.where(good, np.minimum(in_bucket / own[:, None], GPU_CHARGE), GPU_CHARGE)


def mean_charge(pages: Sequence[DrawnPage], buckets: Sequence[int]) -> float:
    """The charge of a page in the best of the buckets; the mean of all pages and the three qualities."""
    return float(np.mean([charges(pages, quality, buckets).min(axis=1).mean() for quality in Quality]))


def search(pages: Sequence[DrawnPage], most: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """The best set of one bucket, of two, and so on up to ``most``, each with the mean charge of a page.

    Each set starts as the one before it and the best further bucket; then single buckets are exchanged as long as that
    helps. The mean goes over the three qualities.
    """
    candidates = [count for count in range(240, LARGEST, 16) if len(grids(count)) >= FEWEST_GRIDS]
    charged = np.concatenate([charges(pages, quality, candidates) for quality in Quality])  # (3 * pages, candidates)

    def mean(chosen: Sequence[int]) -> float:
        return float(charged[:, list(chosen)].min(axis=1).mean())

    everyone, best = range(len(candidates)), list[int]()
    while len(best) < most:
        best.append(min(everyone, key=lambda each: mean([*best, each])))
        improved = True
        while improved:
            rivals = [[*best[:place], each, *best[place + 1 :]] for place in range(len(best)) for each in everyone]
            rival = min(rivals, key=mean)
            improved = mean(rival) < mean(best)
            best = rival if improved else best
        yield mean(best), tuple(sorted(candidates[each] for each in best))


def report(pages: Sequence[DrawnPage], buckets: Sequence[int]) -> Iterator[str]:
    """The coverage of a set of buckets, by quality and by kind of page."""
    for quality in Quality:
        lost = losses(pages, quality, buckets).min(axis=1)  # (pages,)
        shares = []
        for kind in KINDS:
            mine = [loss <= TOLERATED_LOSS for page, loss in zip(pages, lost, strict=True) if page.kind == kind]
            shares.append(f"{kind} {sum(mine) / max(1, len(mine)):.0%}")
        yield f"  {quality:8} {np.mean(lost <= TOLERATED_LOSS):6.1%}   {', '.join(shares)}"


@click.command()
@click.option("--pages", "count", default=1000, show_default=True, help="Page sizes to draw.")
@click.option("--seed", default=1, show_default=True, help="Seed of the page sizes.")
def main(count: int, seed: int) -> None:
    """Print the best sets of page sizes for Core ML packages, and what the standard set covers."""
    pages = list(draw_pages(count, seed))
    standard = standard_buckets(PixelLimits())
    for mean, buckets in (*search(pages, MAX_FUNCTIONS), (mean_charge(pages, standard), standard)):
        name = ", the standard set" if buckets == standard else ""
        click.echo(f"{'+'.join(map(str, buckets))}{name}: {mean:.3f} times the operations of the pages alone")
        for line in report(pages, buckets):
            click.echo(line)


if __name__ == "__main__":
    main()
