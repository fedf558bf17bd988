"""Writes generated pages as one long PDF with a text layer: ``python -P -m dotsctl.tools.dev.page_pdf --pages 200
FILE``.

A scan with a text layer, as archives have it: the page's picture, and its words behind it, invisible, at their
places. Next to FILE is a ``.jsonl`` file with the truth of each page. Needs the extra ``[test]``.
"""

import ctypes
import io
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import REINSTALL, MissingError
from dotsctl.tools.pages.elements import GeneratedPage, Glyph
from dotsctl.tools.pages.fonts import families
from dotsctl.tools.pages.generator import STYLES, generate_page

DPI = 200
"""The resolution, which is the client's own, at which a page comes out in its own pixels."""
JPEG_QUALITY = 85
WIDTH_PX = 8.0
"""The width of a character that stands alone."""


def words(page: GeneratedPage) -> Iterator[tuple[str, Glyph, Glyph]]:
    """Each word of a page with its first and its last character."""
    for number, element in enumerate(page.elements):
        glyphs = iter([glyph for glyph in page.glyphs if glyph.element == number])
        for word in element.plain.split():
            found = [next(glyphs) for _ in word]
            yield word, found[0], found[-1]


def write_pdf(pages: Iterable[GeneratedPage], target: Path) -> int:
    """Write a PDF; returns the number of its pages.

    Raises:
        MissingError: pypdfium2 is not installed.
    """
    try:
        import pypdfium2
    except ImportError:
        raise MissingError("pypdfium2 is not installed", REINSTALL) from None
    document, count = pypdfium2.PdfDocument.new(), 0
    face = pypdfium2.raw.FPDFText_LoadStandardFont(document, b"Helvetica")
    for page in pages:
        _add(pypdfium2, document, face, page)
        count += 1
    pypdfium2.raw.FPDFFont_Close(face)
    with target.open("wb") as file:
        document.save(file)
    document.close()
    return count


def _add(pypdfium2: Any, document: Any, face: Any, page: GeneratedPage) -> None:
    """Append one page: its picture, then its words."""
    scale = 72 / DPI  # points a pixel
    width, height = page.image.width * scale, page.image.height * scale
    sheet = document.new_page(width, height)
    jpeg = io.BytesIO()
    page.image.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    picture = pypdfium2.PdfImage.new(document)
    picture.load_jpeg(jpeg, inline=True)
    picture.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
    sheet.insert_obj(picture)
    for word, first, last in words(page):
        advance = (last.x - first.x) / max(1, len(word) - 1) or WIDTH_PX  # pixels a character
        entry = _invisible(pypdfium2.raw, document, face, word, (last.x - first.x + advance) * scale)
        pypdfium2.raw.FPDFPageObj_Transform(
            entry, 1, 0, 0, 1, (first.x - advance / 2) * scale, height - (first.y + 0.6 * advance) * scale
        )
        pypdfium2.raw.FPDFPage_InsertObject(sheet, entry)
    sheet.gen_content()
    sheet.close()


def _invisible(raw: Any, document: Any, face: Any, word: str, width: float) -> Any:
    """A word and a blank in type that is not drawn, as wide as the printed word, in points."""
    entry = raw.FPDFPageObj_CreateTextObj(document, face, 1.0)
    _set_text(raw, entry, word)
    sides = [ctypes.c_float() for _ in range(4)]
    raw.FPDFPageObj_GetBounds(entry, *map(ctypes.byref, sides))  # left, bottom, right, top
    across = width / max(0.1, sides[2].value - sides[0].value)
    _set_text(raw, entry, f"{word} ")  # without the blank, readers join words that stand close
    raw.FPDFTextObj_SetTextRenderMode(entry, raw.FPDF_TEXTRENDERMODE_INVISIBLE)
    raw.FPDFPageObj_Transform(entry, across, 0, 0, across, 0, 0)
    return entry


def _set_text(raw: Any, entry: Any, text: str) -> None:
    content = ctypes.create_string_buffer((text + "\0").encode("utf-16-le"))
    raw.FPDFText_SetText(entry, ctypes.cast(content, raw.FPDF_WIDESTRING))


@click.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--pages", "num_pages", default=100, show_default=True, type=click.IntRange(1))
@click.option("--style", default="whole", show_default=True, type=click.Choice(list(STYLES)))
@click.option("--fonts", default="everywhere", show_default=True, help="Families or groups, comma-separated.")
@click.option("--noise", type=click.FloatRange(0, 3), help="Strength of the scan. [default: that of the style]")
@click.option("--seed", default=1_000_000, show_default=True, help="Seed of the first page.")
def main(target: Path, num_pages: int, style: str, fonts: str, noise: float | None, seed: int) -> None:
    """Write generated pages to TARGET, with their truth in a file of the same name."""
    with exiting_on_error():
        chosen = families(fonts)
        with target.with_suffix(".jsonl").open("w", encoding="utf-8") as truths:

            def pages() -> Iterator[GeneratedPage]:
                for number in range(seed, seed + num_pages):
                    page = generate_page(random.Random(number), STYLES[style], chosen, noise=noise)
                    truths.write(json.dumps({"text": page.text, "cells": json.loads(page.layout(page.image.size))}))
                    truths.write("\n")
                    yield page

            count = write_pdf(pages(), target)
    click.echo(f"{target}: {count} pages", err=True)


if __name__ == "__main__":
    main()
