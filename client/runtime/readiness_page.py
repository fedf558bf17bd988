"""The readiness page: a small drawn page of known words, and the judgement of an answer to it. Pure.

``tools/dev/readiness_page.py`` draws the page. It has no sentence, so that a decoder that sees no image cannot guess
its words, and both sides are multiples of 28 px, so that no encoder resizes it.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dotsctl.protocol.geometry import Box
from dotsctl.protocol.messages import Done
from dotsctl.protocol.model.buckets import TOLERATED_LOSS
from dotsctl.protocol.model.tasks import LAYOUT
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions

FILE = Path(__file__).with_name("readiness_page.png")
WORDS = (
    "copper", "meadow", "turtle", "violin", "lantern", "kettle", "marble", "anchor", "walnut", "basket",
    "pencil", "saddle", "orchard", "feather", "timber", "saffron", "window", "bridge", "candle", "harbor",
)  # fmt: skip
"""The words, each wider than the 28 px of one embedding: embeddings in a wrong order show none of them."""
TEXT_BOX: Box = (9.0, 10.0, 310.0, 129.0)
"""The block of the words, in pixels of the page."""
MAX_TOKENS = 45
LEAST_SHARE = 0.5
"""Share of the words that an answer covers, below which a warning is given."""
LEAST_OVERLAP = 0.3
"""Overlap of the boxes below which a warning is given."""
SHOWN_CHARACTERS = 120
BOX = re.compile(r'"bbox"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)')
WORD = re.compile(r"[^\W\d_]+")


class Judgement(StrEnum):
    """The judgement of an answer."""

    PASSED = "passed"
    DOUBTFUL = "doubtful"
    """The model looks at the page, but reads less of it than expected; it is used with a warning."""
    REFUSED = "refused"
    """The answer has no word of the page."""


class PageVerdict(NamedTuple):
    """A judgement and its reason, with what was read; the reason is empty where the page was read right."""

    judgement: Judgement
    reason: str = ""


@dataclass(frozen=True)
class ReadinessPage:
    """The page as a message carries it."""

    image: ImageHeader
    pixels: bytes
    """uint8 (height, width, 3)."""

    def options(self, tasks: Sequence[str]) -> PageOptions:
        """Return how a model with these tasks reads it."""
        return PageOptions(task_of(tasks), None, MAX_TOKENS, None)


def task_of(tasks: Sequence[str]) -> str:
    """Return the task of the page: ``layout`` where the model has it, so that boxes are seen too."""
    return LAYOUT.name if LAYOUT.name in tasks or not tasks else tasks[0]


@cache
def readiness_page() -> ReadinessPage:
    """Read the page of the package.

    Its PNG is grey, 8 bits, without interlacing and row filters, so that nothing has to be imported for it.
    """
    content, at, packed = FILE.read_bytes(), 8, b""
    width = height = 0
    while at < len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    rows = zlib.decompress(packed)  # height rows of one filter byte and width grey levels
    grey = b"".join(rows[y * (width + 1) + 1 : (y + 1) * (width + 1)] for y in range(height))  # (height, width)
    pixels = bytes(level for level in grey for _ in range(3))  # (height, width, 3)
    return ReadinessPage(ImageHeader(ImageKind.RGB, len(pixels), width, height), pixels)


def judge(done: Done, task: str) -> PageVerdict:
    """Compare an answer with the words and the block of the page.

    Args:
        done: the answer; it may be truncated at ``MAX_TOKENS``.
        task: the one that the page was read with.
    """
    text = done.text[:4096]
    read = {word.casefold() for word in WORD.findall(text)}
    known = [word for word in WORDS if word in read]
    shown = repr(text[:SHOWN_CHARACTERS]) if text.strip() else "nothing"
    loss = max((geometry.resolution_loss for geometry in done.geometries), default=0.0)
    if not known and loss > TOLERATED_LOSS:  # an encoder with small page sizes alone, which proves nothing
        return PageVerdict(Judgement.DOUBTFUL, f"the page did not fit: it lost {loss:.0%} of its resolution: {shown}")
    if not known:
        return PageVerdict(Judgement.REFUSED, f"no word of the readiness page is in the answer: {shown}")
    covered = max(WORDS.index(word) for word in known) + 1  # a truncated answer has the first words alone
    if len(known) < LEAST_SHARE * covered:
        return PageVerdict(Judgement.DOUBTFUL, f"{len(known)} of the first {covered} words were read: {shown}")
    if task == LAYOUT.name:
        box = BOX.search(text)
        if box is None:
            return PageVerdict(Judgement.DOUBTFUL, f"the answer has no box: {shown}")
        x0, y0, x1, y1 = map(float, box.groups())
        if (found := overlap((x0, y0, x1, y1), TEXT_BOX)) < LEAST_OVERLAP:
            return PageVerdict(Judgement.DOUBTFUL, f"the box of the text overlaps by {found:.2f}: {shown}")
    return PageVerdict(Judgement.PASSED)


def overlap(first: Box, second: Box) -> float:
    """Return the area that two boxes share, over the area that they cover together."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / (areas - width * height)
