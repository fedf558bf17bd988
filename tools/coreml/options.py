"""The options of ``dotsctl convert --encoder coreml``, and what is not possible."""

from collections.abc import Collection
from dataclasses import dataclass

from dotsctl.encoder_worker.coreml.manifest import COMPUTE_UNITS
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.buckets import MAX_PATCHES, check_buckets

BITS = {"same": 0, "int8": 8, "int8-per-tensor": 8, "int4": 4.5, "palette6": 6}
"""The bits of an element of a matrix, scales included; 0: those of the precision."""
PRECISIONS = {"float16": 16, "float32": 32}


@dataclass(frozen=True)
class ConversionOptions:
    """The options of ``dotsctl convert --encoder coreml``. Raises UsageError for a value that does not exist."""

    precision: str = "float16"
    """``float16``, or ``float32`` for comparisons: the Neural Engine computes in float16 alone."""
    weights: str = "same"
    """``same`` (in the precision above), ``int8``, ``int8-per-tensor``, ``int4`` or ``palette6``."""
    buckets: tuple[int, ...] | None = None
    """Numbers of patches; none: standard ones for the model's largest page."""
    query_tile: int = 512
    """Queries whose scores exist at a time."""
    chunks: int | None = None
    """Packages to make; none: as few as the limit of weights allows."""
    compute_units: str = "cpu_and_ne"
    """The default compute units of the plugin for this build."""
    name: str | None = None
    """Name of the build; none: precision and weights."""

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("weights", self.weights, BITS)
        _one_of("compute_units", self.compute_units, COMPUTE_UNITS)
        if self.buckets is not None:
            object.__setattr__(self, "buckets", check_buckets(self.buckets))
        if not 1 <= self.query_tile <= MAX_PATCHES:
            raise UsageError(f"a query tile of {self.query_tile} is not between 1 and {MAX_PATCHES} queries")
        if self.chunks is not None and self.chunks < 1:
            raise UsageError(f"{self.chunks} chunks are no tower", "give at least 1, or leave it out")
        if self.name is not None and (not self.name or self.name.startswith(".") or "/" in self.name):
            raise UsageError(f"{self.name!r} is no name of a folder", "use letters, digits and hyphens")

    @property
    def build_name(self) -> str:
        """Name of the folder of the build."""
        return self.name or (self.precision if self.weights == "same" else f"{self.precision}-{self.weights}")


def _one_of(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise UsageError(f"{option} {value!r} is none of {', '.join(known)}")
