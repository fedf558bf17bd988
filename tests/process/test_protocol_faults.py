"""Faults 22 and 24: peers that speak wrongly. A plain client sends what no client of ours would."""

from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.runtime.machine import RELEASE
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol import codec
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import ClientHello, Ping, Refused, Status, StatusRequest, Welcome
from dotsctl.tools.measuring.memory import rss_bytes

from tests.process.conftest import START_S, Instance, submit

pytestmark = pytest.mark.process


class Plain:
    """A socket to a runtime, for frames made by hand."""

    def __init__(self, links: Links, link: Link) -> None:
        self._links, self._link = links, link

    def send(self, frames: list[codec.Buffer]) -> None:
        assert self._link.send(frames)

    def reply(self, timeout_s: float = 5.0) -> object:
        """The next message that is no ping; none when nothing comes."""
        while self._links.wait(timeout_s, [self._link]):
            incoming = self._link.receive()
            if incoming and not isinstance(message := codec.decode(incoming.frames).message, Ping):
                return message
        return None


@pytest.fixture(scope="module")
def runtime(module_run_folder: Path) -> Iterator[launch.RuntimeProcess]:
    """One runtime, as nothing that a peer sends may change it."""
    fake = PluginChoice.parse("fake")
    started = launch.start(RuntimeConfig(launch.private_name(), "fake", "", fake, fake), private=True)
    started.wait_ready(START_S)
    yield started
    started.end(now=True)


@pytest.fixture
def plain(runtime: launch.RuntimeProcess) -> Iterator[tuple[Instance, Plain]]:
    instance = Instance(runtime, Session(runtime.directory, START_S))
    with Links() as links:
        yield instance, Plain(links, links.dealer(runtime.directory.client_endpoint))
    instance.session.close()


def changed(frames: list[codec.Buffer], **fields: object) -> list[codec.Buffer]:
    """Frames with other header fields."""
    header = msgpack.unpackb(frames[1])
    return [frames[0], msgpack.packb({**header, **fields}), *frames[2:]]


def test_another_major_version_is_refused_with_both_versions(plain: tuple[Instance, Plain]) -> None:
    _, peer = plain
    frames = codec.encode(StatusRequest())
    peer.send([b"DOTS\x03\x00", *frames[1:]])
    reply = peer.reply()
    assert isinstance(reply, Refused) and reply.code is ErrorCode.PROTO
    assert "3.0" in reply.message and "2.0" in reply.message


def test_a_higher_minor_version_may_bring_new_keys(plain: tuple[Instance, Plain]) -> None:
    _, peer = plain
    frames = changed(codec.encode(ClientHello(1, RELEASE)), colour="blue")
    peer.send([b"DOTS\x02\x09", *frames[1:]])
    assert isinstance(peer.reply(), Welcome)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"t": 999}, ErrorCode.UNKNOWN_TYPE, "999"),
        ({"colour": "blue"}, ErrorCode.SCHEMA, "colour"),
        ({"pid": "one"}, ErrorCode.SCHEMA, "ClientHello.pid"),
    ],
)
def test_a_wrong_header_is_refused_with_the_field(
    plain: tuple[Instance, Plain], fields: dict[str, object], code: ErrorCode, words: str
) -> None:
    instance, peer = plain
    before = instance.status().counters["bad_messages"]
    peer.send(changed(codec.encode(ClientHello(1, "0.1")), **fields))
    reply = peer.reply()
    assert isinstance(reply, Refused) and reply.code is code
    assert words in reply.message
    assert instance.status().counters["bad_messages"] == before + 1


def test_a_header_that_claims_ten_gibibytes_is_refused_without_taking_memory(plain: tuple[Instance, Plain]) -> None:
    instance, peer = plain
    message, buffers = submit("job", 0, b"page")
    frames = codec.encode(message, buffers)
    image = {**msgpack.unpackb(frames[1])["images"][0], "nbytes": 10 * 2**30}
    before = rss_bytes(instance.status().pid)
    peer.send(changed(frames, images=[image]))
    reply = peer.reply()
    assert isinstance(reply, Refused) and reply.code is ErrorCode.SCHEMA and "nbytes" in reply.message
    assert rss_bytes(instance.status().pid) - before < 8 * 2**20


def test_a_header_that_disagrees_with_its_buffers_is_refused(plain: tuple[Instance, Plain]) -> None:
    _, peer = plain
    message, _ = submit("job", 0, b"page")
    peer.send(codec.encode(message, [b"too many bytes"]))
    reply = peer.reply()
    assert isinstance(reply, Refused) and "14 bytes in buffers, the header says 4" in reply.message


def test_a_giant_frame_cuts_its_sender_off_and_nobody_else(plain: tuple[Instance, Plain]) -> None:
    instance, peer = plain
    message, _ = submit("job", 0, b"page")
    peer.send([*codec.encode(message, [b"page"])[:2], bytes(9 * 2**20)])
    assert peer.reply(0.5) is None
    assert len(instance.read([b"one", b"two"])) == 2


def test_garbage_is_counted_and_the_next_message_is_served(plain: tuple[Instance, Plain]) -> None:
    instance, peer = plain
    before = instance.status().counters["bad_messages"]
    for frames in ([b""], [b"GET / HTTP/1.1\r\n\r\n"], [b"DOTS\x02\x00", b"\xc1"], [b"DOTS\x02\x00", b"\x91" * 500]):
        peer.send(frames)  # type: ignore[arg-type]
        assert isinstance(peer.reply(), Refused)
    peer.send(codec.encode(StatusRequest()))
    status = peer.reply()
    assert isinstance(status, Status) and status.counters["bad_messages"] == before + 4
