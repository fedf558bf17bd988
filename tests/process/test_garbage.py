"""Fault 23: whatever is thrown at the socket, the runtime counts it and serves on."""

import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.protocol import codec
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import CancelJob, ClientHello, Message, PageResult, StatusRequest

from tests.process.conftest import START_S, Instance, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]
MUTATIONS = 3000
ZMTP_1 = b"\x01\x00" + b"\x07\x00DOTS\x02\x00"
"""A greeting of protocol ZMTP/1.0 with an empty identity, and a message by hand behind it."""


def connect(raw: socket.socket, path: Path) -> None:
    """Connect; while the runtime accepts others, its socket has no name (``client_listener.py``)."""
    deadline, pause = time.monotonic() + 5.0, select.poll()
    while True:
        try:
            return raw.connect(str(path))
        except FileNotFoundError:
            assert time.monotonic() < deadline
            pause.poll(5)


def throw(path: Path, content: bytes) -> None:
    """Write to the socket without speaking its protocol, and read until it hangs up or says nothing more."""
    with closing(socket.socket(socket.AF_UNIX)) as raw:
        raw.settimeout(0.2)
        connect(raw, path)
        try:
            raw.sendall(content)
            while raw.recv(4096):
                pass
        except (TimeoutError, ConnectionError):
            return


def mutations(seed: int, count: int) -> Iterator[list[codec.Buffer]]:
    """Valid messages with bytes changed, cut, doubled or nested."""
    rng = random.Random(seed)
    page, buffers = submit("job", 0, b"page")
    valid: list[tuple[Message, tuple[bytes, ...]]] = [
        (page, buffers),
        (ClientHello(1, "1"), ()),
        (CancelJob("j", 1), ()),
    ]
    for _ in range(count):
        preamble, header, *rest = codec.encode(*rng.choice(valid))
        changed = bytearray(header)
        match rng.randrange(4):
            case 0:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            case 1:
                del changed[rng.randrange(len(changed)) :]
            case 2:
                changed *= 2
            case 3:
                changed = bytearray(b"\x91" * rng.randrange(1, 2000) + b"\xc0")
        yield [preamble, bytes(changed), *rest]


def send_all(links: Links, link: Link, messages: Iterator[list[codec.Buffer]]) -> int:
    """Send, and take the answers away; returns how many were sent."""
    sent = 0
    for frames in messages:
        while not link.send(frames):
            links.wait(1.0, [link])
            while link.receive():
                pass
        sent += 1
    return sent


def test_garbage_of_every_kind_is_counted_and_the_next_client_is_served(start: Start) -> None:
    instance = start()
    path = instance.runtime.directory.path / "c.sock"
    rng = random.Random(23)
    for content in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ZMTP_1,
        ZMTP_1 + b"\x01\x01" + b"\xff" * 9 + bytes(64),
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48),
        rng.randbytes(1 << 16),
        b"",
    ):
        throw(path, content)
    with Links() as links:
        link = links.dealer(instance.runtime.directory.client_endpoint)
        for frames in ([b""], [b"", b""], [b"DOTS\x02\x00"], [b"x"] * 60):
            assert link.send(frames)
        sent = send_all(links, link, mutations(7, MUTATIONS))
        assert sent == MUTATIONS
        # Some mutations are valid messages, which are no fault of anybody's.
        instance.wait_status(lambda status: status.counters["bad_messages"] > 0.8 * MUTATIONS, "the count")
    other = Session(instance.runtime.directory, START_S)
    other.send(StatusRequest())
    other.close()
    assert isinstance(instance.read([b"page"])[0], PageResult)
    log = (launch.endpoints.log_directory(instance.runtime.directory, private=True) / "runtime.log").read_text()
    assert 1 <= log.count("bad message number") <= 6, "one line each 10 s, not one for each message"
