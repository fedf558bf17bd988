"""Removing models, and what was derived from them."""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.files.folders import remove_tree
from dotsctl.client.files.partial_folder import PARTIAL, REMOVED, REPLACED, PartialFolder, hidden
from dotsctl.client.files.sizes import tree_bytes
from dotsctl.client.models.facts import model_fingerprint, unused_derived
from dotsctl.client.models.use import refuse_if_used
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.model.directory import (
    DEMO,
    demo_directory,
    derived_directory,
    find_model,
    installed_models,
    models_directory,
)


@dataclass(frozen=True)
class Removal:
    """The files and folders that are removed when the user agrees."""

    paths: tuple[Path, ...]
    size_bytes: int
    """The size of what becomes free, in bytes; the target of a link stays."""


def plan_removal(chosen: str, *, derived_only: bool) -> Removal:
    """Plan the removal of what belongs to a model.

    Args:
        chosen: name of an installed model; with ``derived_only`` also a path, or ``demo``.
        derived_only: leave the model itself.

    Raises:
        UsageError: it is the demo model, or a path.
        MissingError: no such model is installed.
        CommandFailedError: a runtime holds it.
    """
    if derived_only:
        name, folder = find_model(chosen)
        refuse_if_used(name, folder)
        return _removal(_derived(folder, chosen=None))
    if chosen == DEMO:
        raise UsageError(
            "the demo model is a part of dotsctl and cannot be removed", "--derived-only removes its conversions"
        )
    if "/" in chosen or chosen.startswith("."):
        raise UsageError(f"{chosen!r} is a path: only models of {models_directory()} are removed, by their names")
    target = models_directory() / chosen
    pieces = [hidden(target, ending) for ending in (REPLACED, REMOVED, PARTIAL)]  # entering the last restores the first
    present = [path for path in (target, *pieces) if path.is_symlink() or path.exists()]
    if not present:
        raise MissingError(
            f"no model {chosen!r} is installed. Installed models: {', '.join(installed_models()) or 'none'}"
        )
    if (target / "config.json").is_file():
        refuse_if_used(chosen, target)
        present += _derived(target, chosen)
    return _removal(present)


def plan_unused() -> Removal:
    """Plan the removal of what was derived from models that are not installed; hashes those without a fingerprint."""
    folders = [demo_directory(), *(models_directory() / name for name in installed_models())]
    return _removal(unused_derived({model_fingerprint(folder) for folder in folders}))


def carry_out(removal: Removal) -> None:
    """Remove; an interruption leaves hidden folders that the same command removes, and never half a model.

    Raises:
        CommandFailedError: something cannot be removed, or is downloaded at this moment.
    """
    for path in removal.paths:
        try:
            if path.name.endswith(PARTIAL):
                with PartialFolder(models_directory() / path.name.removesuffix(PARTIAL)[1:]):
                    remove_tree(path)
            elif path.is_symlink() or path.name.startswith("."):
                remove_tree(path)
            else:
                gone = hidden(path, REMOVED)
                remove_tree(gone)
                path.rename(gone)
                remove_tree(gone)
        except OSError as error:
            raise CommandFailedError(
                f"{error.filename or path} cannot be removed ({error.strerror or error})", "correct its permissions"
            ) from None


def _derived(folder: Path, chosen: str | None) -> list[Path]:
    """Return the folder of what was derived from a model; none if another installed model is the same one."""
    if not derived_directory("").is_dir():
        return []  # nothing was ever made, so that the model need not be hashed
    digest = model_fingerprint(folder)
    made = derived_directory(digest)
    others = [models_directory() / name for name in installed_models() if name != chosen]
    if not made.is_dir() or (chosen and any(model_fingerprint(other) == digest for other in others)):
        return []
    return [made]


def _removal(paths: list[Path]) -> Removal:
    return Removal(tuple(paths), sum(map(tree_bytes, paths)))
