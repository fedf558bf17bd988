"""The builds of dots.mocr that can be downloaded, and which of them fit this machine; computed, nothing is fetched.

Sizes follow from the shapes of the published model and the storage of each build. dots.ocr has the same shapes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import prod

from dotsctl.client.models.aliases import BUILDS, MODELS
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine.memory import MemoryLimit, pipeline_need
from dotsctl.protocol.model.layout import TextSizes, VisionSizes
from dotsctl.protocol.model.quantisation import KINDS, Quantisation, StoredQuantisation
from dotsctl.protocol.model.safetensors_header import StoredTensor
from dotsctl.protocol.model.validation import CheckpointFacts
from dotsctl.protocol.model.weights import half_facts
from dotsctl.protocol.parts import Role

TEXT = TextSizes(1536, 8960, 28, 12, 2, 151_936)
VISION = VisionSizes(1536, 1536, 4224, 42, 12)
LIMITS = PixelLimits(3136, 11_289_600)
"""Sizes in config.json and preprocessor_config.json of the published dots.ocr and dots.mocr."""
BFLOAT16, BFLOAT16_BYTES = "BF16", 2
COMFORTABLE = 0.5
"""Share of the memory for models up to which a build leaves room: for large pages, several at once, other programs."""
ITEM_BYTES = {"U32": 4, "U8": 1, BFLOAT16: BFLOAT16_BYTES}


@dataclass(frozen=True)
class ModelBuild:
    """One build."""

    name: str
    """The short name that ``pull`` takes."""
    quantisation: Quantisation | None
    """The storage of the decoder's matrices; none: bfloat16 as everything else."""

    @cached_property
    def facts(self) -> CheckpointFacts:
        """Return what the files of the build would show."""
        tensors = dict(self._tensors())
        halves = half_facts({"model.safetensors": tensors}, StoredQuantisation(self.quantisation))
        return CheckpointFacts(TEXT, VISION, halves[Role.ENCODER], halves[Role.DECODER], LIMITS)

    @property
    def download_bytes(self) -> int:
        """Return the bytes of the weights."""
        return self.facts.encoder.size_bytes + self.facts.decoder.size_bytes

    def least_bytes(self, item_bytes: int) -> int:
        """Return the memory in bytes below which nothing can be read, with the encoder in MLX.

        Args:
            item_bytes: of a number that MLX computes with: 2 on a Mac, 4 on a CPU.
        """
        return pipeline_need(self.facts, item_bytes, 0).least_bytes

    def _tensors(self) -> Iterator[tuple[str, StoredTensor]]:
        for name, shape in (VISION.tensors() | TEXT.tensors()).items():
            matrix, is_matrix = name.removesuffix(".weight"), len(shape) == 2 and name in TEXT.tensors()
            if self.quantisation is None or not is_matrix:
                yield name, _stored(BFLOAT16, shape)
                continue
            scale = BFLOAT16 if self.quantisation.is_affine else "U8"
            for part, packed in self.quantisation.shapes((shape[0], shape[1])).items():
                yield matrix + part, _stored("U32" if part == ".weight" else scale, packed)


def _stored(dtype: str, shape: tuple[int, ...]) -> StoredTensor:
    return StoredTensor(dtype, shape, 0, prod(shape) * ITEM_BYTES[dtype])


def builds() -> list[ModelBuild]:
    """Return the builds of dots.mocr, the original first."""
    options = {each.kind: each for each in KINDS.values()}
    model = MODELS[-1]
    return [ModelBuild(model, None), *(ModelBuild(f"{model}-{build}", options.get(build)) for build in BUILDS)]


class Fit(StrEnum):
    """Whether a build fits a machine."""

    GOOD = "fits"
    TIGHT = "fits, with little room for large pages"
    NONE = "too large"


def fit(build: ModelBuild, machine: MemoryLimit, item_bytes: int) -> Fit:
    """Compare the memory that a build takes at least with what a model may use."""
    least_bytes = build.least_bytes(item_bytes)
    if least_bytes > machine.usable_bytes:
        return Fit.NONE
    return Fit.GOOD if least_bytes <= COMFORTABLE * machine.usable_bytes else Fit.TIGHT


def best(found: list[ModelBuild], machine: MemoryLimit, item_bytes: int) -> ModelBuild | None:
    """Return the largest build that fits well, else the smallest that fits at all; none: no build fits.

    Sizes are compared in tenths of a gigabyte; of equal ones the first is taken.
    """
    if fitting := [each for each in found if fit(each, machine, item_bytes) is Fit.GOOD]:
        return max(fitting, key=_tenths)
    smallest = min(found, key=_tenths)
    return None if fit(smallest, machine, item_bytes) is Fit.NONE else smallest


def _tenths(build: ModelBuild) -> int:
    return round(build.download_bytes / 1e8)
