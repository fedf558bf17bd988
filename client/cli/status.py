"""The output of ``status``, ``logs``, ``version`` and ``bench``."""

import importlib.metadata
import json
import platform
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl import __version__
from dotsctl.client.connection.log_files import cut_off
from dotsctl.client.files.sizes import memory_text
from dotsctl.protocol import PROTOCOL_VERSION
from dotsctl.protocol.machine.libraries import COREMLTOOLS, MLX, MLX_LM
from dotsctl.protocol.messages import Status
from dotsctl.protocol.parts import WorkerReport

if TYPE_CHECKING:
    from dotsctl.client.connection.status import RuntimeSummary

LIBRARIES = (MLX, MLX_LM, COREMLTOOLS, "numpy", "pillow", "pyzmq", "msgpack", "tokenizers", "faiss-cpu")


def render_line(status: Status) -> str:
    """Return the complete status of the runtime as one line of JSON."""
    return json.dumps(asdict(status)) + "\n"


def render_json(status: Status) -> str:
    """Return the complete status of the runtime as one JSON object."""
    return json.dumps(asdict(status), indent=2) + "\n"


def render_runtimes(runtimes: "Sequence[RuntimeSummary]", as_json: bool) -> str:
    """All running runtimes, at least one: a table for people; or a JSON array."""
    if as_json:
        return json.dumps([asdict(each) for each in runtimes], indent=2) + "\n"
    shown = [asdict(each) for each in runtimes]
    rows = [[name.upper() for name in shown[0]], *([str(value) for value in each.values()] for each in shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


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
    if worker.readiness:
        text += f", readiness page {worker.readiness} {_duration(worker.readiness_age_s)} ago"
    if worker.busy_for_s >= 1:
        text += f", on this step for {_duration(worker.busy_for_s)}"
    if worker.rss_bytes:
        text += f", {memory_text(worker.rss_bytes)}, peak {memory_text(worker.peak_bytes)}"
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
