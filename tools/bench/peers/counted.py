"""Operations of a page, and bytes that its passes read, by arithmetic: for sizes that a CPU is too slow for."""

from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.protocol.model.layout import TextSizes, VisionSizes
from dotsctl.tools.measuring.report_text import LegendEntry

PROMPT_TOKENS = 40
"""Positions of the short prompt of the comparison besides the embeddings."""
TOKENS = 1000
"""Length of the answer."""
PATCHES_AN_EMBEDDING = 4
HEAD = "patches  prompt  tower TFLOP  prefill TFLOP  answer TFLOP  read GB, one page  read GB, 16 pages at once"

LEGEND = (
    LegendEntry("TFLOP", "10^12 floating-point operations of matrix products"),
    LegendEntry("read GB", "weights, keys and values that the decoder reads for one page without drafts"),
)


@dataclass(frozen=True)
class CountedPage:
    """One page of so many patches with an answer of so many tokens."""

    patches: int
    tokens: int
    tower: float
    """Floating-point operations of the tower."""
    prefill: float
    """Floating-point operations of the prompt."""
    answer: float
    """Floating-point operations of the answer, with one row for each token."""
    weight_bytes: float
    """Bytes of weights that a pass reads."""
    kept_bytes: float
    """Bytes of keys and values that the passes of this page read, all together."""

    def bytes_read(self, pages: int, tokens_a_pass: float = 1.0) -> float:
        """Bytes that the decoder reads for this page, when ``pages`` share each pass."""
        passes = self.tokens / tokens_a_pass
        return passes * self.weight_bytes / pages + self.kept_bytes / tokens_a_pass

    def row(self) -> str:
        """The line of the table."""
        return (
            f"{self.patches:7,}  {self.patches // PATCHES_AN_EMBEDDING + PROMPT_TOKENS:6,}  {self.tower / 1e12:11.1f}  "
            f"{self.prefill / 1e12:13.1f}  {self.answer / 1e12:12.1f}  {self.bytes_read(1) / 1e9:17.0f}  "
            f"{self.bytes_read(16) / 1e9:25.0f}"
        )


def count(vision: VisionSizes, text: TextSizes, weight_bits: float, patches: int, tokens: int) -> CountedPage:
    """Count one page.

    Args:
        vision: sizes of the tower.
        text: sizes of the decoder.
        weight_bits: bits of a weight of the decoder.
        patches: of the page.
        tokens: of its answer.
    """
    prompt = patches // PATCHES_AN_EMBEDDING + PROMPT_TOKENS
    head = text.hidden_size // text.num_attention_heads
    position_bytes = 2 * 2 * text.num_hidden_layers * text.num_key_value_heads * head  # keys and values, 2 bytes each
    positions = tokens * (prompt + tokens / 2)
    scores = 4.0 * text.num_hidden_layers * text.hidden_size * positions
    return CountedPage(
        patches,
        tokens,
        vision.operations(patches),
        text.operations(prompt),
        2.0 * tokens * text.product_weights + scores,
        text.product_weights * weight_bits / 8,
        positions * position_bytes,
    )


def table(pages: Sequence[CountedPage]) -> str:
    """Return the table of counted pages."""
    return "\n".join([HEAD, *(page.row() for page in pages)])
