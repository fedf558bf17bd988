"""Hints and answers from files, and hints with the errors of a scanner. Pure but for reading."""

import random
from contextlib import closing
from pathlib import Path

import pypdfium2
from dotsctl.decoder_worker.drafts.cell_reader import CellReader
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.render.plugins.textlayer import TextLayerHints
from dotsctl.protocol.typed_values import WrongValueError, from_json

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def read_text(file: Path) -> str:
    """Return the text of a file. Raises UsageError."""
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "give a file in UTF-8") from None


def read_hint(file: Path, page: int = 1) -> PageHint:
    """Return a hint: blocks of a ``.json`` file, the text layer of a page of a ``.pdf`` file, or one block of text.

    Args:
        file: where it is read from.
        page: number of the page of a PDF.

    Raises:
        UsageError: the file cannot be read, its JSON is no hint, or the page has no text layer.
    """
    if file.suffix == ".pdf":
        return _text_layer(file, page)
    if file.suffix != ".json":
        return PageHint((HintBlock(read_text(file)),))
    try:
        return from_json(PageHint, read_text(file).encode())
    except (WrongValueError, ValueError) as error:
        raise UsageError(f"{file} is no hint ({error})", "give blocks with text and box, size and source") from None


def _text_layer(file: Path, page: int) -> PageHint:
    """Return the text layer of a page, as the render process reads it."""
    try:
        with closing(pypdfium2.PdfDocument(file)) as document:
            if not 1 <= page <= len(document):
                raise UsageError(f"{file} has {len(document)} pages", f"give --page 1 to {len(document)}")
            hint = TextLayerHints().hint(document[page - 1])
    except (OSError, pypdfium2.PdfiumError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "give a PDF") from None
    if hint is None:
        raise UsageError(f"page {page} of {file} has no text layer", "give another page")
    return hint


def with_errors(hint: PageHint, share: float, seed: int) -> PageHint:
    """Return a hint in which this share of letters and digits, 0 to 1, are other letters, as a scanner reads them."""
    rng = random.Random(seed)

    def damaged(text: str) -> str:
        return "".join(rng.choice(LETTERS) if each.isalnum() and rng.random() < share else each for each in text)

    blocks = tuple(HintBlock(damaged(block.text), block.box) for block in hint.blocks)
    return PageHint(blocks, hint.size, hint.source)


def texts_of(answer: str) -> str:
    """Return the texts of the cells of a layout answer, a blank line between two; empty: it has none."""
    reader = CellReader()
    for character in answer:
        reader.push(character)
    return "\n\n".join(cell.text for cell in reader.cells if cell.text)
