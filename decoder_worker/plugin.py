"""What a decoder plugin is.

A plugin is a class without required arguments, registered in the entry-point group ``dotsctl.decoders``. It is
imported and used in the decoder worker's process alone, always on the main thread. The worker calls ``load`` once,
then again and again ``admit`` while there is room and ``step`` while pages run, ``cancel`` at any time between two
steps, and ``close`` at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dotsctl.protocol.geometry import Box, PageGeometry
from dotsctl.protocol.parts import Device, FinishReason
from numpy.typing import NDArray

Report = Callable[[str], None]
"""Tells the supervisor that loading goes on; each call extends the load deadline."""


@dataclass(frozen=True)
class DecoderSpec:
    """What ``load`` answers."""

    fingerprint: str
    """Of the model, as :func:`dotsctl.protocol.model_directory.fingerprint` computes it."""
    width: int
    """Columns of the embeddings that it takes."""
    capacity: int
    """Most pages decoded at once."""
    tasks: tuple[str, ...]
    """Tasks that the model has a prompt for; the first one is the default."""
    device: Device = Device.CPU
    """Where the plugin computes."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One page to decode."""

    page_id: int
    """Unique among the pages that run; comes back in :class:`Piece`."""
    embeddings: NDArray[Any]
    """(num_embeddings, width); bfloat16 is held as uint16. The plugin copies it before ``admit`` returns."""
    task: str
    prompt: str | None
    """Text that replaces the task's prompt."""
    max_tokens: int | None
    hint: str
    """Text that the page probably holds, or empty. May speed decoding up, must not change the result."""
    grids: tuple[tuple[int, int], ...] = ()
    """Patches (height, width) of each image; a quarter of their products are its embeddings. Empty: one image."""
    geometry: PageGeometry | None = None
    """Of the first image; none where the task needs no pixels."""
    box: Box | None = None
    """Part of the page that is asked for, in pixels of the page as viewers show it."""

    @property
    def image_embeddings(self) -> tuple[int, ...]:
        """Embeddings of each image."""
        return tuple(height * width // 4 for height, width in self.grids) or (len(self.embeddings),)


@dataclass(frozen=True)
class Finish:
    """How a page ended."""

    reason: FinishReason
    text: str
    """The whole answer. Where a loop was cut off it is shorter than what was streamed."""
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Piece:
    """What one step brought for one page."""

    page_id: int
    text: str
    """New text; never a part of a character, perhaps empty."""
    num_tokens: int
    finish: Finish | None = None


class Decoder(Protocol):
    """The calls of a plugin, all on the main thread of the decoder worker."""

    def load(self, model: Path, options: dict[str, str], report: Report) -> DecoderSpec:
        """Load the model and decode one short warm-up page; called once, before everything else.

        Raises:
            UsageError: an unknown option or a wrong value.
            MissingError: a dependency or a file is missing.
        """

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Whether the page can be admitted now. Must be true for any page when no page runs."""

    def admit(self, prompt: EncodedPrompt) -> None:
        """Take a page; its array may be freed when this returns.

        Raises:
            PageError: this page cannot be decoded (unknown task, prompt too long); the worker goes on.
        """

    def step(self) -> list[Piece]:
        """One pass: a prefill chunk, a decoding pass over all running pages, or both; at most one piece a page.

        Raises:
            MemoryError: there is not enough memory for the running pages; the worker cancels them all, and each is
                tried once more, alone.
        """

    def cancel(self, page_id: int) -> None:
        """Forget a page; unknown ids are ignored."""

    def close(self) -> None:
        """Free everything; called once, also after a failed ``load``."""
