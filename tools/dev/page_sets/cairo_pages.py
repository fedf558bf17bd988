"""Pages that Pango and Cairo set: other line breaks, spacing and anti-aliasing than any training page has.

Training never uses them, so they measure what a model reads of pages that others print. Needs the packages
``cairocffi`` and ``pangocairocffi`` of the extra ``[train]``, and Debian's ``libpangocairo-1.0-0``, ``fontconfig`` and
``fonts-dejavu-core``.
"""

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from dotsctl.protocol.errors import MissingError
from dotsctl.tools.pages.elements import Box, Element
from dotsctl.tools.pages.truths import Truth
from dotsctl.tools.pages.words import VOCABULARIES, Words
from PIL import Image

FAMILIES = {"dejavu-sans": "DejaVu Sans", "dejavu-mono": "DejaVu Sans Mono", "dejavu-serif": "DejaVu Serif"}
"""Families by the names of ``fonts.py``, with the names of fontconfig."""
TYPE_PX = (20, 26)
"""Smallest and largest type of the body."""
POINTS_PER_PX = 72 / 96
"""The points of a pixel at the resolution that Pango assumes."""
MARGIN_PX = (6, 24)
PLAIN_SHARE = 0.5
"""Share of pages that are one block of text."""


@dataclass
class CairoSheet:
    """A white page that Pango's layouts are drawn on, from top to bottom."""

    size: tuple[int, int]
    family: str
    margin: int
    top: float

    def __post_init__(self) -> None:
        cairo, _, _ = _libraries()
        self.surface = cairo.ImageSurface(cairo.FORMAT_RGB24, *self.size)
        self.context = cairo.Context(self.surface)
        self.context.set_source_rgb(1, 1, 1)
        self.context.paint()
        self.context.set_source_rgb(0, 0, 0)
        self.elements: list[Element] = []

    def layout(
        self, text: str, size_px: float, *, bold: bool = False, indent: float = 0.0, spacing: float = 1.0
    ) -> Any:
        """Return the text as Pango breaks it into lines between the margins."""
        _, pango, pangocairo = _libraries()
        layout = pangocairo.create_layout(self.context)
        description = pango.FontDescription()
        description.family = FAMILIES[self.family]
        description.size = pango.units_from_double(size_px * POINTS_PER_PX)
        description.weight = pango.Weight.BOLD if bold else pango.Weight.NORMAL
        layout.font_description = description
        layout.width = pango.units_from_double(self.size[0] - 2 * self.margin - indent)
        layout.spacing = pango.units_from_double((spacing - 1) * size_px)
        layout.text = text
        return layout

    def height(self, layout: Any) -> float:
        """Return the height of a layout's lines in pixels."""
        _, pango, _ = _libraries()
        return float(pango.units_to_double(layout.get_extents()[1].height))

    def room(self) -> float:
        """Return the pixels that are left between the present top and the lower margin."""
        return self.size[1] - self.margin - self.top

    def show(self, layout: Any, element: tuple[str, str, str], *, indent: float = 0.0, gap: float = 0.0) -> None:
        """Draw a layout and note it as an element of (category, text, plain)."""
        _, pango, pangocairo = _libraries()
        left = self.margin + indent
        self.context.move_to(left, self.top)
        pangocairo.show_layout(self.context, layout)
        ink = layout.get_extents()[0]
        x0, y0, wide, high = (pango.units_to_double(side) for side in (ink.x, ink.y, ink.width, ink.height))
        box: Box = (left + x0, self.top + y0, left + x0 + wide, self.top + y0 + high)
        self.elements.append(Element(box, *element))
        self.top += self.height(layout) + gap

    def image(self) -> Image.Image:
        """Return the page as an RGB image."""
        self.surface.flush()
        width, height = self.size
        rows = np.frombuffer(bytes(self.surface.get_data()), np.uint8).reshape(height, self.surface.get_stride())
        bgrx = rows[:, : 4 * width].reshape(height, width, 4)  # (height, width, BGRX)
        return Image.fromarray(np.ascontiguousarray(bgrx[:, :, 2::-1]))


def cairo_pages(
    num_pages: int, seed: int, size: tuple[int, int], vocabulary: str, type_px: int | None = None
) -> Iterator[Truth]:
    """Yield pages; page ``i`` depends on ``seed + i``, the size and the vocabulary alone.

    Args:
        num_pages: how many.
        seed: of the first page.
        size: width and height in pixels.
        vocabulary: one of VOCABULARIES.
        type_px: size of the body's type; none: drawn for each page from TYPE_PX.

    Raises:
        MissingError: a library or a font is not installed.
    """
    for number in range(seed, seed + num_pages):
        rng = random.Random(f"cairo {number}")
        family = list(FAMILIES)[number % len(FAMILIES)]
        _check_family(FAMILIES[family])
        margin = rng.randint(*MARGIN_PX)
        sheet = CairoSheet(size, family, margin, rng.randint(*MARGIN_PX))
        body, words = type_px or rng.randint(*TYPE_PX), VOCABULARIES[vocabulary](random.Random(number))
        if rng.random() < PLAIN_SHARE:
            _paragraph(sheet, words, body, 1.0 + rng.choice((0.0, 0.15)), most=10_000)
        else:
            _document(rng, sheet, words, body)
        text = "\n".join(element.plain for element in sheet.elements)
        yield Truth(f"cairo {number}", sheet.image(), text, family, tuple(sheet.elements))


def _document(rng: random.Random, sheet: CairoSheet, words: Words, body: int) -> None:
    """Fill a page with a title, headings, paragraphs and lists."""
    spacing = 1.0 + rng.choice((0.0, 0.1, 0.25))
    if rng.random() < 0.4:
        _single(sheet, words.words(1, 3), 1.5 * body, "Title", "# ")
    while sheet.room() > 1.5 * body:
        before, kind = len(sheet.elements), rng.random()
        if kind < 0.2:
            _single(sheet, words.words(1, 4), 1.2 * body, "Section-header", "## ")
        elif kind < 0.4:
            for item in range(1, rng.randint(2, 5)):
                mark = f"{item}." if kind < 0.3 else "-"
                _single(sheet, f"{mark} {words.words(1, 6)}", body, "List-item", bold=False, gap=0.2 * body)
        else:
            _paragraph(sheet, words, body, spacing, most=rng.randint(5, 40))
        if len(sheet.elements) == before:
            return


def _single(
    sheet: CairoSheet, text: str, size_px: float, category: str, mark: str = "", bold: bool = True, gap: float = 0.0
) -> None:
    """Draw a heading or an item if there is room."""
    layout = sheet.layout(text, size_px, bold=bold)
    if sheet.height(layout) <= sheet.room() and _fits(sheet, layout):
        sheet.show(layout, (category, mark + text, text), gap=gap or 0.5 * size_px)


def _paragraph(sheet: CairoSheet, words: Words, body: int, spacing: float, most: int) -> None:
    """Draw a paragraph of as many words as there is room for, ``most`` at most."""
    text = ""
    while most > 0:
        longer = f"{text} {words.word()}".strip()
        layout = sheet.layout(longer, body, spacing=spacing)
        if sheet.height(layout) > sheet.room():
            break
        if _fits(sheet, layout):  # a word that is wider than the page is left out
            text = longer
        most -= 1
    if text:
        sheet.show(sheet.layout(text, body, spacing=spacing), ("Text", text, text), gap=0.7 * body)


def _fits(sheet: CairoSheet, layout: Any) -> bool:
    _, pango, _ = _libraries()
    ink = layout.get_extents()[0]
    return bool(pango.units_to_double(ink.x + ink.width) <= sheet.size[0] - sheet.margin + 2)


@cache
def _libraries() -> tuple[Any, Any, Any]:
    """Return the modules of Cairo, Pango and both together."""
    try:
        import cairocffi
        import pangocairocffi
        import pangocffi
    except (ImportError, OSError) as error:
        raise MissingError(
            f"Pango or Cairo is missing ({error})",
            "pip install 'dotsctl[train]' and apt-get install libpangocairo-1.0-0",
        ) from None
    return cairocffi, pangocffi, pangocairocffi


@cache
def _check_family(name: str) -> None:
    """Raise MissingError where fontconfig would replace a family by another one."""
    try:
        found = subprocess.run(["fc-match", "-f", "%{family}", name], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"fc-match cannot run ({error})", "apt-get install fontconfig") from None
    if name not in found.split(","):
        raise MissingError(f"fontconfig has no family {name!r}, only {found!r}", "apt-get install fonts-dejavu-core")
