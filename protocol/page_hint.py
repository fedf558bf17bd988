"""A page's probable text from elsewhere, as a PDF's text layer: blocks with their boxes. Used for drafts alone."""

from dataclasses import dataclass

from dotsctl.protocol.checks import require, utf8_bytes
from dotsctl.protocol.page_geometry import Box

MAX_HINT_BYTES = 256 * 1024
"""Most bytes of the texts of all blocks together, in UTF-8."""
MAX_HINT_BLOCKS = 4096
MAX_SOURCE_CHARACTERS = 64
MAX_HINT_SIDE = 1e9
"""Largest coordinate of a box and largest side of a page, so that no scale of them is infinite."""


@dataclass(frozen=True, slots=True)
class HintBlock:
    """A paragraph, heading, table or line, in reading order as far as its source knows it."""

    text: str
    """Its lines, joined by a space; a hyphen at the end of a line is rejoined with what follows."""
    box: Box | None = None
    """x0, y0, x1, y1 in the unit of :attr:`PageHint.size`, from the page's upper left corner as viewers show it; none:
    its place is not known."""

    def __post_init__(self) -> None:
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            is_finite = all(abs(side) <= MAX_HINT_SIDE for side in self.box)  # NaN is not below any limit
            require(is_finite, f"box {self.box} is not within {MAX_HINT_SIDE:g} of the page")
            require(x0 <= x1 and y0 <= y1, f"box {self.box} is not x0,y0,x1,y1 with x0 <= x1 and y0 <= y1")


@dataclass(frozen=True, slots=True)
class PageHint:
    """The blocks of one page. A hint changes the time of a reading, never its result."""

    blocks: tuple[HintBlock, ...]
    size: tuple[float, float] | None = None
    """Width and height of the page in the unit of the boxes, which for a PDF is the point; none: there are no boxes."""
    source: str = ""
    """Name of the plugin that made it; empty: the user gave it."""

    def __post_init__(self) -> None:
        require(len(self.blocks) <= MAX_HINT_BLOCKS, f"hint of {len(self.blocks)} blocks, at most {MAX_HINT_BLOCKS}")
        nbytes = sum(utf8_bytes("hint", block.text) for block in self.blocks)
        require(nbytes <= MAX_HINT_BYTES, f"hint is longer than {MAX_HINT_BYTES} bytes")
        require(len(self.source) <= MAX_SOURCE_CHARACTERS, f"source of {len(self.source)} characters")
        if self.size is not None:
            is_page = all(1 <= side <= MAX_HINT_SIDE for side in self.size)
            require(is_page, f"size {self.size} is not between 1 and {MAX_HINT_SIDE:g}")
        elif any(block.box is not None for block in self.blocks):
            raise ValueError("boxes without the size of their page")

    @property
    def origin(self) -> str:
        """Name of its source as records state it: that of the plugin, or ``user``."""
        return self.source or "user"

    @property
    def text(self) -> str:
        """The texts of all blocks, a blank line between two."""
        return "\n\n".join(block.text for block in self.blocks)
