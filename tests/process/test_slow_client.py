"""Fault 12: a client that is stopped in the middle of its pages costs nobody else anything, and gets its answers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.messages import PageResult
from dotsctl.tools.measuring.memory import rss_bytes

from tests.process.conftest import Instance

pytestmark = pytest.mark.process
Start = Callable[..., Instance]
TOKENS = 100_000
CLIENT = """
import sys
from dotsctl.client.connection.session import Session
from dotsctl.protocol.endpoints import instance_directory
from dotsctl.protocol.messages import PageResult, PageTokens
from tests.process.conftest import submit
session = Session(instance_directory(sys.argv[1]), 30)
session.open_job("slow")
for index in range(2):
    session.send(*submit("slow", index, b"slow %d" % index, stream=True))
print("submitted", flush=True)
sys.stdin.readline()  # until the test lets us continue; by then the runtime has written much
streamed, results = {0: [], 1: []}, {}
while len(results) < 2:
    message = session.next_of("slow", 30)
    assert message is not None
    if isinstance(message, PageTokens):
        streamed[message.page_index].append(message.text)
    elif isinstance(message, PageResult):
        results[message.page_index] = message.text
        assert "".join(streamed[message.page_index]) == message.text
print(*(len(results[index]) for index in (0, 1)), len(streamed[1]), flush=True)
session.close()
"""


def latencies_ms(instance: Instance, rounds: int) -> list[float]:
    """Of answers to a control message, the slowest last."""
    taken = []
    for _ in range(rounds):
        started = time.monotonic()
        instance.status()
        taken.append((time.monotonic() - started) * 1000)
    return sorted(taken)


def test_a_stopped_client_takes_no_memory_and_no_time_and_gets_its_answers_in_the_end(start: Start) -> None:
    instance = start("fake", f"fake:tokens={TOKENS}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, instance.runtime.directory.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert client.stdout is not None and client.stdout.readline() == "submitted\n"
        # What is submitted is not yet sent: a stopped process sends nothing more.
        instance.wait_status(lambda status: sum(status.requests.values()) == 2, "the slow client's pages")
        os.kill(client.pid, signal.SIGSTOP)
        before = rss_bytes(instance.runtime.process.pid)
        done = instance.wait_status(lambda status: status.counters["done"] == 2, "the end of the pages")
        assert stopped_processes([client.pid]) == {client.pid} and done.clients == 2
        grown = rss_bytes(instance.runtime.process.pid) - before
        assert grown < 32 << 20, f"the runtime grew by {grown} bytes for pages of {2 * 9 * TOKENS} characters"
        calm = min(latencies_ms(instance, 200)[-2] for _ in range(3))
        assert calm < 50, f"a control message took {calm:.1f} ms beside a stopped client"
        answer = instance.read([b"other"])[0]
        assert isinstance(answer, PageResult) and answer.text == fake_text(b"other", tokens=TOKENS)
        os.kill(client.pid, signal.SIGCONT)
        out, _ = client.communicate("go on\n", timeout=40)
        first, second, groups = map(int, out.split())
        assert first == second == len(fake_text(b"slow 0", tokens=TOKENS))
        assert groups < TOKENS / 16 / 2, "the tokens of the page that nobody read were not joined"
    finally:
        client.kill()
        client.communicate()
