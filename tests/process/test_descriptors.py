"""Runtimes and clients with few file descriptors."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.connection.status import query_status
from dotsctl.protocol.endpoints import instance_directory
from dotsctl.protocol.messages import PageResult
from PIL import Image

from tests.conftest import HAS_PROC
from tests.process.conftest import NAME, START_S, Instance, dotsctl
from tests.process.test_endings import finish, wait_for_text

pytestmark = pytest.mark.process
LIMIT = 256
CONNECTIONS = 1000
PAGES = 200


@pytest.fixture
def few() -> Iterator[None]:
    """This process may open more files than connections; what it starts with ``limited`` may not."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], 4 * CONNECTIONS), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limited(*arguments: str, limit: int = LIMIT) -> "subprocess.CompletedProcess[str]":
    """Run Python with a limit of descriptors, soft and hard."""
    command = ["sh", "-c", f'ulimit -Sn {limit}; ulimit -Hn {limit}; exec "$@"', "sh", sys.executable, "-P", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_flood_of_connections_costs_a_runtime_with_few_descriptors_no_page(
    run_folder: Path, few: None, tmp_path: Path
) -> None:
    up = limited("-m", "dotsctl", "up", "-d", "--name", NAME, "--encoder", "fake:encode_ms=10", "--decoder", "fake")
    assert up.returncode == 0, up.stderr
    directory = instance_directory(NAME)
    instance = Instance(SimpleNamespace(directory=directory), Session(directory, START_S))  # type: ignore[arg-type]
    answers = instance.read_in_background([b"%d" % number for number in range(PAGES)])
    instance.wait_status(lambda status: status.counters["done"] > 0, "the first page")
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 2 * CONNECTIONS)
        sockets = [context.socket(zmq.DEALER) for _ in range(CONNECTIONS)]
        for socket in sockets:
            socket.linger = 0
            socket.connect(directory.client_endpoint)
        wait_for_text(launch.log_files(NAME)["runtime"], "no more connections are accepted")
        page = tmp_path / "page.png"
        Image.new("RGB", (56, 56)).save(page)
        for command in (["ocr", str(page)], ["status"]):
            code, _, err = finish(dotsctl(*command, "--name", NAME))
            assert code == 6 and "accepts no more connections" in err and "ulimit -n" in err, err
        assert all(isinstance(answer, PageResult) for answer in answers().values())
        assert instance.status().counters["done"] == PAGES
        for socket in sockets:
            socket.close()
    wait_for_text(launch.log_files(NAME)["runtime"], "connections are accepted again")
    assert finish(dotsctl("ocr", str(page), "--name", NAME))[0] == 0
    instance.session.close()
    launch.stop(NAME, now=True, timeout_s=10)


MANY_CLIENTS = """
import sys
from dotsctl import Client, DotsctlError
clients = []
try:
    while True:
        clients.append(Client(name=sys.argv[1]))
except DotsctlError as error:
    print(type(error).__name__, error)
"""


def test_a_program_that_opens_too_many_clients_gets_one_line(named: Callable[..., Instance]) -> None:
    named()
    done = limited("-c", MANY_CLIENTS, NAME, limit=64)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("CommandFailedError this process has no free file descriptor (its limit is 64)")
    assert "ulimit -n" in done.stdout


@pytest.mark.skipif(not HAS_PROC, reason="needs the limits of other processes")
def test_every_process_raises_its_soft_limit(run_folder: Path) -> None:
    command = ["sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh", sys.executable, "-P", "-m", "dotsctl", "up", "-d"]
    subprocess.run([*command, "--name", NAME, "--encoder", "fake", "--decoder", "fake"], check=True, timeout=60)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    expected = 10_240 if hard == resource.RLIM_INFINITY else min(hard, 10_240)
    status = query_status(NAME)
    for pid in (status.pid, *(worker.pid for worker in status.workers)):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == expected
    launch.stop(NAME, now=True, timeout_s=10)
