"""A set of pages in one zip file: pictures with their truth, made ahead by programs that a training cannot run.

A training reads sets by the grid of their pages, since a batch has pages of one grid. The file is what a lent machine
without a browser gets.
"""

import io
import json
import random
import zipfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import CELL_PX
from dotsctl.protocol.model.files import replacing
from dotsctl.tools.pages.elements import Box, Element, GeneratedPage, Glyph
from PIL import Image

INK_DISTANCE = 40
"""Difference from the paper, of 255, from which on a pixel is ink."""


def write_set(pages: Iterable[GeneratedPage], target: Path) -> int:
    """Write pages to a set, which appears when it is complete; return how many."""
    count = 0
    with replacing(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
        for page in pages:
            picture = io.BytesIO()
            page.image.save(picture, "WEBP", lossless=True)
            facts = {
                "size": page.image.size,
                "family": page.family,
                "elements": [asdict(element) for element in page.elements],
                "glyphs": [(round(g.x, 1), round(g.y, 1), g.character, g.element) for g in page.glyphs],
            }
            file.writestr(f"{count}.webp", picture.getvalue())
            file.writestr(f"{count}.json", json.dumps(facts, ensure_ascii=False), zipfile.ZIP_DEFLATED)
            count += 1
    return count


class PageSet:
    """The pages of one or several files, by grid."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Index the pages.

        Raises:
            UsageError: a file is no set of pages.
        """
        self._files: list[zipfile.ZipFile] = []
        self._places: dict[tuple[int, int], list[tuple[int, str]]] = {}
        for path in files:
            try:
                file = zipfile.ZipFile(path)
                names = [name for name in file.namelist() if name.endswith(".json")]
                sizes = [json.loads(file.read(name))["size"] for name in names]
            except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
                raise UsageError(
                    f"{path} is no set of pages ({error})", "make one with dotsctl.tools.dev.page_sets"
                ) from None
            for name, (wide, high) in zip(names, sizes, strict=True):
                grid = round(high / CELL_PX), round(wide / CELL_PX)
                self._places.setdefault(grid, []).append((len(self._files), name.removesuffix(".json")))
            self._files.append(file)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of cells that there are pages of, in a fixed order."""
        return sorted(self._places)

    def draw(self, rng: random.Random, grid: tuple[int, int], count: int) -> list[GeneratedPage]:
        """Return some pages of a grid, drawn with repetition."""
        return [self._page(*rng.choice(self._places[grid])) for _ in range(count)]

    def _page(self, number: int, name: str) -> GeneratedPage:
        file = self._files[number]
        facts = json.loads(file.read(f"{name}.json"))
        with Image.open(io.BytesIO(file.read(f"{name}.webp"))) as picture:
            image = picture.convert("RGB")
        elements = tuple(Element(**entry | {"box": tuple(entry["box"])}) for entry in facts["elements"])
        return GeneratedPage(image, elements, tuple(Glyph(*entry) for entry in facts["glyphs"]), facts["family"])


def ink_box(image: Image.Image, around: Box, paper: tuple[int, int, int]) -> Box | None:
    """Return the box of the ink inside ``around``, in pixels; none: there is no ink."""
    x0, y0 = max(0, int(around[0])), max(0, int(around[1]))
    x1, y1 = min(image.width, int(around[2]) + 1), min(image.height, int(around[3]) + 1)
    if x1 <= x0 or y1 <= y0:
        return None
    pixels = np.asarray(image.crop((x0, y0, x1, y1)), np.int16)  # (height, width, 3)
    ink = np.abs(pixels - np.asarray(paper, np.int16)).max(-1) >= INK_DISTANCE  # (height, width)
    if not ink.any():
        return None
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return float(x0 + columns[0]), float(y0 + rows[0]), float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1)
