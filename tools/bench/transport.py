"""``dotsctl bench transport``: our way of embeddings to the decoder against a bare PUSH/PULL of the same frames."""

import multiprocessing
import statistics
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq
from dotsctl.protocol import codec, tensor
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Embeddings
from dotsctl.protocol.parts import FRAME_BYTES, PageOptions
from numpy.typing import NDArray

LIMIT = 1.3
WIDTH = 1536
WARM_UP_ROUNDS = 5
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class TransportOutcome:
    """Medians in milliseconds, from an array in the sender to an array in the receiver."""

    ours_ms: float
    bare_ms: float

    @property
    def ratio(self) -> float:
        """Ours over bare."""
        return self.ours_ms / self.bare_ms

    def verdict(self) -> str:
        """Return the cost of the transport in one sentence."""
        times = f"{self.ours_ms:.2f} ms against {self.bare_ms:.2f} ms"
        return f"The transport takes {self.ratio:.2f} times as long as bare ZeroMQ ({times}; the limit is {LIMIT})."


def measure(rounds: int, mib: float) -> TransportOutcome:
    """Send ``mib`` MiB of embeddings in both ways, in turns."""
    with tempfile.TemporaryDirectory(prefix="d") as folder, Links() as links, zmq.Context() as context:
        ours_endpoint, bare_endpoint = f"ipc://{Path(folder) / 'ours'}", f"ipc://{Path(folder) / 'bare'}"
        pull = links.pull(ours_endpoint)
        bare = context.socket(zmq.PULL)
        bare.setsockopt(zmq.RCVTIMEO, int(TIMEOUT_S * 1000))
        bare.bind(bare_endpoint)
        spawn = multiprocessing.get_context("spawn")
        go, theirs = spawn.Pipe()
        sender = spawn.Process(target=_send, args=(theirs, ours_endpoint, bare_endpoint, mib), daemon=True)
        sender.start()
        try:
            ours_ms, bare_ms = [], []
            for _ in range(WARM_UP_ROUNDS + rounds):
                go.send("ours")
                ours_ms.append((_receive_ours(links, pull) - go.recv()) * 1000)
                go.send("bare")
                bare_ms.append((_receive_bare(bare) - go.recv()) * 1000)
            go.send("end")
            sender.join(TIMEOUT_S)
        finally:
            sender.kill()
            sender.join(TIMEOUT_S)
            bare.close(linger=0)
    return TransportOutcome(statistics.median(ours_ms[WARM_UP_ROUNDS:]), statistics.median(bare_ms[WARM_UP_ROUNDS:]))


def _receive_ours(links: Links, pull: Link) -> float:
    """Receive as the decoder does; return the time at which the embeddings are an array."""
    if not links.wait(TIMEOUT_S, [pull]):
        raise CommandFailedError(f"no embeddings came within {TIMEOUT_S:.0f} s")
    incoming = pull.receive()
    if incoming is None:
        raise CommandFailedError("the data plane was readable and had no message")
    received = codec.decode(incoming.frames)
    if not isinstance(received.message, Embeddings):
        raise CommandFailedError(f"{type(received.message).__name__} came instead of embeddings")
    tensor.assemble(received.message.tensor, received.buffers)
    return time.monotonic()


def _receive_bare(socket: "zmq.Socket[bytes]") -> float:
    """Frames copied out into one array; the time when they are."""
    frames = socket.recv_multipart(copy=False)
    values = np.empty(sum(len(frame.buffer) for frame in frames), np.uint8)
    start = 0
    for frame in frames:
        part = np.frombuffer(frame.buffer, np.uint8)
        values[start : start + len(part)] = part
        start += len(part)
    return time.monotonic()


def _send(commands: Connection, ours_endpoint: str, bare_endpoint: str, mib: float) -> None:
    """The sender's process: a new array for each round, as an encoder makes it."""
    rows = max(1, round(mib * 2**20 / (4 * WIDTH)))
    with Links() as links, zmq.Context() as context:
        push = links.push(ours_endpoint)
        bare = context.socket(zmq.PUSH)
        bare.setsockopt(zmq.LINGER, 0)
        bare.connect(bare_endpoint)
        while (command := commands.recv()) != "end":
            values = np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)
            started = time.monotonic()
            if command == "ours":
                _send_ours(links, push, values)
            else:
                view = values.data.cast("B")
                bare.send_multipart([view[i : i + FRAME_BYTES] for i in range(0, len(view), FRAME_BYTES)], copy=False)
            commands.send(started)
        bare.close(linger=0)


def _send_ours(links: Links, push: Link, values: NDArray[np.float32]) -> None:
    """Send a page's embeddings as the encoder does."""
    size = (28 * values.shape[0], 28)
    message = Embeddings(
        request_id=1,
        attempt=1,
        tensor=tensor.describe(values, "<f4"),
        rows=(values.shape[0],),
        geometries=(PageGeometry(size, 1, size, (1.0, 1.0), (0.0, 0.0)),),
        options=PageOptions("text", None, None, None),
        timings_ms={},
    )
    frames = codec.encode(message, [values.data])
    while not push.send(frames):
        links.wait(TIMEOUT_S, writable=[push])
