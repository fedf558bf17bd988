"""The contract of an encoder as a list of steps, each of which calls a loaded plugin as the encoder worker does."""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import numpy as np
from dotsctl.encoder_worker.checks import checked
from dotsctl.encoder_worker.loading import close, load_encoder
from dotsctl.encoder_worker.plugin import (
    BlankPage,
    EncodedPage,
    Encoder,
    EncoderSpec,
    PageImage,
    PreparingEncoder,
    encode_images,
)
from dotsctl.protocol.geometry import CELL_PX, PATCH_PX
from dotsctl.tools.plugins.contract import (
    BrokenContractError,
    NotApplicableError,
    Note,
    Step,
    Subject,
    description_step,
    expect_page_error,
    options_step,
)
from numpy.typing import NDArray
from PIL import Image

SIZES = ((56, 56), (280, 224), (224, 280), (301, 197), (560, 84))
"""Widths and heights in pixels of the pages, some of them no multiples of a cell."""
ROW_SIZE = (5 * CELL_PX, 4 * CELL_PX)
MAX_PIXELS = 40_000
PREPARED_PAGES = 4
TOLERANCE = 0.02
"""Largest difference of embeddings that should be equal, as a share of their largest magnitude."""


class EncoderContract:
    """The steps for one encoder."""

    def __init__(self, subject: Subject, note: Note) -> None:
        self._subject, self._note = subject, note
        self._encoder: Encoder | None = None
        self._spec = EncoderSpec("", 0, "")

    def steps(self) -> list[Step]:
        """Return the steps in their order."""
        pages = [Step(f"page of {w}x{h} px", partial(self._page, (w, h))) for w, h in SIZES]
        return [
            Step("description", partial(description_step, self._subject), is_vital=True),
            Step("load and warm-up page", self._load, is_vital=True),
            Step("unknown option", partial(options_step, self._subject, self._load_another)),
            *pages,
            Step("max_pixels", self._max_pixels),
            Step("the same page twice", self._twice),
            Step("different pages", self._different),
            Step("order of rows", self._row_order),
            Step("several images", self._several),
            Step("preparation", self._preparation),
            Step("blank page", self._blank),
            Step("damaged file", self._damaged),
            Step("close", self._close),
        ]

    def _load(self) -> str:
        subject = self._subject
        self._encoder, self._spec = load_encoder(subject.plugin, subject.model, subject.texts, self._note)
        spec = self._spec
        sizes = f"page sizes {', '.join(map(str, spec.buckets))} patches" if spec.buckets else "pages of any size"
        return f"{spec.width} columns of {spec.dtype}, {sizes}"

    def _load_another(self, texts: Mapping[str, str]) -> None:
        plugin = self._subject.plugin
        encoder, _ = load_encoder(plugin, self._subject.model, texts, self._note)
        close(plugin, encoder)

    def _encode(self, images: Sequence[PageImage]) -> list[EncodedPage]:
        """Encode images and check the answer as the worker does; arrays are copied, as the plugin may reuse them."""
        assert self._encoder is not None
        pages = encode_images(self._encoder, images)
        checked(pages, len(images), self._spec)
        return [EncodedPage(p.embeddings.copy(), p.grid, p.geometry, p.timings_ms) for p in pages]

    def _page(self, size: tuple[int, int]) -> str:
        """Type, shape and values are checked by the worker's own checks; the geometry is checked here."""
        (page,) = self._encode([drawn(size)])
        if self._subject.plugin.description.reads_pages:
            self._check_geometry(page, size)
        return f"{len(page.embeddings)} embeddings, grid {page.grid[0]}x{page.grid[1]}"

    def _check_geometry(self, page: EncodedPage, size: tuple[int, int]) -> None:
        geometry, (rows, columns) = page.geometry, page.grid
        if geometry.oriented != size:
            raise BrokenContractError(f"geometry has a page of {_px(geometry.oriented)}, the page has {_px(size)}")
        if geometry.resized[0] > columns * PATCH_PX or geometry.resized[1] > rows * PATCH_PX:
            raise BrokenContractError(
                f"geometry has {_px(geometry.resized)} after resizing, and grid {rows}x{columns} has "
                f"{_px((columns * PATCH_PX, rows * PATCH_PX))}: the grid is (patches from top to bottom, left to right)"
            )
        box = geometry.box_from_oriented((0.0, 0.0, float(size[0]), float(size[1])))
        if box[2] > columns * PATCH_PX + 1 or box[3] > rows * PATCH_PX + 1:
            raise BrokenContractError(f"scale {geometry.scale} maps the page's lower right corner outside of the grid")

    def _max_pixels(self) -> str:
        self._require_reading()
        (page,) = self._encode([PageImage(None, drawn((560, 420)).pixels, MAX_PIXELS)])
        pixels = page.grid[0] * page.grid[1] * PATCH_PX**2
        larger = (bucket * PATCH_PX**2 for bucket in self._spec.buckets)  # a page fills the next fixed size
        if pixels > min([size for size in larger if size >= MAX_PIXELS], default=MAX_PIXELS):
            raise BrokenContractError(f"max_pixels is {MAX_PIXELS}, and the page is encoded with {pixels} pixels")
        return f"{pixels} pixels for a limit of {MAX_PIXELS}"

    def _twice(self) -> str:
        first, second = (self._encode([drawn((280, 224))])[0].embeddings for _ in range(2))
        if (difference := distance(first, second)) > TOLERANCE:
            raise BrokenContractError(f"the same page gives other embeddings, {difference:.1%} away")
        return f"{distance(first, second):.2%} apart"

    def _different(self) -> str:
        first, second = (self._encode([drawn((280, 224), seed)])[0].embeddings for seed in (1, 2))
        if first.shape == second.shape and not distance(first, second):
            raise BrokenContractError("two different pages give the same embeddings")
        return "their embeddings differ"

    def _row_order(self) -> str:
        """A mark in a cell changes the embedding of that cell most, compared with what other marks do to it.

        Attention carries a mark to other embeddings too, so most of the marks have to be found, not all.
        """
        self._require_reading()
        width, height = ROW_SIZE
        white = np.full((height, width, 3), 255, np.uint8)
        (before,) = self._encode([PageImage(None, white, None)])
        cells = [(row, column) for row in range(height // CELL_PX) for column in range(width // CELL_PX)]
        pages = [self._encode([marked(white, row, column)])[0] for row, column in cells]
        expected = [self._row_of(page, row, column) for page, (row, column) in zip(pages, cells, strict=True)]
        changes = np.stack([np.abs(as_float(p.embeddings) - as_float(before.embeddings)).sum(axis=1) for p in pages])
        shares = changes / np.maximum(changes.mean(axis=0), 1e-9)  # (marks, embeddings)
        found = shares.argmax(axis=1).tolist()
        right = sum(one == other for one, other in zip(found, expected, strict=True))
        if right <= len(cells) / 2:
            raise BrokenContractError(
                f"of {len(cells)} marks {right} change the embedding of their own cell most: embeddings must be in the "
                "order of the blocks of patches, row by row from the top left"
            )
        return f"{right} of {len(cells)} marks change the embedding of their own cell most"

    def _row_of(self, page: EncodedPage, row: int, column: int) -> int:
        """The embedding of the cell at ``row`` and ``column`` of the page."""
        x, y = (column + 0.5) * CELL_PX, (row + 0.5) * CELL_PX
        left, top, _, _ = page.geometry.box_from_oriented((x, y, x, y))
        block_px = PATCH_PX * self._spec.merge
        return int(top // block_px) * (page.grid[1] // self._spec.merge) + int(left // block_px)

    def _several(self) -> str:
        images = [drawn((280, 224), 1), drawn((84, 140), 2)]
        together, alone = self._encode(images), [self._encode([image])[0] for image in images]
        for number, (page, other) in enumerate(zip(together, alone, strict=True), 1):
            if page.grid != other.grid or distance(page.embeddings, other.embeddings) > TOLERANCE:
                raise BrokenContractError(f"image {number} of a request of two has other embeddings than alone")
        return "two images in one request give what they give alone"

    def _preparation(self) -> str:
        """A page is prepared in another thread while one that was prepared before is encoded."""
        encoder = self._encoder
        if not isinstance(encoder, PreparingEncoder):
            raise NotApplicableError("it has no method prepare: a page is opened and encoded in one call")
        pages = [drawn((280, 224), seed) for seed in range(PREPARED_PAGES)]
        expected = [self._encode([page])[0].embeddings for page in pages]
        found = []
        with ThreadPoolExecutor(1) as thread:
            ahead = [thread.submit(encoder.prepare, page) for page in pages[:1]]
            for number in range(len(pages)):
                ready = ahead.pop(0).result()
                ahead += [thread.submit(encoder.prepare, page) for page in pages[number + 1 : number + 2]]
                if ahead and number == 0:
                    wait(ahead)  # so that a buffer that two preparations share is found at the first page
                found.append(encoder.encode([ready])[0].embeddings.copy())
        for number, (one, other) in enumerate(zip(found, expected, strict=True), 1):
            if distance(one, other) > TOLERANCE:
                raise BrokenContractError(
                    f"page {number} has other embeddings when the next one is prepared in a thread meanwhile: prepare "
                    "must change nothing that encode uses, and return arrays of its own"
                )
        return f"{len(pages)} pages prepared in a thread give what they give without it"

    def _blank(self) -> str:
        white = np.full((280, 280, 3), 255, np.uint8)
        try:
            self._encode([PageImage(None, white, None, check_blank=True)])
        except BlankPage as blank:
            if self._subject.plugin.description.reads_pages and blank.geometry.oriented != (280, 280):
                raise BrokenContractError(f"BlankPage has a page of {_px(blank.geometry.oriented)}") from None
            return "raises BlankPage when it is requested"
        return "is encoded"

    def _damaged(self) -> str:
        self._require_reading()
        picture = drawn((280, 224))
        file = io.BytesIO()
        Image.fromarray(picture.pixels).save(file, "PNG")  # type: ignore[arg-type]
        (page,), (other,) = self._encode([PageImage(file.getvalue(), None, None)]), self._encode([picture])
        if distance(page.embeddings, other.embeddings) > TOLERANCE:
            raise BrokenContractError("a PNG file gives other embeddings than its pixels")
        return expect_page_error("a damaged file", lambda: self._encode([PageImage(b"\x89PNG no", None, None)]))

    def _close(self) -> str:
        assert self._encoder is not None
        self._encoder.close()
        return "done"

    def _require_reading(self) -> None:
        if not self._subject.plugin.description.reads_pages:
            raise NotApplicableError("reads_pages is false: its answers do not depend on what pages show")


def drawn(size: tuple[int, int], seed: int = 0) -> PageImage:
    """A white page of (width, height) pixels with dark marks of the size of letters."""
    width, height = size
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 255, np.uint8)
    for top in range(8, height - 16, 28):
        for left in range(8, width - 12, 14):
            if rng.random() < 0.7:
                pixels[top : top + 12, left : left + 8] = rng.integers(0, 90, (12, 8, 1))
    return PageImage(None, pixels, None)


def marked(page: NDArray[np.uint8], row: int, column: int) -> PageImage:
    """The page (height, width, 3) with a dark mark in one cell."""
    pixels = page.copy()
    pixels[row * CELL_PX + 8 : row * CELL_PX + 20, column * CELL_PX + 8 : column * CELL_PX + 20] = 0
    return PageImage(None, pixels, None)


def as_float(embeddings: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return embeddings (n, width) as float32; bfloat16 is held as uint16."""
    if embeddings.dtype == np.uint16:
        return (embeddings.astype(np.uint32) << 16).view(np.float32)
    return embeddings.astype(np.float32)


def distance(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Return the largest difference of two arrays (n, width) as a share of the largest magnitude; infinite: other n."""
    if first.shape != second.shape:
        return float("inf")
    one, other = as_float(first), as_float(second)
    return float(np.abs(one - other).max() / max(1e-9, np.abs(one).max()))


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px"
