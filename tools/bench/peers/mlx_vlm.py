"""Reads the pages of a comparison with mlx-vlm: ``batch_generate``, page after page, or its server."""

import base64
import json
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.worker.blas import blas_kernels, blas_libraries
from dotsctl.tools.bench.peers.environment import peer_variables, run_peer
from dotsctl.tools.bench.peers.run import Run, blas_threads
from dotsctl.tools.bench.peers.workload import PROMPT
from dotsctl.tools.measuring.memory import peak_bytes, processor_s

PROGRAM = Path(__file__).with_name("program.py")
BATCH, SEQUENTIAL, SERVER = "batch", "sequential", "server"
START_S, ANSWER_S = 120.0, 3600.0


def side(way: str) -> str:
    """Name of one way to use mlx-vlm, for tables."""
    return f"mlx-vlm {way}"


def read(python: Path, way: str, model: Path, files: Sequence[Path], max_tokens: int, threads: int) -> Run:
    """Read the pages once with ``batch`` or ``sequential``, after one page that warms the model up.

    Args:
        python: of the environment with mlx-vlm.
        way: the function of mlx-vlm.
        model: folder of the checkpoint.
        files: the pages.
        max_tokens: length of every answer.
        threads: BLAS threads; 0: as the library chooses.

    Raises:
        CommandFailedError: mlx-vlm failed.
    """
    libraries = blas_libraries()
    job = {
        "way": way,
        "model": str(model),
        "files": list(map(str, files)),
        "prompt": PROMPT,
        "max_tokens": max_tokens,
        "libraries": libraries,
    }
    with tempfile.TemporaryDirectory() as scratch, blas_threads(threads):
        folder = Path(scratch)
        (folder / "job.json").write_text(json.dumps(job))
        run_peer(python, PROGRAM, folder, blas_kernels(libraries))
        result = json.loads((folder / "result.json").read_text())
    return Run(
        side(way),
        threads,
        len(files) if way == BATCH else 1,
        result["wall_s"],
        result["cpu_s"],
        result["peak_bytes"],
        len(files),
        result["tokens"],
        tuple(result["first_token_s"]),
    )


def serve(
    python: Path, model: Path, files: Sequence[Path], max_tokens: int, clients: Sequence[int], threads: int
) -> list[Run]:
    """Read the pages once for each number of ``clients`` that send requests at the same time, with one server.

    Raises:
        CommandFailedError: the server did not start, or answered with an error.
    """
    with blas_threads(threads), _server(python, model) as (port, pid):
        _post(port, model, files[0], max_tokens)
        return [_load(port, pid, model, files, max_tokens, count, threads) for count in clients]


def _load(port: int, pid: int, model: Path, files: Sequence[Path], max_tokens: int, clients: int, threads: int) -> Run:
    before, started = processor_s(pid), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        tokens = list(pool.map(lambda file: _post(port, model, file, max_tokens), files))
    wall_s = time.perf_counter() - started
    cpu_s = processor_s(pid) - before
    return Run(side(SERVER), threads, clients, wall_s, cpu_s, peak_bytes(pid), len(files), sum(tokens))


@contextmanager
def _server(python: Path, model: Path) -> Iterator[tuple[int, int]]:
    """The port and the process of a server that is ready; it ends with the block. Raises CommandFailedError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = peer_variables()
    if libraries := blas_libraries():
        # The server is mlx-vlm's own program, which loads none: the system's loader does it.
        variables |= blas_kernels(libraries)
        variables["LD_PRELOAD"] = libraries[-1]
        variables["LD_LIBRARY_PATH"] = str(Path(libraries[-1]).parent)
    command = [str(python), "-P", "-m", "mlx_vlm.server", "--model", str(model)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=variables, stdout=log, stderr=log
        )
        try:
            _await(server, port)
            yield port, server.pid
        except CommandFailedError:
            log.seek(0)
            tail = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise CommandFailedError(f"the server of mlx-vlm failed: {''.join(tail) or 'no message'}") from None
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _await(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline, pause = time.monotonic() + START_S, threading.Event()
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            pause.wait(0.2)
    raise CommandFailedError("it did not start")


def _post(port: int, model: Path, file: Path, max_tokens: int) -> int:
    """Send one page as an OpenAI client does; return the tokens of its answer. Raises CommandFailedError."""
    picture = base64.b64encode(file.read_bytes()).decode()
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "text", "text": PROMPT},
    ]
    body = {
        "model": str(model),
        "max_tokens": max_tokens,
        "temperature": 0,
        "messages": [{"role": "user", "content": content}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            usage = json.load(answer)["usage"]
    except (OSError, ValueError, KeyError) as error:
        raise CommandFailedError(f"{type(error).__name__}: {error}") from None
    return int(usage.get("completion_tokens") or usage["output_tokens"])
