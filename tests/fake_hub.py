"""A Hugging Face Hub on this machine: the endpoints that a pull uses, with faults on demand."""

import hashlib
import json
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.random_checkpoint.shape import Shape

COMMIT = "c0ffee" + "0" * 34
REPO = "somebody/Dots.Small"
STALL_S = 30.0
PIECE_BYTES = 65_536


def safetensors(tensors: dict[str, tuple[str, list[int], int]]) -> bytes:
    """A weight file of zeros; each tensor is type, shape and bytes."""
    header, start = {}, 0
    for name, (kind, shape, size_bytes) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, start + size_bytes]}
        start += size_bytes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(start)


@cache
def _checkpoint() -> dict[str, bytes]:
    """The files of a small random model."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), Shape(32, 1, 64, 1, real_vocabulary=False), "float32")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def snapshot_files(card: str = "# A model\n") -> dict[str, bytes]:
    """The files of a small repository: what is needed, and what is not."""
    return {
        **_checkpoint(),
        "README.md": card.encode(),
        "dots LICENSE AGREEMENT": b"terms",
        "pytorch_model.bin": b"never fetched",
        "modeling_dots.py": b"never fetched",
        "onnx/model.safetensors": b"never fetched",
    }


class FakeHub:
    """One repository."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.repo = REPO
        self.licence: dict[str, Any] = {"license": "other", "license_name": "dots-terms"}
        self.refusal: tuple[int, dict[str, str]] | None = None
        """Status and headers of every answer, in place of all others."""
        self.body = b""
        """Of a refusal."""
        self.wrong: set[str] = set()
        """Files whose bytes do not fit their digest."""
        self.cuts: dict[str, list[int]] = {}
        """By file: after how many bytes of it the next answers break off."""
        self.stalls: dict[str, int] = {}
        """By file: after how many bytes the answer stands still, until ``release``."""
        self.stalled, self.release = threading.Event(), threading.Event()
        self.altered: dict[str, Any] = {}
        """What the repository states of its weights in place of the truth."""
        self.knows_ranges = True
        self.asked: list[tuple[str, str | None]] = []
        """Name and range of every file that was asked for."""
        self.sent_bytes = 0
        """Bytes of files that were written to clients."""
        self.tokens: list[tuple[str, str | None]] = []
        """Path and authorization of every request."""
        self.endpoint = ""

    def repository(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith((".safetensors", ".bin")):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
                sibling |= {key: value for key, value in self.altered.items() if key in sibling}
            siblings.append(sibling)
        commit = self.altered.get("sha", COMMIT)
        return {"id": self.repo, "sha": commit, "cardData": self.licence, "tags": [], "siblings": siblings}


class Answer(BaseHTTPRequestHandler):
    hub: ClassVar[FakeHub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.tokens.append((path, self.headers.get("Authorization")))
        if self.hub.refusal:
            status, headers = self.hub.refusal
            self.reply(status, self.hub.body, headers)
        elif path in (f"/api/models/{self.hub.repo}", f"/api/models/{self.hub.repo}/revision/v1"):
            self.reply(200, json.dumps(self.hub.repository()).encode())
        elif path.startswith(f"/api/models/{self.hub.repo}/revision/"):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/{self.hub.repo}/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/{self.hub.repo}/resolve/{COMMIT}/")
            if name.endswith(".safetensors"):  # large files lie elsewhere, under another host name
                elsewhere = self.hub.endpoint.replace("127.0.0.1", "localhost")
                self.reply(302, b"", {"Location": f"{elsewhere}/cdn/{name}"})
            else:
                self.send_file(name)
        elif path.startswith("/cdn/"):
            self.send_file(path.removeprefix("/cdn/"))
        else:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, name: str) -> None:
        hub, content, wanted = self.hub, self.hub.files[name], self.headers.get("Range")
        hub.asked.append((name, wanted))
        if name in hub.wrong:
            content = content[:-1] + b"?"
        is_range, start, stop = bool(wanted and hub.knows_ranges), 0, len(content)
        if wanted and is_range:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else stop
        self.send_response(206 if is_range else 200)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        end = hub.cuts[name].pop(0) if hub.cuts.get(name) and hub.cuts[name][0] < stop else stop
        if hub.stalls.get(name, stop) < stop:
            self.write_pieces(content[start : hub.stalls[name]])
            hub.stalled.set()
            hub.release.wait(STALL_S)
            end = start
        self.write_pieces(content[start:end])
        self.close_connection = end < stop

    def write_pieces(self, content: bytes) -> None:
        """Write and count, in pieces, so that what a client that goes away did not take is not counted."""
        for place in range(0, len(content), PIECE_BYTES):
            piece = content[place : place + PIECE_BYTES]
            self.wfile.write(piece)
            self.hub.sent_bytes += len(piece)
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no error here; every other one is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Answer on a free port, until the block ends."""
    server = Server(("127.0.0.1", 0), type("AnswerOfThis", (Answer,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
