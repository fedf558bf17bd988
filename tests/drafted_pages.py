"""Invented pages as a text layer and a model would give them: hints with boxes, and answers in the form of dots.ocr."""

import json
import random
from dataclasses import dataclass

from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.page_hint import HintBlock, PageHint

LINE_PT, LETTER_PT = 13.0, 5.4
WIDTH_PT, HEIGHT_PT = 612.0, 792.0
GEOMETRY = PageGeometry((1224, 1584), 1, (1204, 1568), (1204 / 1224, 1568 / 1584))
SHIFT = (-4.0, -8.0, 11.0, 3.0)
"""Pixels by which the boxes of the answer are larger than those of the letters."""
VOCABULARY = """
the of and to in is that for was on with as by at from this have or an which are not be had its but were all can
their there one so more out about into than them only other time new some could these two may then do first any my
now such like our over man me even most made after also did many before must through back years where much your way
well down should because each just those people how too little state good very make world still own see men work
long get here between both life being under never day same another know while last might us great old year off come
since against go came right used take three water level pressure surface river bridge harbour engine measure current
salt copper timber mill grain market letter record ledger account winter storm glacier valley survey station signal
cable lamp furnace kiln brick mortar column arch tower bell clock gear spindle loom thread
"""
WORDS = VOCABULARY.split()


@dataclass(frozen=True)
class DraftedPage:
    """One page."""

    hint: PageHint
    layout: str
    """The answer to the task ``layout``."""
    text: str
    """The answer to the task ``text``."""
    geometry: PageGeometry = GEOMETRY


def _prose(rng: random.Random, letters: int) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < letters:
        word = rng.choice(WORDS)
        if rng.random() < 0.06:
            word = str(rng.randint(1, 1999))
        if not words or words[-1].endswith("."):
            word = word.capitalize()
        words.append(word + ("." if rng.random() < 0.08 else "," if rng.random() < 0.08 else ""))
    return " ".join(words).rstrip(".,") + "."


class _Writer:
    """Fills columns from top to bottom."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.blocks: list[HintBlock] = []
        self.cells: list[dict[str, object]] = []

    def add(self, category: str, printed: str, written: str, left: float, top: float, width: float) -> float:
        """Place a block; returns where the next one may begin."""
        a_line = max(1, int(width / LETTER_PT))
        lines = -(-len(printed) // a_line)
        right = left + (width if lines > 1 else len(printed) * LETTER_PT) - self._rng.uniform(0, 12)
        box = (left, top, right, top + lines * LINE_PT - 3)
        self.blocks.append(HintBlock(printed, box))
        across, down = GEOMETRY.resized[0] / WIDTH_PT, GEOMETRY.resized[1] / HEIGHT_PT
        scales = (across, down, across, down)
        placed = [
            max(0, round(side * scale + shift + self._rng.uniform(-2.0, 2.0) * (number > 0)))
            for number, (side, scale, shift) in enumerate(zip(box, scales, SHIFT, strict=True))
        ]
        self.cells.append({"bbox": placed, "category": category, "text": written})
        return box[3] + self._rng.uniform(10, 26)

    def column(self, left: float, width: float, top: float, bottom: float) -> None:
        """Write headings, paragraphs and items."""
        rng = self._rng
        while top < bottom - 80:
            kind = rng.random()
            if kind < 0.2:
                heading = _prose(rng, rng.randint(16, 34)).rstrip(".").title()
                top = self.add("Section-header", heading, f"## {heading}", left, top, width)
            elif kind < 0.35:
                item = _prose(rng, rng.randint(40, 120))
                top = self.add("List-item", f"• {item}", f"* {item}", left + 18, top, width - 18)
            else:
                paragraph = _prose(rng, rng.randint(80, 420))
                top = self.add("Text", paragraph, paragraph, left, top, width)

    def table(self, left: float, width: float, top: float) -> float:
        """Write a table of numbers."""
        rows = [[self._rng.choice(WORDS), *(str(self._rng.randint(1, 999)) for _ in range(3))] for _ in range(6)]
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        printed = " ".join(cell for row in rows for cell in row)
        return self.add("Table", printed, f"<table>{body}</table>", left, top, width)


def drafted_page(seed: int, columns: int = 1, *, has_table: bool = False, is_shuffled: bool = False) -> DraftedPage:
    """Return page ``seed``; ``is_shuffled`` puts the right column of the hint before the left one."""
    rng = random.Random(seed)
    writer = _Writer(rng)
    top = writer.add("Title", title := _prose(rng, 30).rstrip(".").title(), f"# {title}", 72, 60, 468)
    if has_table:
        top = writer.table(72, 468, top)
    head = len(writer.blocks)
    width = 468 / columns - 9 * (columns - 1)
    middle = head
    for column in range(columns):
        writer.column(72 + column * (width + 18), width, top, 740)
        middle = middle if column else len(writer.blocks)
    blocks = writer.blocks
    if is_shuffled:
        blocks = blocks[:head] + blocks[middle:] + blocks[head:middle]
    texts = [str(cell["text"]) for cell in writer.cells]
    return DraftedPage(
        PageHint(tuple(blocks), (WIDTH_PT, HEIGHT_PT), "textlayer"),
        json.dumps(writer.cells, ensure_ascii=False),
        "\n\n".join(texts),
    )
