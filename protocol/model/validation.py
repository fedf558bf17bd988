"""Strict validation of a model directory before anything of it is loaded.

Only JSON files and the headers of the tensor files are read. Whatever differs from the layout that config.json
describes is found here, with a message that names file, key, both shapes and a remedy; a loader would name one of them,
or compute wrong text without a word.
"""

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from pathlib import Path

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.model.checkpoint import INDEX, all_tensor_files, read_index, read_json
from dotsctl.protocol.model.config import AGAIN, CONFIG, ORIGINAL, Problem, config_problems, sizes
from dotsctl.protocol.model.layout import (
    LM_HEAD,
    PATCH_PIXELS,
    PATCH_WEIGHT,
    Shape,
    TextSizes,
    VisionSizes,
    canonical_name,
    is_harmless,
)
from dotsctl.protocol.model.safetensors_header import StoredTensor, read_header, shown
from dotsctl.protocol.model.tokenizer import token_problems

PREPROCESSOR = "preprocessor_config.json"
FLOATS = ("BF16", "F16", "F32")
"""Types that weights may have."""
QUANTISED = (".scales", ".biases", ".qweight", ".qzeros", ".weight_scale", ".SCB")
"""Ends of names that only quantised weights have."""
SHOWN = 5
"""Problems that a message lists."""


@dataclass(frozen=True)
class HalfFacts:
    """The stored tensors of one half of the model."""

    parameters: int
    size_bytes: int


@dataclass(frozen=True)
class CheckpointFacts:
    """The facts about a valid model that are known without its weights."""

    text: TextSizes
    vision: VisionSizes
    encoder: HalfFacts
    decoder: HalfFacts
    limits: PixelLimits
    """Fewest and most pixels of a page."""


@dataclass(frozen=True)
class _Found:
    """A stored tensor and the file that holds it."""

    file: str
    name: str
    tensor: StoredTensor


def validate_checkpoint(folder: Path) -> CheckpointFacts:
    """Check a complete model directory; takes milliseconds whatever the size of the model.

    Raises:
        MissingError: it cannot be used. The message lists the first few reasons and what to do.
    """
    config = read_json(folder, CONFIG)
    _refuse(folder, config_problems(config))
    text, vision = sizes(config)
    limits = read_limits(folder)
    _refuse(folder, token_problems(folder, config))
    found, problems = _stored(folder)
    expected = vision.tensors() | text.tensors()
    _refuse(folder, problems)  # first, because a missing file would be reported again for every tensor in it
    _refuse(folder, [*_differences(found, expected)])
    encoder = {name: found[name].tensor for name in vision.tensors()}
    decoder = {name: found[name].tensor for name in text.tensors()}
    return CheckpointFacts(text, vision, _half(encoder), _half(decoder), limits)


def read_limits(folder: Path) -> PixelLimits:
    """Return the pixel limits of a model; the encoder checks the other fields of the file.

    Raises:
        MissingError: the file is missing or has no whole numbers.
    """
    content = read_json(folder, PREPROCESSOR)
    values = {key: content[key] for key in ("min_pixels", "max_pixels") if key in content}
    try:
        if all(type(value) is int for value in values.values()):
            return PixelLimits(**values)
        what = f"min_pixels and max_pixels must be whole numbers, not {shown(str(list(values.values())))}"
    except ValueError as error:
        what = str(error)
    raise _refusal(folder, [Problem(PREPROCESSOR, what)])


def _stored(folder: Path) -> tuple[dict[str, _Found], list[Problem]]:
    """All tensors by canonical name, and where files and index disagree.

    Raises:
        MissingError: there are no weights, or a header is broken.
    """
    files = {path.name: path for path in all_tensor_files(folder)}
    places = read_index(folder)
    problems = [
        Problem(INDEX, f"{file} is named here and not in the folder; {shown(name)} is in it")
        for file, name in {file: name for name, file in reversed(places.items())}.items()
        if file not in files
    ]
    found: dict[str, _Found] = {}
    for file, path in files.items():
        header = read_header(path)
        if places and file not in places.values():
            named = f"; {shown(next(iter(header)))} is in it" if header else ""
            what = f"{file} is in the folder and not named here{named}"
            problems.append(Problem(INDEX, what, f"remove the file if it does not belong to the model, else {AGAIN}"))
            continue
        for name, tensor in header.items():
            if places and places.get(name) != file:
                what = f"{shown(name)} is in {file}, the index places it in {places.get(name, 'no file')}"
                problems.append(Problem(INDEX, what))
            if (key := canonical_name(name)) in found:
                problems.append(Problem(file, f"{shown(name)} is in {found[key].file} too"))
            found[key] = _Found(file, name, tensor)
    for name, file in places.items():
        if file in files and canonical_name(name) not in found:
            problems.append(Problem(file, f"{shown(name)} is missing, the index places it here"))
    return found, problems


def _differences(found: dict[str, _Found], expected: dict[str, Shape]) -> Iterator[Problem]:
    """Yield the differences between the stored tensors and the expected ones."""
    if quantised := [one for one in found.values() if one.name.endswith(QUANTISED)]:
        yield Problem(quantised[0].file, f"{shown(quantised[0].name)} says that the weights are quantised", ORIGINAL)
        return
    names = sorted(found)
    for name, shape in expected.items():
        if name in found:
            yield from _tensor_problems(name, found[name], shape)
        else:
            yield Problem(_likely_file(found, names, name), f"{name} is missing")
    for name, one in found.items():
        if name in expected or is_harmless(name):
            continue
        if name == LM_HEAD:  # it is expected unless the embeddings are tied
            what = f"{LM_HEAD} exists, but tie_word_embeddings in {CONFIG} is true, which says that it is not"
            yield Problem(one.file, what, f"set tie_word_embeddings to false in {CONFIG} if the model has its own head")
        else:
            yield Problem(one.file, f"{shown(one.name)} {list(one.tensor.shape)} is not part of a dots.ocr model")


def _tensor_problems(name: str, one: _Found, expected: Shape) -> Iterator[Problem]:
    stored = one.tensor
    if stored.dtype not in FLOATS:
        what = (
            f"{shown(one.name)} has the type {stored.dtype}, weights must be {', '.join(FLOATS[:-1])} or {FLOATS[-1]}"
        )
        yield Problem(one.file, what, ORIGINAL)
    allowed = _patch_shapes(expected[0]) if name == PATCH_WEIGHT else [expected]
    if stored.shape not in allowed:
        shapes = " or ".join(str(list(shape)) for shape in allowed)
        yield Problem(one.file, f"{shown(one.name)} has the shape {list(stored.shape)}, {CONFIG} says {shapes}")


def _patch_shapes(dim: int) -> list[Shape]:
    """The shapes of the patch embedding: of the original, of conversions for MLX, and flat as the original."""
    channels, height, width = PATCH_PIXELS
    return [(dim, channels, height, width), (dim, height, width, channels), (dim, prod(PATCH_PIXELS))]


def _likely_file(found: dict[str, _Found], names: list[str], missing: str) -> str:
    """The file that holds the neighbours of a missing tensor; ``names`` are the found ones in order."""

    def common(name: str) -> int:
        return sum(1 for _ in takewhile(bool, map(str.__eq__, name, missing)))

    place = bisect(names, missing)
    near = names[max(place - 1, 0) : place + 1]
    return found[max(near, key=common)].file if near else INDEX


def _half(tensors: dict[str, StoredTensor]) -> HalfFacts:
    return HalfFacts(
        sum(prod(tensor.shape) for tensor in tensors.values()),
        sum(tensor.size_bytes for tensor in tensors.values()),
    )


def _refuse(folder: Path, problems: list[Problem]) -> None:
    """Raise MissingError if there are problems."""
    if problems:
        raise _refusal(folder, problems)


def _refusal(folder: Path, problems: list[Problem]) -> MissingError:
    """One message with the first few problems and what to do about them."""
    if len(problems) == 1:
        return MissingError(f"{folder / problems[0].file}: {problems[0].what}", f"{problems[0].remedy}")
    listed = problems[:SHOWN]
    lines = [f"the model in {folder} cannot be used ({len(problems)} problems):"]
    lines += [f"  {problem.file}: {problem.what}" for problem in listed]
    if more := len(problems) - len(listed):
        lines.append(f"  and {more} more")
    remedies = dict.fromkeys(problem.remedy for problem in listed)
    return MissingError("\n".join(lines), "; or ".join(remedies))
