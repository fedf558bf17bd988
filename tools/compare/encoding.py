"""Pages through several encoders, one encoder after the other, so that none competes with another for the machine.

Embeddings wait in a folder for the decoder. The last encoder is the reference: while it is loaded, those of the others
are compared with its own. An encoder with fixed shapes may lay a page out on another grid than the reference does;
tokens can then not be compared one by one, so the reference encodes the page once more, from the very pixels that the
other one saw. Times and texts are always those of each encoder on its own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.page import Failure
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ErrorCode, PageError
from dotsctl.protocol.worker.plugin_faults import raised
from dotsctl.tools.derived import watched
from dotsctl.tools.measuring.distance import Distance, as_seen
from dotsctl.tools.measuring.encoding import PageEncoder, page_image


@dataclass
class Sight:
    """The result of one encoder for one page."""

    encoder: str
    file: Path
    """The file of its embeddings, (num_embeddings, width)."""
    page: EncodedPage | None = None
    """Its embeddings are empty; none: the encoder failed."""
    total_ms: float = 0.0
    """The time from the bytes of the page to its embeddings."""
    failure: Failure | None = None
    distance: Distance | None = None
    """The distance to the reference; none for the reference itself, and where the two cannot be compared."""
    note: str = ""
    """A note for the reader of the numbers."""

    def loaded(self) -> EncodedPage | None:
        """The page with its embeddings."""
        return self.page and replace(self.page, embeddings=np.load(self.file))


@dataclass(frozen=True)
class Encodings:
    """All pages by all encoders."""

    fingerprint: str
    """The fingerprint of the model."""
    sights: list[list[Sight]]
    """The results by page, and by encoder; the last one is the reference."""


def encode_pages(
    choices: Sequence[PluginChoice], model: Path, pages: Sequence[PageInput], max_pixels: int | None, folder: Path
) -> Encodings:
    """Encode all pages with all encoders.

    Args:
        choices: the encoders; the last one is the reference.
        model: its folder.
        pages: what to encode; one that cannot be read is a failure of every encoder.
        max_pixels: most pixels of a resized page.
        folder: for embeddings, some MB a page and encoder.

    Raises:
        UsageError: there is no such plugin, or one of its options is wrong.
        MissingError: a dependency or a file is missing.
        CommandFailedError: the encoders load different models, or the folder is full.
    """
    sights: list[list[Sight]] = [[] for _ in pages]
    fingerprints: dict[str, str] = {}
    for number, choice in enumerate(choices):
        encoder = PageEncoder(choice, model, lambda _: None)
        try:
            fingerprints[str(choice)] = encoder.spec.fingerprint
            for place, page in watched(list(enumerate(pages)), f"encoding with {choice}"):
                sight = Sight(str(choice), folder / f"{number}-{place}.npy")
                sight.failure = _encode(encoder, page, max_pixels, sight)
                if number == len(choices) - 1 and sight.page is not None:
                    _compare(encoder, page, sights[place], sight)
                sights[place].append(sight)
        finally:
            encoder.close()
    if len(set(fingerprints.values())) > 1:
        shown = ", ".join(f"{name} {digest[:12]}" for name, digest in fingerprints.items())
        raise CommandFailedError(f"the encoders load different models ({shown})", "compare encoders of the same one")
    return Encodings(fingerprints[str(choices[-1])], sights)


def _encode(encoder: PageEncoder, page: PageInput, max_pixels: int | None, sight: Sight) -> Failure | None:
    """Encode a page in the encoder's own way; a failure of any kind is recorded, and the other pages continue."""
    try:
        image = page_image(page, max_pixels)
        started = time.perf_counter()
        found = encoder.encode_image(image)
        sight.total_ms = (time.perf_counter() - started) * 1e3
    except PageError as error:
        return Failure.of(error)
    except DotsctlError:
        raise
    except MemoryError:
        return Failure(ErrorCode.OOM, "not enough memory to encode this page", "lower --max-pixels")
    except (Exception, SystemExit) as error:  # a plugin's own fault, as in the encoder worker
        return Failure(ErrorCode.INTERNAL, f"encoder {sight.encoder} {raised(error)}")
    try:
        np.save(sight.file, found.embeddings)
    except OSError as error:
        raise CommandFailedError(
            f"embeddings cannot be kept in {sight.file.parent} ({error.strerror or error})",
            "set TMPDIR to a folder with more room",
        ) from None
    sight.page = replace(found, embeddings=found.embeddings[:0].copy())
    return None


def _compare(encoder: PageEncoder, page: PageInput, others: Sequence[Sight], reference: Sight) -> None:
    """Distances of the other encoders' embeddings of a page; ``encoder`` is the reference, loaded."""
    own = reference.page
    for sight in others:
        if own is None or sight.page is None:
            continue
        if (sight.page.grid, sight.page.geometry) == (own.grid, own.geometry):
            sight.distance = Distance.between(np.load(sight.file), np.load(reference.file))
        else:
            sight.note = _compare_as_seen(encoder, page, sight, sight.page, own.grid)


def _compare_as_seen(
    encoder: PageEncoder, page: PageInput, sight: Sight, seen: EncodedPage, grid: tuple[int, int]
) -> str:
    """Set the distance on the pixels of ``sight``, where the reference can take these; return a note about it."""
    shown = f"{shown_grid(seen.grid)} patches, the reference alone {shown_grid(grid)}"
    try:
        again = encoder.encode_image(as_seen(page_image(page, None), seen.geometry))
    except PageError as error:
        return f"{shown}; embeddings not compared: {error}"
    if (again.grid, again.geometry.resized) != (seen.grid, seen.geometry.resized):
        return f"{shown}, and {shown_grid(again.grid)} of the other's pixels: embeddings not compared"
    sight.distance = Distance.between(np.load(sight.file), again.embeddings)
    return f"{shown}; embeddings compared on the same pixels"


def shown_grid(grid: tuple[int, int]) -> str:
    """Patches from top to bottom and from left to right."""
    return f"{grid[0]}x{grid[1]}"
