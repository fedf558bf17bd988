"""Starts and stops runtime processes."""

import contextlib
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.connection.log_files import RUNTIME_LOG, last_line
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol import endpoints, left_workers
from dotsctl.protocol.endpoints import InstanceDirectory, InstanceLock, RuntimeFacts
from dotsctl.protocol.errors import (
    ANSWERS,
    AlreadyRunningError,
    CommandFailedError,
    DotsctlError,
    ExitCode,
    MissingError,
    UsageError,
)

SECRET = re.compile(r"(?i)(?:^|_)(?:PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIALS?|API_?KEY|ACCESS_KEY)(?:_|$)")
"""Names of variables that hold secrets, as DOTSCTL_PASSWORD, HF_TOKEN and OPENAI_API_KEY."""
STOP_TIMEOUT_S = 20.0
KILL_TIMEOUT_S = 5.0


def private_name() -> str:
    """A name for a runtime that belongs to this process."""
    return f"{endpoints.PRIVATE_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"


@dataclass
class RuntimeProcess:
    """A runtime that this process has started."""

    process: "subprocess.Popen[bytes]"
    directory: InstanceDirectory
    ready_fd: int
    private: bool

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until all workers are ready.

        Raises:
            DotsctlError: the start failed; the error has the reason and the exit code that the runtime named.
        """
        try:
            line = _read_line(self.ready_fd, timeout_s)
        finally:
            os.close(self.ready_fd)
        if line:
            outcome = json.loads(line)
            if outcome["exit_code"] == ExitCode.OK:
                return
            self.end(now=False)
            raise _start_error(outcome["exit_code"], outcome["reason"])
        self.end(now=True)
        if line is None:
            raise CommandFailedError(f"the runtime was not ready after {timeout_s:.0f} s and was stopped")
        raise CommandFailedError(f"the runtime ended at once (exit code {self.process.returncode})")

    def end(self, *, now: bool) -> None:
        """End a private runtime by closing its lifeline, or a named one by a signal, and wait until it is gone."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        elif self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(KILL_TIMEOUT_S if now else STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(KILL_TIMEOUT_S)
        if self.private:
            shutil.rmtree(self.directory.path, ignore_errors=True)


def _read_line(fd: int, timeout_s: float) -> bytes | None:
    """Read a pipe up to a line's end or its own end; none when neither comes within the time."""
    poller = select.poll()  # select() takes no descriptor above 1023, which programs with many files reach
    poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):  # a long line comes in pieces
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        piece = os.read(fd, 1 << 16)
        if not piece:
            return b""
        line += piece
    return line


def _start_error(exit_code: int, reason: str) -> DotsctlError:
    """The error with which the runtime's start failed, as the error class of its exit code."""
    classes: tuple[type[DotsctlError], ...] = (UsageError, MissingError, AlreadyRunningError)
    for cls in classes:
        if ANSWERS[cls.code].exit_code == exit_code:
            return cls(reason)
    return CommandFailedError(reason)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that a runtime, its workers and their plugins get.

    Passwords and tokens are of no use to them: documents are opened, and models downloaded, by the client.
    """
    return {name: value for name, value in environment.items() if not SECRET.search(name)}


def start(config: RuntimeConfig, *, private: bool) -> RuntimeProcess:
    """Start a runtime process; it is not ready when this returns.

    A private one ends with this process: its standard input is a pipe that only we hold. A named one stays.

    Raises:
        CommandFailedError: its folders cannot be made, or the system starts no process.
    """
    directory = endpoints.instance_directory(config.instance)
    endpoints.remove_dead_private()
    endpoints.create(directory)
    log_folder = endpoints.log_directory(directory, private=private)
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "dotsctl.client.runtime", "--config", config.to_json()]
    command += ["--ready-fd", str(writer), *(["--private"] if private else [])]
    try:
        log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (log_folder / RUNTIME_LOG).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if private else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory.path,
                env=without_secrets(os.environ),
                pass_fds=[writer],
                start_new_session=True,  # a Ctrl-C in the terminal is for the caller, who decides what ends
            )
    except OSError as error:
        os.close(reader)
        raise CommandFailedError(f"the runtime cannot be started: {error}", f"check its logs in {log_folder}") from None
    finally:
        os.close(writer)
    return RuntimeProcess(process, directory, reader, private)


def _end_left(directory: InstanceDirectory) -> int:
    """End the workers that a killed runtime of this name has left, and print so; return how many there were."""
    num_ended = 0
    if left_workers.marks(directory.path):
        with contextlib.suppress(AlreadyRunningError), contextlib.ExitStack() as stack:
            stack.callback(InstanceLock(directory).release)
            num_ended = left_workers.end_left(directory.path)
    if num_ended:
        text = f"ended {num_ended} worker{'s' * (num_ended != 1)} that a killed runtime {directory.name!r} had left"
        print(text, file=sys.stderr, flush=True)
    return num_ended


def start_detached(config: RuntimeConfig, timeout_s: float) -> RuntimeFacts:
    """Start a named runtime that outlives this process; returns when it is ready.

    Raises:
        AlreadyRunningError: an instance of that name runs.
        CommandFailedError: it did not become ready.
    """
    _prepare(config.instance)
    runtime = start(config, private=False)
    runtime.wait_ready(timeout_s)
    runtime.process.returncode = 0  # not ours to wait for any more
    facts = runtime.directory.read_facts()
    if facts is None:
        raise CommandFailedError(f"the runtime is ready, but {runtime.directory.facts_path} cannot be read")
    return facts


def start_foreground(config: RuntimeConfig, timeout_s: float = 900.0) -> int:
    """Run a named runtime until it ends or a signal ends it; returns its exit code.

    The first SIGINT, SIGTERM or SIGHUP lets it finish the accepted pages, the second ends it now.
    """
    _prepare(config.instance)
    runtime = start(config, private=False)

    def forward(number: int, _: object) -> None:
        runtime.process.send_signal(signal.SIGTERM)

    previous = {n: signal.signal(n, forward) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        runtime.wait_ready(timeout_s)
        print(f"ready, pid {runtime.process.pid}; end with Ctrl-C or 'dotsctl down'", file=sys.stderr, flush=True)
        code = runtime.process.wait()
        if code:
            log = endpoints.log_directory(runtime.directory, private=False) / RUNTIME_LOG
            print(f"the runtime has ended (exit code {code}): {last_line(log)}", file=sys.stderr, flush=True)
        return code
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _prepare(name: str) -> None:
    """Make sure that nothing of this name runs. Raises AlreadyRunningError."""
    directory = endpoints.instance_directory(name)
    pid = endpoints.lock_holder(directory)
    if pid is not None:
        raise AlreadyRunningError(
            f"instance {name!r} is already running (pid {pid})", "use it, or stop it with 'dotsctl down'"
        )
    _end_left(directory)


def stop(name: str, *, now: bool, timeout_s: float) -> None:
    """Stop a named runtime, and return only when its processes are gone and its lock is free.

    Raises:
        CommandFailedError: it is not running, or did not end; the message says which process is left.
    """
    directory = endpoints.instance_directory(name)
    pid = endpoints.lock_holder(directory)
    if pid is None:
        if _end_left(directory):
            return
        raise CommandFailedError(f"instance {name!r} is not running")
    if not pid:  # it has the lock and has not written its number yet; a signal to 0 would be one to ourselves
        raise CommandFailedError(f"instance {name!r} is still starting", "run the command again")
    deadline = time.monotonic() + timeout_s
    _signal(pid, signal.SIGQUIT if now else signal.SIGTERM)
    if _gone(directory, deadline) and _exited(pid, deadline):
        return
    _signal(pid, signal.SIGKILL)  # the workers end with their lifelines
    deadline = time.monotonic() + KILL_TIMEOUT_S
    if not (_gone(directory, deadline) and _exited(pid, deadline)):
        raise CommandFailedError(f"instance {name!r} (pid {pid}) does not end; its lock {directory.lock_path} is held")
    _end_left(directory)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone(directory: InstanceDirectory, deadline: float) -> bool:
    """Wait until the runtime's lock is free: its end frees it, when its workers are reaped; works in any thread."""
    pause, first = select.poll(), 0
    while (holder := endpoints.lock_holder(directory)) is not None:
        first = first or holder
        if holder not in (0, first):
            return True  # the next one was started meanwhile
        if time.monotonic() >= deadline:
            return False
        if not holder or _exited(holder, deadline):  # its number is not written yet, or the lock is about to be free
            pause.poll(20)
    return True


def _exited(pid: int, deadline: float) -> bool:
    """Wait for the end of a process that need not be our child."""
    timeout_s = max(0.0, deadline - time.monotonic())
    try:
        if sys.platform == "linux":
            fd = os.pidfd_open(pid)
            try:
                ended = select.poll()  # select() takes no descriptor above 1023
                ended.register(fd, select.POLLIN)
                return bool(ended.poll(timeout_s * 1000))
            finally:
                os.close(fd)
        with contextlib.closing(select.kqueue()) as queue:
            event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            return bool(queue.control([event], 1, timeout_s))
    except ProcessLookupError:
        return True


def log_files(name: str) -> dict[str, Path]:
    """Newest log file by role (``runtime``, ``encoder``, ``decoder``) of an instance, running or not."""
    folder = endpoints.log_directory(endpoints.instance_directory(name), private=False)
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*.log"), key=lambda p: p.stat().st_mtime):
        newest[path.name.split(".")[0]] = path
    return newest
