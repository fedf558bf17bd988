"""Pages and prompts that every implementation gets in the comparison of ``verify``: numbers, the same everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.decoder_worker.prompt import plain_ids
from dotsctl.encoder_worker.image import patchify
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.geometry import PixelLimits
from numpy.typing import NDArray
from PIL import Image

SIZES_PX = ((168, 224), (112, 280), (196, 140), (84, 84), (252, 112), (140, 168), (56, 308), (224, 196))
"""Width and height by page; multiples of 28, so that nothing is resized: Pillow's rounding may change."""
SEED = 20_261_120


@dataclass(frozen=True)
class VerifyPage:
    """One page as models take it."""

    picture: Image.Image
    patches: NDArray[np.float32]
    """(num_patches, 588)."""
    grid: tuple[int, int]
    question: str
    ids: list[int]
    """Prompt with one placeholder for each embedding."""
    placeholder: int


def make_pages(tokenizer: Any, count: int) -> list[VerifyPage]:
    """Pages of different sizes, contents and prompts.

    Args:
        tokenizer: of the model.
        count: how many.
    """
    pages = []
    for index in range(count):
        picture = draw(index, SIZES_PX[index % len(SIZES_PX)])
        patches = patchify(picture, picture.size, 1, PixelLimits())
        question = f"Extract the text of page {index + 1}."
        ids, placeholder = prompt_ids(tokenizer, len(patches.values) // 4, question)
        pages.append(VerifyPage(picture, patches.values, patches.grid, question, ids, placeholder))
    return pages


def draw(index: int, size_px: tuple[int, int]) -> Image.Image:
    """Dark dashes in lines on light paper with a little noise, from raw random bits, which no version changes."""
    width, height = size_px
    raw = np.random.PCG64(SEED + index).random_raw(width * height)
    noise = (raw & 15).astype(np.uint8).reshape(height, width)
    dashes = ((raw >> np.uint64(8)) & 3).astype(bool).reshape(height, width)[: height // 7, : width // 5]
    inked = np.kron(dashes, np.ones((7, 5), bool))[:height, :width]
    inked = np.pad(inked, ((0, height - inked.shape[0]), (0, width - inked.shape[1])))
    in_line = (np.arange(height) % 14 < 9)[:, None]
    paper = np.where(inked & in_line, 40, 235).astype(np.uint8)[..., None] + noise[..., None]  # (height, width, 1)
    tint = np.array([0, 3, 5], np.uint8)
    return Image.fromarray(paper + tint)  # (height, width, 3) uint8


def prompt_ids(tokenizer: Any, num_embeddings: int, text: str) -> tuple[list[int], int]:
    """Ids in the form of the model's own processor, which is mlx-vlm's too, and the placeholder among them.

    One space, the image, the text, the mark of the assistant; no marks of the user.

    Raises:
        MissingError: the tokenizer lacks a mark.
    """
    marks = {}
    for mark in ("<|img|>", "<|imgpad|>", "<|endofimg|>", "<|assistant|>"):
        marks[mark] = tokenizer.token_to_id(mark)
        if marks[mark] is None:
            raise MissingError(f"tokenizer.json has no token {mark}: this is not a dots.ocr model")
    image = [marks["<|img|>"], *[marks["<|imgpad|>"]] * num_embeddings, marks["<|endofimg|>"]]
    before, asked = plain_ids(tokenizer, " "), plain_ids(tokenizer, text)
    return [*before, *image, *asked, marks["<|assistant|>"]], marks["<|imgpad|>"]


def read_tokenizer(folder: Path) -> Any:
    """Tokenizer of a model; raises MissingError when there is none."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise MissingError(f"{path} is missing", "download the complete dots.ocr snapshot")
    return Tokenizer.from_file(str(path))
