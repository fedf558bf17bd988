"""Batches for the training of the demo model: generated pages as tensors, with all their targets."""

import json
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from dotsctl.encoder_worker.image import DEVIATION, MEAN, MERGE
from dotsctl.protocol.geometry import CELL_PX, PATCH_PX
from dotsctl.tools.dev.demo.checkpoint import prompt_ids
from dotsctl.tools.dev.demo.network import CELL_SLOTS, NOTHING
from dotsctl.tools.dev.demo.tokenizer import id_of, text_ids
from dotsctl.tools.dev.page_sets.page_set import PageSet
from dotsctl.tools.pages.characters import CHARACTERS
from dotsctl.tools.pages.elements import CATEGORIES, GeneratedPage
from dotsctl.tools.pages.generator import STYLES, dense_page, generate_page, grid_of
from dotsctl.tools.pages.noise import scanned_now_and_then
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

MISREAD_SHARE = 0.06
"""Share of the text tokens in front of the next one that are replaced at random. A reader that only ever saw its own
words spelled right loses its place at the first mistake."""
UNUSED = -100
"""Target that the loss leaves out."""
TEXT_KEY = '"text": "'
"""The text in front of the words of an element in a layout."""
PLACES = {character: place for place, character in enumerate(CHARACTERS)}
TASKS = ("text", "layout", "layout-only")
ANSWERS = 2
"""Tasks of each page that is read: what the tower has computed is used more than once."""
GLANCE_ROWS, GLANCE_COLUMNS, GLANCE_CELLS = (4, 10), (6, 12), 720
"""Smallest and largest grid of a batch without a question, and the cells of all its pages."""
KEPT_BATCHES = 12
"""Batches of each stage whose pages are kept to be used again; a page of 560x784 px takes 1.3 MB."""


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum."""

    style: str
    pages: int
    """Pages of one step."""
    pass_accuracy: float
    """Share of the answer's tokens, each after a mostly right beginning, that opens the next stage."""
    latest: float
    """Share of the training's time that opens it in any case: a short training sees full pages too."""
    shares: tuple[float, float, float]
    """The shares of the TASKS."""


CURRICULUM = (
    Stage("small", 12, 0.93, 0.05, (0.6, 0.3, 0.1)),
    Stage("medium", 7, 0.94, 0.12, (0.55, 0.35, 0.1)),
    Stage("large", 5, 0.94, 0.25, (0.5, 0.4, 0.1)),
    Stage("full", 3, 0.95, 0.4, (0.5, 0.4, 0.1)),
    Stage("wide", 2, 0.97, 0.85, (0.5, 0.4, 0.1)),
    Stage("long", 2, 0.98, 0.95, (0.6, 0.35, 0.05)),
    Stage("whole", 2, 1.0, 1.0, (0.5, 0.4, 0.1)),
)
"""A CPU stops at "wide" or "long"; see ``--last`` of the trainer."""


@dataclass
class Batch:
    """One step's pages, all of the same grid; ``Tensor`` fields can be moved to another device."""

    stage: int
    rows: int
    columns: int
    tasks: list[str]
    """The task of each answer."""
    pixels: Tensor  # (pages, 28 rows, 28 columns, 3) 8-bit levels: a quarter of the patches to bring to a GPU
    before: Tensor  # (n,)
    page_of: Tensor  # (answers,) which page each answer is about
    after: Tensor  # (answers, m) ids behind the page's embeddings
    targets: Tensor  # (answers, m)
    cells: Tensor  # (answers, m) where on its page each target begins that is text
    characters: Tensor  # (pages, rows columns, CELL_SLOTS)
    kinds: Tensor  # (pages, rows columns)

    @property
    def patches(self) -> Tensor:
        """(pages, 4 rows columns, 588) float32: what the encoder's ``patchify`` makes of the pages."""
        levels = self.pixels.float() / 255
        values = (levels - torch.tensor(MEAN).to(levels)) / torch.tensor(DEVIATION).to(levels)
        blocks = values.view(len(values), self.rows, MERGE, PATCH_PX, self.columns, MERGE, PATCH_PX, 3)
        blocks = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6)  # (pages, rows, columns, 2, 2, 3, 14, 14)
        return blocks.reshape(len(values), MERGE**2 * self.rows * self.columns, 3 * PATCH_PX**2)

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(**{name: v.to(device) if isinstance(v, Tensor) else v for name, v in vars(self).items()})


@dataclass(frozen=True)
class Glances:
    """Batches of dense pages without an answer: they teach the tower alone, in less than half the time."""

    share: float = 0.0
    """The share of all batches."""
    seed: str = ""
    """The seed of when they come: processes that train together have theirs at the same time."""


@dataclass(frozen=True)
class PageSource:
    """The sources of the pages of a training."""

    families: tuple[str, ...]
    """Families of the pages that Pillow draws."""
    sets: tuple[Path, ...] = ()
    """Files of pages that were set by others."""
    set_share: float = 0.35
    """Share of the batches whose pages are of a set, where it has pages of the stage."""
    scale: int = 1
    """Times that a batch is larger than those of a CPU."""
    earlier: float = 0.5
    """Share of the batches that are of an earlier stage, so that small pages are not forgotten."""
    reuse: float = 0.0
    """Share of the batches with the pages of an earlier one, with new questions: for a GPU that waits for pages."""


def stage_of(grid: tuple[int, int]) -> int | None:
    """Return the first stage of the curriculum with pages of a grid; none: it has none."""
    for place, stage in enumerate(CURRICULUM):
        style = STYLES[stage.style]
        if grid[0] <= style.rows[1] and grid[1] <= style.columns[1]:
            return place
    return None


class Batches(IterableDataset[Batch]):
    """Endless batches; the stage is read from a shared tensor, so that it can move on while pages are made."""

    def __init__(self, stage: Tensor, seed: str, tokenizer: str, source: PageSource, glances: Glances) -> None:
        """Store the sources of pages.

        Args:
            stage: () the stage of now.
            seed: a text: no number that the evaluation takes gives its pages.
            tokenizer: as JSON, which travels to another process.
            source: where pages come from.
            glances: how many batches have no answer.
        """
        self._stage, self._seed, self._tokenizer, self._source = stage, seed, tokenizer, source
        self._glances = glances

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        own = f" worker {worker.id}" if worker else ""  # without it all of them make the same pages
        rng, when, maker = (
            random.Random(self._seed + own),
            random.Random(self._glances.seed + own),
            BatchMaker(Tokenizer.from_str(self._tokenizer), self._source),
        )
        while True:
            if when.random() < self._glances.share:
                yield maker.glance(rng)
                continue
            stage = int(self._stage)
            if stage and rng.random() < self._source.earlier:
                stage = rng.randrange(stage)
            yield maker.make(rng, stage)


class BatchMaker:
    """Makes batches with one tokenizer and one source of pages."""

    def __init__(self, tokenizer: Tokenizer, source: PageSource) -> None:
        self._tokenizer, self._source, self._set = tokenizer, source, PageSet(source.sets)
        self._kept: dict[int, deque[tuple[tuple[int, int], list[GeneratedPage]]]] = {}
        self._end = id_of(tokenizer, "<|endofassistant|>")
        self._text = text_ids(tokenizer)
        self._is_text = set(self._text)

    def make(self, rng: random.Random, stage: int) -> Batch:
        """Pages of one stage, with two answers about each."""
        grid, pages = self._pages(rng, stage)
        shares = CURRICULUM[stage].shares
        asked = [(number, task) for number in range(len(pages)) for task in _tasks(rng, shares, ANSWERS)]
        return self._batch(rng, stage, grid, pages, asked)

    def _pages(self, rng: random.Random, stage: int) -> tuple[tuple[int, int], list[GeneratedPage]]:
        """The grid and the pages of a batch: kept ones, those of a set, or new ones."""
        source, style = self._source, STYLES[CURRICULUM[stage].style]
        count = CURRICULUM[stage].pages * source.scale
        kept = self._kept.setdefault(stage, deque(maxlen=KEPT_BATCHES))
        if kept and rng.random() < source.reuse:
            return rng.choice(kept)
        grids = [grid for grid in self._set.grids if stage_of(grid) == stage]
        if grids and rng.random() < source.set_share:
            grid = rng.choice(grids)
            pages = [scanned_now_and_then(rng, page, style.noise_share) for page in self._set.draw(rng, grid, count)]
            return grid, pages
        grid = grid_of(rng, style)
        pages = [generate_page(rng, style, source.families, grid) for _ in range(count)]
        if source.reuse:
            kept.append((grid, pages))
        return grid, pages

    def glance(self, rng: random.Random) -> Batch:
        """Dense pages without a question."""
        grid = rng.randint(*GLANCE_ROWS), rng.randint(*GLANCE_COLUMNS)
        count = self._source.scale * GLANCE_CELLS // (grid[0] * grid[1])
        pages = [dense_page(rng, self._source.families, grid) for _ in range(count)]
        return self._batch(rng, 0, grid, pages, [])

    def _batch(
        self,
        rng: random.Random,
        stage: int,
        grid: tuple[int, int],
        pages: Sequence[GeneratedPage],
        asked: Sequence[tuple[int, str]],
    ) -> Batch:
        """Pages of one grid as tensors, with the answers to pairs of page and task."""
        rows, columns = grid
        size = (columns * CELL_PX, rows * CELL_PX)
        pixels = np.stack([np.asarray(page.image.resize(size, 3)) for page in pages])  # 3: bicubic, as the encoder does
        texts = [_answer(pages[number], task, size) for number, task in asked]
        tasks = [task for _, task in asked]
        truths = [cell_targets(page, rows, columns) for page in pages]
        characters, kinds = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*truths, strict=True))
        return Batch(
            stage, rows, columns, tasks, torch.from_numpy(pixels),
            torch.tensor(prompt_ids(self._tokenizer, "text", size)[0]),
            torch.tensor([number for number, _ in asked], dtype=torch.long),
            *self._ids(rng, texts, tasks, size, [
                self._cells(answer_cells(pages[n], text, task, rows, columns), text)
                for (n, task), text in zip(asked, texts, strict=True)
            ]),
            characters, kinds,
        )  # fmt: skip

    def _ids(
        self,
        rng: random.Random,
        answers: Sequence[str],
        tasks: Sequence[str],
        size: tuple[int, int],
        cells_of: Sequence[list[int]],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids behind the pages (answers, m), what is to follow each of them, and where it stands."""
        inputs, targets, cells = [], [], []
        for answer, task, places in zip(answers, tasks, cells_of, strict=True):
            _, prompt = prompt_ids(self._tokenizer, task, size)
            ids = [*self._tokenizer.encode(answer).ids, self._end]
            inputs.append(prompt + self._misread(rng, ids[:-1]))
            targets.append([UNUSED] * (len(prompt) - 1) + ids)
            cells.append([UNUSED] * (len(prompt) - 1) + [*places, UNUSED])
        length = max(map(len, inputs), default=0)
        inputs = [ids + [self._end] * (length - len(ids)) for ids in inputs]
        targets, cells = ([ids + [UNUSED] * (length - len(ids)) for ids in each] for each in (targets, cells))
        return (
            torch.tensor(inputs, dtype=torch.long),
            torch.tensor(targets, dtype=torch.long),
            torch.tensor(cells, dtype=torch.long),
        )

    def _cells(self, cells: Sequence[int], answer: str) -> list[int]:
        """The cell in which each token of an answer begins, of the cells of its characters."""
        spans = self._tokenizer.encode(answer).offsets
        return [next((cell for cell in cells[first:end] if cell != UNUSED), UNUSED) for first, end in spans]

    def _misread(self, rng: random.Random, ids: list[int]) -> list[int]:
        """The ids with some of those of text replaced by others; boxes and skeleton stay."""
        return [
            rng.choice(self._text) if token in self._is_text and rng.random() < MISREAD_SHARE else token
            for token in ids
        ]


def _tasks(rng: random.Random, shares: tuple[float, float, float], count: int) -> list[str]:
    """Different tasks, drawn by their shares."""
    chosen: dict[str, None] = {}
    while len(chosen) < count:
        chosen[rng.choices(TASKS, shares)[0]] = None
    return list(chosen)


def _answer(page: GeneratedPage, task: str, size: tuple[int, int]) -> str:
    return page.text if task == "text" else page.layout(size, with_text=task == "layout")


def answer_cells(page: GeneratedPage, answer: str, task: str, rows: int, columns: int) -> list[int]:
    """The cell that shows each character of an answer; UNUSED for blanks and for what is not printed so."""
    cells = [UNUSED] * len(answer)
    end = 0
    for number, element in enumerate(page.elements):
        if not element.plain or task == "layout-only":
            continue
        after = answer.find(TEXT_KEY, end) + len(TEXT_KEY) if task == "layout" else end
        escapes = [len(json.dumps(c, ensure_ascii=False)) - 2 if task == "layout" else 1 for c in element.plain]
        written = json.dumps(element.plain, ensure_ascii=False)[1:-1] if task == "layout" else element.plain
        start = answer.find(written, after, after + 2 * len(element.text) + len(written))
        if start >= 0:  # a table has its words in HTML
            printed = zip(escapes, _element_cells(page, number, rows, columns), strict=True)
            cells[start : start + len(written)] = [
                each for length, cell in printed for each in (*[UNUSED] * (length - 1), cell)
            ]
        end = max(after, start + len(written))
    return cells


def _element_cells(page: GeneratedPage, number: int, rows: int, columns: int) -> list[int]:
    """The cell of each character of an element's words."""
    across, down = columns / page.image.width, rows / page.image.height  # pixels -> cells
    plain = page.elements[number].plain
    letters = [character for character in plain if not character.isspace()]
    printed = [glyph for glyph in page.glyphs if glyph.element == number]
    found = printed[len(printed) - len(letters) :]
    spelled = [glyph.character for glyph in found]
    own = iter(found if spelled[1:] == letters[1:] else ())  # a list's star is written as a dash
    cells = []
    for character in plain:
        glyph = None if character.isspace() else next(own, None)
        row, column = (int(glyph.y * down), int(glyph.x * across)) if glyph else (-1, -1)
        cells.append(row * columns + column if 0 <= row < rows and 0 <= column < columns else UNUSED)
    return cells


def cell_targets(page: GeneratedPage, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the content of each cell.

    Returns:
        (rows columns, CELL_SLOTS) indices into CHARACTERS or NOTHING, three slots for each of the patches in the order
        of the tower; (rows columns,) 0 or 1 + the category's place.
    """
    slots = np.full((rows, columns, 4, CELL_SLOTS // 4), NOTHING, np.int64)
    kinds = np.zeros((rows, columns), np.int64)
    across, down = 2 * columns / page.image.width, 2 * rows / page.image.height  # pixels -> patches
    for element in page.elements:
        if element.category == "Picture":
            x0, y0, x1, y1 = element.box
            top, left = max(0, round(y0 * down / 2)), max(0, round(x0 * across / 2))
            kinds[top : round(y1 * down / 2), left : round(x1 * across / 2)] = 1 + CATEGORIES.index("Picture")
    for glyph in page.glyphs:
        row, column = int(glyph.y * down), int(glyph.x * across)
        if not (0 <= row < 2 * rows and 0 <= column < 2 * columns):
            continue  # turned out of the page
        kinds[row // 2, column // 2] = 1 + CATEGORIES.index(page.elements[glyph.element].category)
        patch = slots[row // 2, column // 2, 2 * (row % 2) + column % 2]
        used = int((patch < NOTHING).sum())
        if used < len(patch):
            patch[used] = PLACES[glyph.character]
    return slots.reshape(rows * columns, CELL_SLOTS), kinds.reshape(-1)
