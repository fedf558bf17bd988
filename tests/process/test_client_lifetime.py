"""A client in the process that made it, in a forked one, and forgotten; and what runs, listed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.protocol.parts import Role

from tests.process.conftest import NAME, START_S, Instance, dotsctl

pytestmark = pytest.mark.process
Start = Callable[..., Instance]
OPEN = f"""
import os, sys
from dotsctl import Client, DotsctlError, UsageError
client = Client(encoder="fake", decoder="fake", private=True, timeout_s={START_S})
"""
FORKED = """
old = client.ocr(b"not a page")
child = os.fork()
if not child:
    for call in (lambda: client.ocr("a.png"), client.status, lambda: next(old), lambda: client.read("a.png")):
        try:
            list(call())
            os._exit(1)
        except UsageError as error:
            print(error, flush=True)
    client.close()
    os._exit(0)
print("child ended with", os.waitpid(child, 0)[1])
print("parent reads", client.status().state, [page.status for page in client.ocr(b"not a page")])
client.close()
"""


def run(program: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", *flags, "-c", OPEN + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_client_that_is_used_in_a_forked_process_is_a_usage_error_and_the_parent_continues(run_folder: Path) -> None:
    done = run(FORKED)
    *errors, child, parent = done.stdout.splitlines()
    assert (child, parent) == ("child ended with 0", "parent reads ready ['failed']"), done.stdout + done.stderr
    assert len(errors) == 4 and all("belongs to process" in line and "in each process" in line for line in errors)
    assert errors[0].startswith("this Client belongs to process ")


def test_an_asynchronous_client_that_was_not_opened_may_be_opened_in_a_forked_process(run_folder: Path) -> None:
    done = run(
        """
client.close()
import asyncio
from dotsctl import AsyncClient
unopened = AsyncClient(encoder="fake", decoder="fake", private=True)
async def scene():
    async with unopened:
        print((await unopened.status()).state, flush=True)
child = os.fork()
if not child:
    asyncio.run(scene())
    os._exit(0)
os.waitpid(child, 0)
"""
    )
    assert (done.stdout, done.stderr) == ("ready\n", "")


def test_a_client_with_a_runtime_has_loaded_no_picture_library(run_folder: Path) -> None:
    done = run(
        "print(client.status().state, *{'numpy', 'PIL', 'click', 'rich', 'asyncio'} & set(sys.modules)); client.close()"
    )
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


@pytest.mark.parametrize("end", ["del client", "pass"])
def test_a_client_that_was_not_closed_warns_by_its_name(run_folder: Path, end: str) -> None:
    done = run(end, "-W", "always::ResourceWarning")
    assert done.returncode == 0
    assert "ResourceWarning: Client was not closed: use it in a 'with' block, or call close()" in done.stderr


def test_a_client_that_was_closed_warns_of_nothing(run_folder: Path) -> None:
    done = run("client.close(); del client", "-W", "error::ResourceWarning")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_iteration_keeps_a_client_open_that_nobody_holds(named: Start) -> None:
    named()
    with pytest.warns(ResourceWarning, match="Client was not closed"):
        pages = Client(name=NAME).ocr([b"", b""])
        assert [page.status for page in pages] == ["failed", "failed"]
        del pages


def test_all_running_runtimes_are_listed(named: Start, start: Start) -> None:
    shared, private = named(), start("fake:encode_ms=1")
    shared.read([b"one", b"two"])
    done = dotsctl("ps", "--json")
    stdout, stderr = done.communicate(timeout=30)
    assert (done.returncode, stderr) == (0, "")
    listed = {each.pop("name"): each for each in json.loads(stdout)}
    assert set(listed) == {NAME, private.runtime.directory.name}
    expected = {"pid": shared.status().pid, "model": "fake", "encoder": "fake:encode_ms=0", "decoder": "fake"}
    assert listed[NAME] == {**expected, "state": "ready", "pages": 2}
    assert listed[private.runtime.directory.name]["encoder"] == "fake:encode_ms=1"
    table, _ = dotsctl("ps").communicate(timeout=30)
    assert table.splitlines()[0].split() == ["NAME", "PID", "MODEL", "ENCODER", "DECODER", "STATE", "PAGES"]
    assert len(table.splitlines()) == 3 and str(private.pid(Role.DECODER)) not in table


def test_without_a_runtime_the_list_is_empty(run_folder: Path) -> None:
    for words, expected in ((["ps"], ""), (["ps", "--json"], "[]\n")):
        done = dotsctl(*words)
        stdout, stderr = done.communicate(timeout=30)
        assert (done.returncode, stdout) == (0, expected)
        assert ("no runtime is running" in stderr) == (not expected)
