"""A build: the Core ML packages of one model with one set of options, and the file that describes it.

Builds lie under ``derived_directory(fingerprint)/coreml/NAME``, each with ``manifest.json`` and its packages. A folder
without a manifest is none; the converter writes under a hidden name and renames, so there are no half-made ones.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.machine.verdicts import FOLDER
from dotsctl.protocol.model.directory import derived_directory
from dotsctl.protocol.model.files import open_regular, read_file
from dotsctl.protocol.typed_values import WrongValueError, brief, from_plain, plain_json

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
"""The golden page, see ``golden_page.py``."""
FORMAT = 2
"""Raised when functions take or give something else, or when older packages must not be used."""
STANDARD_BUILD = "float16"
REFERENCE = "reference"
"""The interpreter, in place of a compute unit of the Core ML framework."""
COMPUTE_UNITS = ("cpu_and_ne", "cpu_and_gpu", "cpu_only", "all", REFERENCE)


def function_name(bucket: int) -> str:
    """Name of the function for pages of ``bucket`` patches."""
    return f"patches_{bucket}"


@dataclass(frozen=True)
class PlanPackage:
    """A package with one function of a chunk alone, because a compute plan has no choice of function.

    Its weight file is a hard link to that of the chunk and takes no space.
    """

    file: str
    """Its name in the build's folder."""
    bucket: int
    """Patches of the page that its function is for."""
    files: dict[str, tuple[int, str]]
    """Size in bytes and sha256 of its own files, without the weights, by their path inside of the package."""


@dataclass(frozen=True)
class Chunk:
    """One package of a build."""

    file: str
    """Its name in the build's folder."""
    first_layer: int
    end_layer: int
    weight_bytes: int
    """Size of its weight file."""
    files: dict[str, tuple[int, str]]
    """Size in bytes and sha256 of every file, by its path inside of the package."""
    plans: tuple[PlanPackage, ...] = ()
    """One for each bucket; none where the disk has no hard links."""


@dataclass(frozen=True)
class Build:
    """The content of ``manifest.json``."""

    fingerprint: str
    """The fingerprint of the model that it is derived from."""
    precision: str
    """``float16`` or ``float32``: of weights, inputs, outputs and everything between."""
    weights: str
    """The scheme in which matrices are stored; ``same``: in that precision."""
    buckets: tuple[int, ...]
    query_tile: int
    compute_units: str
    """The default compute units of the plugin for this build."""
    embed_dim: int
    """Channels between packages."""
    head_dim: int
    width: int
    """Columns of the embeddings."""
    chunks: tuple[Chunk, ...]
    versions: dict[str, str]
    """The versions of the libraries that wrote it."""
    residual_exponent: int = 0
    """The residual stream between packages is ``2**residual_exponent`` times that of the model."""
    golden: tuple[int, str] | None = None
    """Size in bytes and sha256 of the file of the golden page; none: the build has none."""
    format: int = FORMAT

    @property
    def nbytes(self) -> int:
        """Bytes of all packages; shared weights count once."""
        listed = [files for chunk in self.chunks for files in (chunk.files, *(plan.files for plan in chunk.plans))]
        return sum(size for files in listed for size, _ in files.values())

    def plan_packages(self, bucket: int) -> list[str]:
        """Names of the packages, one for each chunk, whose compute plans are those of a bucket; none: there are none.

        Each holds one function, ``function_name(bucket)``.
        """
        return [plan.file for chunk in self.chunks for plan in chunk.plans if plan.bucket == bucket]

    def write(self, folder: Path) -> None:
        """Write the manifest; the last file of a build."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Build":
        """Read a manifest. Raises MissingError when it is damaged or of another version of dotsctl."""
        path = folder / MANIFEST
        try:
            content = plain_json(read_file(path))
            if isinstance(content, dict) and content.get("format") != FORMAT:
                found = brief(content.get("format"))
                raise MissingError(
                    f"{folder} has packages of format {found}, this version of dotsctl uses format {FORMAT}",
                    "convert the model again: dotsctl convert MODEL --encoder coreml",
                )
            return from_plain(cls, content)
        except (OSError, WrongValueError) as error:
            raise MissingError(f"{path} cannot be read ({error})", "convert the model again") from None

    def check_files(self, folder: Path, *, contents: bool = False) -> None:
        """Compare the packages with what was written.

        Args:
            folder: of the build.
            contents: read all bytes, a second for each GB or two; else only sizes are compared.

        Raises:
            MissingError: a file is absent, or was changed.
        """
        plans = [plan for chunk in self.chunks for plan in chunk.plans]
        packages: list[Chunk | PlanPackage] = [*self.chunks, *plans]
        expected = {folder / part.file / name: entry for part in packages for name, entry in part.files.items()}
        if self.golden is not None:
            expected[folder / GOLDEN] = self.golden
        for path, (size, digest) in expected.items():
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes instead of {size}"
                raise MissingError(f"{path} {state}: the package is damaged", "convert the model again")
            if contents and _sha256(path) != digest:
                raise MissingError(f"{path} was changed after it was written", "convert the model again")


def _sha256(path: Path) -> str:
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def builds_directory(fingerprint: str) -> Path:
    """Folder of the builds of the model with this fingerprint."""
    return derived_directory(fingerprint) / FOLDER


def find_build(model: Path, fingerprint: str, name: str | None) -> tuple[Path, Build]:
    """Return the build to use, with its folder.

    Args:
        model: directory of the model, for the message.
        fingerprint: of the model.
        name: what the user chose; none: the only one, or else ``float16``.

    Raises:
        MissingError: there is none, it is damaged, or it belongs to another model.
        UsageError: several fit and none was chosen.
    """
    folder = builds_directory(fingerprint)
    names = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
    if not names or (name is not None and name not in names):
        missing = "no Core ML packages" if name is None else f"no Core ML build {name!r}"
        there = f" (there are: {', '.join(names)})" if names else ""
        raise MissingError(
            f"{missing} of this model in {folder}{there}", f"create them with: dotsctl convert {model} --encoder coreml"
        )
    if name is None and len(names) > 1 and STANDARD_BUILD not in names:
        raise UsageError(f"there are several builds: {', '.join(names)}", "choose one with --encoder coreml:build=NAME")
    chosen = folder / (name or (names[0] if len(names) == 1 else STANDARD_BUILD))
    build = Build.read(chosen)
    if build.fingerprint != fingerprint:
        raise MissingError(
            f"{chosen} is from another checkpoint ({build.fingerprint[:12]}) than {model} ({fingerprint[:12]})",
            f"dotsctl convert {model} --encoder coreml",
        )
    build.check_files(chosen)
    return chosen, build
