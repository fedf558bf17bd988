"""The contract of decoder plugins.

A plugin is a class without required arguments, registered in the entry-point group ``dotsctl.decoders``. Its
attribute ``description`` states its options, its memory, and whether it can run here (``protocol/worker/plugins.py``).
The command line imports the module of a plugin that is chosen, so what is heavy is imported in ``load``. The object is
made and used in the decoder worker's process alone, always on the main thread. The worker calls ``load`` once, then
again and again ``admit`` while there is room and ``step`` while pages run, ``cancel`` at any time between two
steps, and ``close`` at the end. A plugin may have a method ``prefill`` besides (:class:`PrefillingDecoder`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dotsctl.protocol.page_geometry import Box, PageGeometry
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.parts import Device, FinishReason

if TYPE_CHECKING:  # the command line imports plugins for what they state about themselves
    from numpy.typing import NDArray

Report = Callable[[str], None]
"""Reports to the supervisor that loading continues; each call extends the load deadline."""


@dataclass(frozen=True)
class DecoderSpec:
    """The result of ``load``."""

    fingerprint: str
    """The fingerprint of the model, as :func:`dotsctl.protocol.model.directory.fingerprint` computes it."""
    width: int
    """Columns of the embeddings that it takes."""
    capacity: int
    """Most pages decoded at once."""
    tasks: tuple[str, ...]
    """Tasks that the model has a prompt for; the first one is the default."""
    device: Device = Device.CPU
    """The device on which the plugin computes."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One page to decode."""

    page_id: int
    """Unique among the pages that run; comes back in :class:`Piece`."""
    embeddings: "NDArray[Any]"
    """(num_embeddings, width); bfloat16 is held as uint16. The plugin copies it before ``admit`` returns."""
    task: str
    prompt: str | None
    """Text that replaces the task's prompt."""
    max_tokens: int | None
    hint: PageHint | None
    """The probable text of the page. May speed decoding up, must not change the result."""
    rows: tuple[int, ...] = ()
    """Embeddings of each image; empty: one image."""
    geometry: PageGeometry | None = None
    """The geometry of the first image; none where the task needs no pixels."""
    box: Box | None = None
    """The part of the page that is requested, in pixels of the page as viewers show it."""
    source: str = ""
    """The name of the page's source without folder and ending, or empty. Must not change the result of a model."""

    @property
    def image_embeddings(self) -> tuple[int, ...]:
        """Embeddings of each image."""
        return self.rows or (len(self.embeddings),)


@dataclass(frozen=True)
class Finish:
    """The end of a page."""

    reason: FinishReason
    text: str
    """The complete answer. Where a loop was cut off it is shorter than what was streamed."""
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Piece:
    """The result of one step for one page."""

    page_id: int
    text: str
    """New text; never a part of a character, perhaps empty."""
    num_tokens: int
    finish: Finish | None = None
    error: str = ""
    """The reason why the page cannot be decoded any further; the plugin has forgotten it, and the others continue."""


class Decoder(Protocol):
    """The calls of a plugin, all on the main thread of the decoder worker."""

    def load(self, model: Path, options: Any, report: Report) -> DecoderSpec:
        """Load the model and decode one short warm-up page; called once, before everything else.

        Args:
            model: the model directory.
            options: as the dataclass that ``description.options`` names; without one, a dictionary of texts; one that
                ``load`` does not look up is refused.
            report: to be called when a long load moves on.

        Raises:
            UsageError: options that do not fit the model.
            MissingError: a dependency or a file is missing.
        """

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Return whether the page can be admitted now. Must be true for any page when no page runs."""

    def admit(self, prompt: EncodedPrompt) -> None:
        """Take a page; its array may be freed when this returns.

        Raises:
            PageError: this page cannot be decoded (unknown task, prompt too long); the worker continues.
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


@runtime_checkable
class PrefillingDecoder(Decoder, Protocol):
    """A plugin that computes prompts apart from decoding passes."""

    def prefill(self) -> bool:
        """Compute a part of the prompt of a page that was admitted, and no decoding pass; whether more are left.

        Called in place of ``step`` while the worker waits for more pages, so that these find the prompts computed.

        Raises:
            MemoryError: as ``step``.
        """
