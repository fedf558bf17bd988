"""Checks of the runtime directory: who may use it, whether sockets work there, what runs, what dead ones have left."""

import os
import socket
import stat
import tempfile
from functools import partial
from pathlib import Path

from dotsctl.client.connection.status import query_status
from dotsctl.client.files.sizes import memory_text
from dotsctl.protocol.endpoints import InstanceDirectory, instance_directory, instances, lock_holder, run_directory
from dotsctl.protocol.errors import DotsctlError
from dotsctl.tools.doctor.report import Check, Finding, fail, ok, warn
from dotsctl.tools.doctor.setup import Setup

ELSEWHERE = "set DOTSCTL_RUNTIME_DIR to a folder of yours on a local disk, with a short path"
SHOWN = 5


def runtime_checks(setup: Setup) -> list[Check]:
    """The folder, what runs in it, and what is left in it."""
    return [
        Check("runtime directory", partial(check_directory, setup)),
        Check("running", check_running),
        Check("left over", check_left_over),
    ]


def check_directory(setup: Setup) -> Finding:
    """Check whether a runtime can make its folder and its sockets."""
    name = "runtime directory"
    directory = instance_directory(setup.name)  # its errors, as of a path that is too long, are the finding
    folder = run_directory()
    made = not folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="t-", dir=folder) as probe, socket.socket(socket.AF_UNIX) as tried:
            tried.bind(str(Path(probe) / "c.sock"))
    except OSError as error:
        return fail(name, f"no socket can be made in {folder}: {error.strerror or error}", ELSEWHERE)
    finally:
        if made and folder.is_dir():
            folder.rmdir()
    for each in instances():
        status = each.path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or mode & 0o077:
            found = f"{each.path} has mode {mode:04o} and owner {status.st_uid}, not 0700 and {os.geteuid()}"
            return fail(name, found, f"remove it, or {ELSEWHERE}")
    return ok(name, str(directory.path.parent))


def check_running() -> Finding:
    """Check the reports of the running runtimes."""
    answering, silent = [], []
    for each in instances():
        if lock_holder(each) is None:
            continue
        try:
            status = query_status(each.name)
        except DotsctlError as error:
            silent.append(f"{each.name}: {error.problem}")
            continue
        used = memory_text(sum(worker.rss_bytes for worker in status.workers))
        restarts = sum(worker.restarts for worker in status.workers)
        text = f"{each.name}: {status.state}, pid {status.pid}, model {status.model}, {used}"
        answering.append(text + (f", {restarts} restarts of workers, see 'dotsctl logs'" if restarts else ""))
    if silent:
        return warn("running", "\n".join([*answering, *silent]), "end what hangs: dotsctl down --now --name NAME")
    return ok("running", "\n".join(answering) or "none")


def check_left_over() -> Finding:
    """Check what instances have left that were killed together with the machine or all of their processes."""
    dead = [each for each in instances() if lock_holder(each) is None and _files(each)]
    if not dead:
        return ok("left over", "nothing")
    named = ", ".join(each.name for each in dead[:SHOWN]) + (", ..." if len(dead) > SHOWN else "")
    paths = " ".join(str(each.path) for each in dead[:SHOWN])
    return warn(
        "left over",
        f"files of {len(dead)} that ended without cleaning up: {named}",
        f"they do no harm, the next start under the same name removes them; or now: rm -r {paths}",
    )


def _files(directory: InstanceDirectory) -> list[Path]:
    """Return the files besides logs, or all files of a private instance, whose folder goes completely."""
    private = directory.name.startswith("p-")
    return [path for path in directory.path.iterdir() if private or path.name != "log"]
