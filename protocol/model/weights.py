"""The stored tensors of a model by the headers of its files: what they count, and how they differ from config.json.

Headers may come from a folder or from a repository on the Hub; the weights themselves are never read.
"""

from bisect import bisect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import Any

from dotsctl.protocol.model.checkpoint import INDEX, all_tensor_files
from dotsctl.protocol.model.config import AGAIN, CONFIG, OTHER_BUILD, Problem, sizes
from dotsctl.protocol.model.layout import LM_HEAD, PATCH_WEIGHT, Shape
from dotsctl.protocol.model.quantisation import (
    LEVELS,
    OFFSETS,
    SCALES,
    WORD,
    WORD_BITS,
    StoredQuantisation,
    stored_quantisation,
)
from dotsctl.protocol.model.safetensors_header import StoredTensor, read_header, shown
from dotsctl.protocol.model.stored_layouts import canonical_name, half_of, is_harmless, patch_shapes
from dotsctl.protocol.parts import Role

FLOATS = ("BF16", "F16", "F32")
"""Types that weights may have."""
BYTE = ("U8",)
"""Type of the scales of modes that are not affine."""
FOREIGN = (".qweight", ".qzeros", ".weight_scale", ".weight_packed", ".SCB")
"""Ends of names that only weights have which another program than MLX quantised."""
Headers = Mapping[str, Mapping[str, StoredTensor]]
"""Tensors by stored name, by the name of the file."""


@dataclass(frozen=True)
class HalfFacts:
    """The stored tensors of one half of the model."""

    parameters: int
    """Weights, packed ones counted as what they are unpacked."""
    size_bytes: int
    """Bytes of all tensors."""
    packed_parameters: int = 0
    """Those of the weights that are packed."""
    packed_bytes: int = 0
    """Bytes of packed weights, and of scales that are bytes: the same whatever the network computes with."""
    scale_numbers: int = 0
    """Scales and offsets that have the type that the network computes with."""
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Weights by the way they are stored, as ``BF16`` or ``4bit``."""

    def loaded_bytes(self, item_bytes: int) -> int:
        """Return the bytes of the weights in memory.

        Args:
            item_bytes: of a number that the network computes with: 4 for float32, 2 for bfloat16.
        """
        return self.packed_bytes + (self.parameters - self.packed_parameters + self.scale_numbers) * item_bytes


@dataclass(frozen=True)
class _FoundTensor:
    """A stored tensor and the file that holds it."""

    file: str
    name: str
    """The name in the file."""
    tensor: StoredTensor


def read_headers(folder: Path) -> dict[str, dict[str, StoredTensor]]:
    """Read the headers of all tensor files of a folder.

    Raises:
        MissingError: there are no weights, or a header is broken.
    """
    return {path.name: read_header(path) for path in all_tensor_files(folder)}


def half_facts(headers: Headers, quantised: StoredQuantisation) -> dict[Role, HalfFacts]:
    """Count the tensors of both halves; those of no layout count as the decoder's.

    Args:
        headers: of all files.
        quantised: what config.json says; a packed matrix that it does not mention counts by its stored numbers.
    """
    halves: dict[Role, dict[str, StoredTensor]] = {half: {} for half in Role}
    for header in headers.values():
        for name, tensor in header.items():
            if not is_harmless(name):
                halves[half_of(name) or Role.DECODER][canonical_name(name)] = tensor
    return {half: _half(tensors, quantised) for half, tensors in halves.items()}


def _half(tensors: Mapping[str, StoredTensor], quantised: StoredQuantisation) -> HalfFacts:
    kinds: dict[str, int] = {}
    packed = packed_bytes = scale_numbers = 0
    for name, tensor in tensors.items():
        matrix, part = _split(name)
        if f"{matrix}{SCALES}" in tensors and part in (SCALES, OFFSETS):
            if tensor.dtype in FLOATS:
                scale_numbers += prod(tensor.shape)
            else:
                packed_bytes += tensor.size_bytes
            continue
        kind, number = tensor.dtype, prod(tensor.shape)
        stored = quantised.of(matrix)
        if f"{matrix}{SCALES}" in tensors and part == LEVELS and tensor.dtype == WORD and stored is not None:
            kind, number = stored.kind, number * WORD_BITS // stored.bits
            packed, packed_bytes = packed + number, packed_bytes + tensor.size_bytes
        kinds[kind] = kinds.get(kind, 0) + number
    size_bytes = sum(tensor.size_bytes for tensor in tensors.values())
    return HalfFacts(sum(kinds.values()), size_bytes, packed, packed_bytes, scale_numbers, kinds)


def weight_problems(config: dict[str, Any], headers: Headers, places: Mapping[str, str]) -> list[Problem]:
    """Return every difference between files, index and config.json.

    Args:
        config: without problems of its own.
        headers: of all files.
        places: file of each tensor as the index has it; empty without an index.
    """
    found, problems = _found(headers, places)
    if problems:  # first, because a missing file would be reported again for every tensor in it
        return problems
    foreign = [one for one in found.values() if one.name.endswith(FOREIGN)]
    if foreign:
        what = f"{shown(foreign[0].name)} says that another program than MLX quantised the weights"
        return [Problem(foreign[0].file, what, OTHER_BUILD)]
    tower = [one for name, one in found.items() if half_of(name) is Role.ENCODER and name.endswith((SCALES, OFFSETS))]
    if tower:
        what = f"{shown(tower[0].name)} says that the encoder is quantised, and only decoders may be"
        return [Problem(tower[0].file, what, OTHER_BUILD)]
    return [*_differences(found, config)]


def _found(headers: Headers, places: Mapping[str, str]) -> tuple[dict[str, _FoundTensor], list[Problem]]:
    """All tensors by published name, and where files and index disagree."""
    problems = missing_files(headers.keys(), places)
    found: dict[str, _FoundTensor] = {}
    for file, header in headers.items():
        if places and file not in places.values():
            named = f"; {shown(next(iter(header)))} is in it" if header else ""
            what = f"{file} exists and is not named here{named}"
            problems.append(Problem(INDEX, what, f"remove the file if it does not belong to the model, else {AGAIN}"))
            continue
        for name, tensor in header.items():
            if places and places.get(name) != file:
                what = f"{shown(name)} is in {file}, the index places it in {places.get(name, 'no file')}"
                problems.append(Problem(INDEX, what))
            if (key := canonical_name(name)) in found:
                problems.append(Problem(file, f"{shown(name)} is in {found[key].file} too"))
            found[key] = _FoundTensor(file, name, tensor)
    for name, file in places.items():
        if file in headers and canonical_name(name) not in found:
            problems.append(Problem(file, f"{shown(name)} is missing, the index places it here"))
    return found, problems


def missing_files(files: Collection[str], places: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each file that the index names and that is not among the files that exist."""
    return [
        Problem(INDEX, f"{file} is named here and does not exist; {shown(name)} is in it")
        for file, name in {file: name for name, file in reversed(list(places.items()))}.items()
        if file not in files
    ]


@dataclass(frozen=True)
class _Expected:
    """The shapes and types that config.json allows for one stored tensor."""

    shapes: list[Shape]
    dtypes: tuple[str, ...] = FLOATS


def _differences(found: dict[str, _FoundTensor], config: dict[str, Any]) -> Iterator[Problem]:
    """Yield the differences between the stored tensors and the expected ones."""
    text, vision = sizes(config)
    quantised, expected = stored_quantisation(config), dict[str, _Expected]()
    if quantised.default and not any(name.endswith(SCALES) for name in found):
        yield Problem(CONFIG, f"it says that matrices are {quantised.default.kind}, and no file has their scales")
    for name, shape in (vision.tensors() | text.tensors()).items():
        matrix = _split(name)[0]
        if len(shape) == 2 and f"{matrix}{SCALES}" in found:
            try:
                expected |= _packed(matrix, shape, quantised)
            except ValueError as error:
                one = found[f"{matrix}{SCALES}"]
                yield Problem(
                    one.file, f"{shown(one.name)} says that the matrix is quantised, but {error}", OTHER_BUILD
                )
                return
        else:
            expected[name] = _Expected(patch_shapes(shape[0]) if name == PATCH_WEIGHT else [shape])
    names = sorted(found)
    for name, described in expected.items():
        if name in found:
            yield from _tensor_problems(found[name], described)
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


def _packed(matrix: str, shape: Shape, quantised: StoredQuantisation) -> dict[str, _Expected]:
    """The tensors of a quantised matrix. Raises ValueError if config.json does not say how, or groups do not fit."""
    stored = quantised.of(matrix)
    if stored is None:
        raise ValueError(f"{CONFIG} has no quantization")
    if shape[1] % stored.group_size:
        raise ValueError(f"its rows of {shape[1]} weights cannot be divided into groups of {stored.group_size}")
    shared = FLOATS if stored.is_affine else BYTE
    return {
        f"{matrix}{part}": _Expected([each], (WORD,) if part == LEVELS else shared)
        for part, each in stored.shapes(shape).items()
    }


def _tensor_problems(one: _FoundTensor, expected: _Expected) -> Iterator[Problem]:
    stored = one.tensor
    if stored.dtype not in expected.dtypes:
        allowed = " or ".join(filter(None, [", ".join(expected.dtypes[:-1]), expected.dtypes[-1]]))
        yield Problem(one.file, f"{shown(one.name)} has the type {stored.dtype}, it must be {allowed}", OTHER_BUILD)
    if stored.shape not in expected.shapes:
        shapes = " or ".join(str(list(shape)) for shape in expected.shapes)
        yield Problem(one.file, f"{shown(one.name)} has the shape {list(stored.shape)}, {CONFIG} says {shapes}")


def _split(name: str) -> tuple[str, str]:
    """A tensor's module, and the end of its name."""
    matrix, _, part = name.rpartition(".")
    return matrix, f".{part}"


def _likely_file(found: dict[str, _FoundTensor], names: list[str], missing: str) -> str:
    """The file that holds the neighbours of a missing tensor; ``names`` are the found ones in order."""

    def common(name: str) -> int:
        return sum(1 for _ in takewhile(bool, map(str.__eq__, name, missing)))

    place = bisect(names, missing)
    near = names[max(place - 1, 0) : place + 1]
    return found[max(near, key=common)].file if near else INDEX
