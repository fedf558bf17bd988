"""The check that no running runtime holds a model."""

from pathlib import Path

from dotsctl.client.models.facts import model_fingerprint
from dotsctl.protocol.endpoints import InstanceDirectory, instance_directory, lock_holder, run_directory
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, UsageError


def refuse_if_used(name: str, folder: Path) -> None:
    """Do nothing if no runtime holds the model in ``folder``.

    Raises:
        CommandFailedError: one does, or does not report what it holds.
    """
    for directory in _running():
        try:
            held, digest = _held_by(directory)
        except DotsctlError as error:
            raise CommandFailedError(
                f"the runtime {directory.name!r} does not report which model it uses ({error})",
                f"wait until it is ready, or stop it with 'dotsctl down --name {directory.name}'",
            ) from None
        if (digest == model_fingerprint(folder)) if digest else (held == name):
            raise CommandFailedError(
                f"the model {name!r} is in use by the runtime {directory.name!r} (pid {lock_holder(directory)})",
                f"stop it with 'dotsctl down --name {directory.name}'",
            )


def _running() -> list[InstanceDirectory]:
    """Instances whose lock is held, private ones too."""
    folder = run_directory()
    found = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            directory = instance_directory(entry.name)
        except UsageError:
            continue  # no folder of ours
        if lock_holder(directory) is not None:
            found.append(directory)
    return found


def _held_by(directory: InstanceDirectory) -> tuple[str, str]:
    """Name and fingerprint of a runtime's model; the fingerprint may be empty while it is loaded."""
    from dotsctl.client.connection.status import query_status

    facts = directory.read_facts()
    if facts is not None:
        return facts.model, facts.fingerprint
    status = query_status(directory.name)
    return status.model, status.fingerprint
