"""A page's probable text from elsewhere, as a PDF's text layer: blocks with their boxes. Used for drafts alone."""

from dataclasses import dataclass

from dotsctl.protocol.geometry import Box


@dataclass(frozen=True, slots=True)
class HintBlock:
    """A paragraph, heading, table or line, in reading order as far as its source knows it."""

    text: str
    """Its lines, joined by a space; a hyphen at the end of a line is rejoined with what follows."""
    box: Box | None = None
    """x0, y0, x1, y1 in the unit of :attr:`PageHint.size`, from the page's upper left corner as viewers show it; none:
    its place is not known."""


@dataclass(frozen=True, slots=True)
class PageHint:
    """The blocks of one page. A hint changes the time of a reading, never its result."""

    blocks: tuple[HintBlock, ...]
    size: tuple[float, float] | None = None
    """Width and height of the page in the unit of the boxes, which for a PDF is the point; none: there are no boxes."""
    source: str = ""
    """Name of the plugin that made it; empty: the user gave it."""

    @property
    def text(self) -> str:
        """The texts of all blocks, a blank line between two."""
        return "\n\n".join(block.text for block in self.blocks)
