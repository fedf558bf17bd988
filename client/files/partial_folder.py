"""The hidden folder in which a model grows next to its later path, until it is complete."""

import os
from pathlib import Path

from dotsctl.client.files.folders import install, remove_tree
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.locks import try_lock

PARTIAL, REPLACED, REMOVED = ".partial", ".replaced", ".removed"
LOCK = ".lock"


def hidden(path: Path, ending: str) -> Path:
    """Sibling of a model's folder that no command takes for a model."""
    return path.with_name(f".{path.name}{ending}")


class PartialFolder:
    """The folder ``.NAME.partial`` of a model, for one process at a time; what it holds outlives an interruption.

    To be used as a context manager.
    """

    def __init__(self, target: Path) -> None:
        """Prepare for the model whose later path is ``target``."""
        self.target = target
        self.path = hidden(target, PARTIAL)
        self._replaced = hidden(target, REPLACED)
        self._fd = -1

    def __enter__(self) -> "PartialFolder":
        """Make the folder, or take it over from an earlier attempt.

        Raises:
            CommandFailedError: another process works in it, or its volume supports no locks.
            OSError: it cannot be made.
        """
        lock = self.path / LOCK
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                is_ours = try_lock(self._fd)
            except OSError as error:
                os.close(self._fd)
                raise CommandFailedError(
                    f"cannot lock {lock}: {error.strerror}", "set DOTSCTL_MODELS to a folder on another volume"
                ) from None
            if not is_ours:
                os.close(self._fd)
                raise CommandFailedError(
                    f"another process is downloading the model {self.target.name!r}",
                    "wait for it, or stop it",
                )
            if lock.exists() and lock.stat().st_ino == os.fstat(self._fd).st_ino:
                break
            os.close(self._fd)  # the holder before us has finished, and with it went this file
        if self._replaced.exists() and not os.path.lexists(self.target):  # a crash between the two steps of install
            self._replaced.rename(self.target)
        return self

    def __exit__(self, *_: object) -> None:
        """Let others work in it."""
        os.close(self._fd)

    def keep_only(self, names: set[str]) -> None:
        """Remove what is no part of the model."""
        for entry in self.path.iterdir():
            if entry.name not in {*names, LOCK}:
                remove_tree(entry) if entry.is_dir() else entry.unlink()

    def discard(self) -> None:
        """Remove what was downloaded, since it will never be a model. Raises OSError."""
        (self.path / LOCK).unlink()
        remove_tree(self.path)

    def install(self) -> None:
        """Give the complete model its name; a model that has it is replaced.

        Raises:
            OSError: the folder cannot be renamed; then the old model is still there.
        """
        (self.path / LOCK).unlink()
        install(self.path, self.target, self._replaced)
