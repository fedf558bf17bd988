"""The facts about models on this machine: path, size, source, and what was derived from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl.client.files.partial_folder import PARTIAL, REMOVED, REPLACED
from dotsctl.client.files.sizes import tree_bytes
from dotsctl.client.models.record import PullRecord, read_record
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.directory import (
    DEMO,
    cached_fingerprint,
    demo_directory,
    derived_directory,
    fingerprint,
    installed_models,
    models_directory,
)
from dotsctl.protocol.model.quantisation import StoredQuantisation, stored_quantisation
from dotsctl.protocol.model.weights import HalfFacts, half_facts, read_headers
from dotsctl.protocol.parts import Role

CHEAP_BYTES = 64_000_000
"""A model of at most this size is hashed whenever its fingerprint is needed; a larger one takes seconds."""


@dataclass(frozen=True)
class Derived:
    """A thing that was derived from a model."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine."""

    name: str
    folder: Path
    """The path as it was found; a link is not followed."""
    size_bytes: int
    """The size of the files, also where a link leads to them."""
    record: PullRecord | None
    """The source of the model; none for one that was not pulled."""
    fingerprint: str | None
    """The fingerprint; none where it is not known without reading all weights."""
    derived: tuple[Derived, ...]
    """Empty also where the fingerprint is not known."""

    @property
    def link(self) -> Path | None:
        """The real path of a linked model; none for one that is no link."""
        return self.folder.resolve() if self.folder.is_symlink() else None


def local_model(name: str, folder: Path, *, hashing: bool) -> LocalModel:
    """Facts of one model.

    Args:
        name: of the model.
        folder: where it lies, or a link to that.
        hashing: whether to read all weights, if the fingerprint is not known otherwise.
    """
    size_bytes = tree_bytes(folder, of_links=True)
    digest = model_fingerprint(folder) if hashing or size_bytes <= CHEAP_BYTES else cached_fingerprint(folder.resolve())
    return LocalModel(name, folder, size_bytes, read_record(folder), digest, derived_from(digest) if digest else ())


def model_fingerprint(folder: Path) -> str:
    """Fingerprint of a model, under the path by which the workers know it."""
    return fingerprint(folder.resolve())


def local_models() -> list[LocalModel]:
    """The installed models, then the demo model; no large model is hashed for it."""
    folder = models_directory()
    installed = [local_model(name, folder / name, hashing=False) for name in installed_models()]
    return [*installed, local_model(DEMO, demo_directory(), hashing=True)]


def derived_from(digest: str) -> tuple[Derived, ...]:
    """Return what was derived from the model with this fingerprint."""
    folder = derived_directory(digest)
    if not folder.is_dir():
        return ()
    return tuple(Derived(entry.name, tree_bytes(entry)) for entry in sorted(folder.iterdir()))


def unused_derived(used: set[str]) -> list[Path]:
    """Return the folders of what was derived from models with other fingerprints than these."""
    folder = derived_directory("").resolve()
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name not in used)


def leftovers() -> list[Path]:
    """Hidden folders that an interrupted download or removal has left in the models folder."""
    folder = models_directory()
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.name[0] == "." and path.suffix in (PARTIAL, REPLACED, REMOVED)
    )


def tensor_facts(folder: Path, config: Mapping[str, Any]) -> dict[Role, HalfFacts]:
    """Count the weights of both halves without reading them.

    Args:
        folder: of the model.
        config: its config.json, which says how matrices are packed; if it is wrong, they count as they are stored.

    Raises:
        MissingError: a file is damaged.
    """
    try:
        quantised = stored_quantisation(config)
    except UsageError:
        quantised = StoredQuantisation()
    return half_facts(read_headers(folder), quantised)
