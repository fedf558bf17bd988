"""Installing a dots.ocr snapshot from the Hugging Face Hub as a model.

Everything that can be refused is refused before the large files are fetched, see ``fitness.py``. The model grows in a
hidden folder and gets its name when it is complete and verified, so that no command ever sees a partial one.
"""

import errno
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from dotsctl.client.files.partial_folder import PartialFolder
from dotsctl.client.files.sizes import memory_text, size_text
from dotsctl.client.models.aliases import repositories
from dotsctl.client.models.card import prompts_of
from dotsctl.client.models.download import download, present_bytes
from dotsctl.client.models.fitness import examine, first_weights, select, token_reason
from dotsctl.client.models.hub import Hub, RemoteFile, Snapshot
from dotsctl.client.models.record import PullRecord, read_record, write_record
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.machine.memory import MemoryLimit, memory_limit, pipeline_need
from dotsctl.protocol.model.config import OTHER_BUILD
from dotsctl.protocol.model.directory import DEMO, models_directory
from dotsctl.protocol.model.files import write_file
from dotsctl.protocol.model.tasks import ASK, PROMPTS, tasks_of
from dotsctl.protocol.model.validation import CheckpointFacts, validate_checkpoint
from dotsctl.protocol.worker.mlx import item_bytes

REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SPARE_BYTES = 512_000_000
"""The disk space that stays free in addition to the model, in bytes."""


@dataclass(frozen=True)
class PullRequest:
    """A request to install a model."""

    repo: str
    """``OWNER/NAME``, or a short name, see ``aliases.py``."""
    revision: str | None = None
    name: str | None = None
    """The name under which it is installed; none: the last part of the repository's name."""
    force: bool = False
    """Whether an installed model of that name is replaced."""


class Listener(Protocol):
    """The receiver of the progress of a pull."""

    def line(self, text: str) -> None:
        """A fact, as one line."""

    def begin(self, size_bytes: int) -> None:
        """The files are fetched now; so many bytes in all."""

    def advance(self, size_bytes: int) -> None:
        """Report so many additional bytes; a negative number where bytes were dropped."""


def target_folder(request: PullRequest) -> Path:
    """Return the folder where the model will be.

    Raises:
        UsageError: the repository or the name has a wrong form.
    """
    repo, name = repositories(request.repo)[0], request.name
    if not REPO.fullmatch(repo):
        raise UsageError(f"{repo!r} is not a repository name", "write OWNER/NAME, as rednote-hilab/dots.ocr")
    if name is None:
        name = re.sub(r"[^a-z0-9._-]+", "-", repo.rpartition("/")[2].lower()).lstrip("._-")[:64]
    if not NAME.fullmatch(name):
        raise UsageError(f"a model cannot be named {name!r}", "--name takes up to 64 of a-z, 0-9 and '.', '_', '-'")
    if name == DEMO:
        raise UsageError(f"{DEMO!r} is the model that ships with dotsctl", "choose another name with --name")
    return models_directory() / name


def pull(request: PullRequest, hub: Hub, listener: Listener) -> Path:
    """Install a model; returns its folder.

    Args:
        request: which one.
        hub: where it comes from.
        listener: receives the progress.

    Raises:
        UsageError: the repository or the name has a wrong form.
        CommandFailedError: the Hub refuses or is not reachable, dotsctl cannot use the model, the disk is too small, or
            another model has that name.
    """
    target = target_folder(request)
    snapshot = hub.snapshot(repositories(request.repo), request.revision)
    files = select(snapshot)
    size_bytes = sum(file.size_bytes for file in files)
    listener.line(f"{snapshot.repo}@{snapshot.commit}")
    listener.line(f"{len(files)} files, {size_text(size_bytes)}; licence: {snapshot.licence or 'none stated'}")
    if _is_installed(target, snapshot, request.force):
        listener.line(f"{target.name!r} is already installed")
        return target
    try:
        with PartialFolder(target) as partial:
            partial.keep_only({path.name for path in partial.path.iterdir() if _belongs(path.name, files)})
            _check_disk(partial.path, files)
            listener.line(memory_line(_examined(partial, hub, snapshot, files)))
            listener.begin(size_bytes)
            for file in files:
                if file == first_weights(files):
                    _require_fit(partial, snapshot, token_reason(partial.path))
                download(hub, snapshot, file, partial.path, listener.advance)
            _finish(partial.path, snapshot, files)
            partial.install()
    except OSError as error:
        raise _disk_error(error, target) from None
    return target


def _is_installed(target: Path, snapshot: Snapshot, force: bool) -> bool:
    """Return whether this very commit is installed. Raises CommandFailedError when another thing has the name."""
    if force or not os.path.lexists(target):
        return False
    record = read_record(target)
    if record and record.commit == snapshot.commit:  # the owner may have another name by now
        return True
    there = f"{record.repo}@{record.commit[:12]}" if record else f"{target}, which was not pulled"
    raise CommandFailedError(
        f"the name {target.name!r} is taken by {there}", "--force replaces it, --name NAME keeps both"
    )


def _check_disk(folder: Path, files: list[RemoteFile]) -> None:
    """Refuse what cannot fit. Raises CommandFailedError with both numbers."""
    needed_bytes = sum(file.size_bytes - present_bytes(file, folder) for file in files) + SPARE_BYTES
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise CommandFailedError(
            f"the disk of {folder.parent} has {size_text(free_bytes)} free, {size_text(needed_bytes)} are needed "
            f"({size_text(SPARE_BYTES)} of them in reserve)",
            "make room, or set DOTSCTL_MODELS to a folder on another disk",
        )


def _belongs(name: str, files: list[RemoteFile]) -> bool:
    """Return whether a file of the partial folder is one of these, complete or not yet."""
    return any(name == file.name or file.digest.rpartition(":")[2] in name for file in files)


def _examined(partial: PartialFolder, hub: Hub, snapshot: Snapshot, files: list[RemoteFile]) -> CheckpointFacts:
    """Return what the weights are. Raises CommandFailedError for a model that cannot be loaded, and discards it."""
    try:
        return examine(hub, snapshot, files, partial.path)
    except MissingError as error:
        partial.discard()
        raise _unfit(snapshot, error.problem) from None


def memory_line(facts: CheckpointFacts, machine: MemoryLimit | None = None) -> str:
    """Return one line on the memory that a model takes; ``machine``: another one than this, for tests."""
    machine = machine or memory_limit()
    least_bytes = pipeline_need(facts, item_bytes(None), 0).least_bytes
    line = (
        f"memory: {memory_text(least_bytes)} at least; this machine has {memory_text(machine.usable_bytes)} for a model"
    )
    return line if least_bytes <= machine.usable_bytes else f"warning: {line}; 'dotsctl ls --available' shows what fits"


def _require_fit(partial: PartialFolder, snapshot: Snapshot, reason: str) -> None:
    """Discard a model that cannot be loaded. Raises CommandFailedError if there is a reason."""
    if reason:
        partial.discard()
        raise _unfit(snapshot, reason)


def _finish(folder: Path, snapshot: Snapshot, files: list[RemoteFile]) -> None:
    """Write the prompts, check the complete model, and write the record."""
    prompts = _write_prompts(folder)
    check_snapshot(folder, snapshot)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    digests = {file.name: file.digest for file in files}
    write_record(folder, PullRecord(snapshot.repo, snapshot.commit, snapshot.licence, date, prompts, digests))


def check_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Refuse weights that dotsctl cannot load, before they get a name; every check of a downloaded model belongs here.

    Raises:
        CommandFailedError: a file is missing or wrong.
    """
    try:
        validate_checkpoint(folder)
    except MissingError as error:
        raise _unfit(snapshot, error.problem) from None


def _write_prompts(folder: Path) -> str:
    """Fill prompts.json from the model card where the repository has none; return where the prompts come from.

    Null leaves the prompt to dotsctl: for tasks that the card does not show, and for questions, which are their own
    prompt.
    """
    if (folder / PROMPTS).is_file():
        return "repository"
    cards = sorted(path for path in folder.iterdir() if path.name.lower() == "readme.md")
    prompts = prompts_of(cards[0].read_text("utf-8", errors="replace")) if cards else {}
    if not prompts:
        return ""
    shown: dict[str, str | None] = {**dict.fromkeys(tasks_of(folder)), **prompts}
    if ASK.name in shown:
        shown[ASK.name] = None
    text = json.dumps(shown, indent=2, ensure_ascii=False)
    write_file(folder / PROMPTS, f"{text}\n".encode())
    return "model card"


def _unfit(snapshot: Snapshot, reason: str) -> CommandFailedError:
    """The error for a repository whose files are no model for dotsctl."""
    return CommandFailedError(f"{snapshot.repo} is not a model that dotsctl can use: {reason}", OTHER_BUILD)


def _disk_error(error: OSError, target: Path) -> CommandFailedError:
    """The error for a file or folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CommandFailedError(
            f"the disk of {target.parent} is full", "free some space and pull again; downloaded data is kept"
        )
    return CommandFailedError(
        f"{error.filename or target.parent} cannot be written ({error.strerror or error})",
        "correct its permissions, or set DOTSCTL_MODELS to a folder that you may write to",
    )
