"""Sockets: messages with more frames than any has."""

from pathlib import Path

from dotsctl.protocol.codec import MAX_FRAMES
from dotsctl.protocol.link import DROPPED_AT_ONCE, Links

LIMIT_S = 20.0


def test_a_message_of_too_many_frames_is_cut_and_the_next_one_is_read(run_folder: Path) -> None:
    run_folder.mkdir()
    endpoint = f"ipc://{run_folder}/m.sock"
    with Links() as links:
        router, dealer = links.router(endpoint), links.dealer(endpoint)
        many = 3 * DROPPED_AT_ONCE
        assert dealer.send([b"x"] * many)
        assert dealer.send([b"after", b"it"])
        received, calls = [], 0
        while len(received) < 2:
            assert links.wait(LIMIT_S, [router])
            calls += 1
            if message := router.receive():
                received.append(message.frames)
        assert MAX_FRAMES < len(received[0]) < MAX_FRAMES + 3  # enough to be refused by the codec
        assert [bytes(frame) for frame in received[1]] == [b"after", b"it"]
        assert calls >= 4  # the frames that were dropped took several turns
    (run_folder / "m.sock").unlink()


def test_a_message_with_as_many_frames_as_allowed_is_complete(run_folder: Path) -> None:
    run_folder.mkdir()
    endpoint = f"ipc://{run_folder}/m.sock"
    with Links() as links:
        router, dealer = links.router(endpoint), links.dealer(endpoint)
        sent = [bytes([number]) for number in range(MAX_FRAMES)]
        for _ in range(2):
            assert dealer.send(sent)
            assert links.wait(LIMIT_S, [router])
            message = router.receive()
            assert message is not None
            assert [bytes(frame) for frame in message.frames] == sent
        assert router.receive() is None
    (run_folder / "m.sock").unlink()
