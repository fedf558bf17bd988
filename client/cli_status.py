"""What ``status``, ``logs``, ``version`` and ``bench`` show."""

import importlib.metadata
import json
import platform
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from dotsctl import __version__
from dotsctl.client.log_files import cut_off
from dotsctl.client.sizes import memory_text
from dotsctl.protocol import PROTOCOL_VERSION
from dotsctl.protocol.endpoints import instance_directory, lock_holder
from dotsctl.protocol.errors import RuntimeLostError
from dotsctl.protocol.messages import Status
from dotsctl.protocol.parts import WorkerReport

STATUS_TIMEOUT_S = 10.0
LIBRARIES = ("mlx", "mlx-lm", "coremltools", "numpy", "pillow", "pyzmq", "msgpack", "tokenizers", "faiss-cpu")


def ask_status(instance: str) -> Status:
    """Ask a running runtime; raises RuntimeLostError when there is none."""
    from dotsctl.client.session import Session

    directory = instance_directory(instance)
    if lock_holder(directory) is None:
        raise RuntimeLostError(f"the runtime {instance!r} is not running: start it with 'dotsctl up -d'")
    session = Session(directory, STATUS_TIMEOUT_S, hello=False)
    try:
        return session.status()
    finally:
        session.close()


def watch_status(instance: str, pause_s: float, show: Callable[[Status], None]) -> None:
    """Ask again and again over one connection; raises RuntimeLostError when the runtime has ended."""
    from dotsctl.client.session import Session

    directory = instance_directory(instance)
    show(ask_status(instance))
    session = Session(directory, STATUS_TIMEOUT_S, hello=False)
    try:
        while True:
            select.select([], [], [], pause_s)
            show(session.status())
    finally:
        session.close()


def render_line(status: Status) -> str:
    """Everything that the runtime tells, as one line of JSON."""
    return json.dumps(asdict(status)) + "\n"


def render_json(status: Status) -> str:
    """Everything that the runtime tells, as one JSON object."""
    return json.dumps(asdict(status), indent=2) + "\n"


def render_text(instance: str, status: Status) -> str:
    """A few lines for people."""
    return "\n".join([*_status_lines(instance, status), ""])


def _status_lines(instance: str, status: Status) -> Iterator[str]:
    yield f"{instance}: {status.state}, pid {status.pid}, up {_duration(status.uptime_s)}, dotsctl {status.version}"
    yield f"model     {status.model} ({status.fingerprint[:12] or 'no fingerprint'})"
    for worker in status.workers:
        yield f"{worker.name:<9} {_worker(worker)}"
    used = sum(worker.rss_bytes for worker in status.workers)
    limit = f" of {memory_text(status.memory_bytes)}" if status.memory_bytes else ""
    yield f"memory    {memory_text(used)}{limit}, of the workers"
    requests = ", ".join(f"{count} {state}" for state, count in status.requests.items() if count)
    yield f"requests  {requests or 'none'}; {status.clients} client{'s' * (status.clients != 1)}"


def _worker(worker: WorkerReport) -> str:
    text = f"{worker.plugin}: {worker.state}"
    if worker.pid:
        text += f", pid {worker.pid}, {worker.pages} pages, busy {worker.busy_share:.0%}"
    if worker.busy_for_s >= 1:
        text += f", on this step for {_duration(worker.busy_for_s)}"
    if worker.rss_bytes:
        text += f", {memory_text(worker.rss_bytes)}, at most {memory_text(worker.peak_bytes)}"
    if worker.restarts:
        text += f", {worker.restarts} restarts" + (f", last: {worker.last_exit}" if worker.last_exit else "")
    return f"{text}; {worker.note}" if worker.note else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def last_lines(path: Path, count: int) -> str:
    """The last lines of a log, each complete; also of what was cut off it."""
    lines: deque[bytes] = deque(maxlen=count)
    try:
        for piece in (*cut_off(path), path):
            with piece.open("rb") as file:
                lines.extend(file)
    except OSError as error:
        return f"(cannot be read: {error.strerror})\n"
    text = b"".join(lines).decode("utf-8", "replace")
    return text if not text or text.endswith("\n") else text + "\n"


def render_versions(as_json: bool) -> str:
    """Versions of dotsctl, of its protocol, of Python and of the libraries that decide what is read."""
    facts = {
        "dotsctl": __version__,
        "protocol": ".".join(map(str, PROTOCOL_VERSION)),
        "python": platform.python_version(),
        "system": f"macOS {platform.mac_ver()[0]}" if platform.mac_ver()[0] else platform.system(),
        "machine": platform.machine(),
    }
    libraries = {name: _library_version(name) for name in LIBRARIES}
    if as_json:
        return json.dumps({**facts, "libraries": libraries}, indent=2) + "\n"
    shown = {**facts, **{name: found or "not installed" for name, found in libraries.items()}}
    return "".join(f"{name:<12} {value}\n" for name, value in shown.items())


def _library_version(name: str) -> str | None:
    """Version of a distribution, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def run_tool(tool: str, arguments: Sequence[str]) -> int:
    """Run a program of ``tools/`` in its own process, to its end; returns its exit code.

    Ctrl-C reaches the tool directly, as it belongs to the same terminal, and the tool decides when it ends.
    """
    command = [sys.executable, "-P", "-m", f"dotsctl.tools.{tool}", *arguments]
    # A function that does nothing, because the child would inherit SIG_IGN.
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.Popen(command).wait()
    finally:
        signal.signal(signal.SIGINT, previous)
    return code if code >= 0 else 128 - code
