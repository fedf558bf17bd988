"""``Client`` from several threads, and both clients across restarts of the runtime that they use."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dotsctl import AsyncClient, Client, PageError, RuntimeLostError, UsageError
from dotsctl.client.connection import launch
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol import endpoints

from tests.conftest import Gate
from tests.decoding import text_of_files
from tests.process.conftest import START_S
from tests.process.test_library import by_index, picture, stored

pytestmark = pytest.mark.process
NAME = "test"
WAIT_S = 30.0


@pytest.fixture
def named(run_folder: Path) -> Iterator[Callable[..., int]]:
    """Start a named runtime, also in place of another one; returns its process id."""
    directory = endpoints.instance_directory(NAME)

    def start(encoder: str = "fake", *, decoder: str = "fake", end_by: signal.Signals = signal.SIGTERM) -> int:
        if (pid := endpoints.lock_holder(directory)) is not None:
            end(pid, end_by)
        config = RuntimeConfig(NAME, "fake", "", PluginChoice.parse(encoder), PluginChoice.parse(decoder))
        return launch.start_detached(config, START_S).pid

    def end(pid: int, number: signal.Signals) -> None:
        if number is signal.SIGTERM:
            launch.stop(NAME, now=True, timeout_s=10)
            return
        os.kill(pid, number)
        launch.stop(NAME, now=True, timeout_s=10) if endpoints.lock_holder(directory) else None

    yield start
    if endpoints.lock_holder(directory) is not None:
        launch.stop(NAME, now=True, timeout_s=10)


def test_several_threads_get_their_own_pages_through_one_client(run_folder: Path) -> None:
    contents = [[stored(picture(10 * thread + page)) for page in range(5)] for thread in range(8)]
    with Client(encoder="fake", decoder="fake:batch=4", private=True, timeout_s=START_S) as one:

        def read(each: list[bytes]) -> list[str]:
            assert one.status().pid
            return [page.text for page in by_index(one.ocr(each))]

        with ThreadPoolExecutor(len(contents)) as pool:
            assert list(pool.map(read, contents)) == [[text_of_files(content) for content in each] for each in contents]
        assert one.status().counters["done"] == 40
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("dotsctl")] == []


def test_a_thread_that_breaks_off_leaves_the_pages_of_another(run_folder: Path, gates: list[Gate]) -> None:
    decoder = f"fake:tokens=64,batch=2,gate={gates[0].path}"
    with Client(encoder="fake", decoder=decoder, private=True, timeout_s=START_S) as one:
        stream = one.stream(stored(picture(1)))
        assert next(stream)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(lambda: list(one.ocr([stored(picture(2))])))
            gates[0].wait_entered()
            stream.close()  # type: ignore[attr-defined]
            assert one.status().counters["cancelled"] == 1
            gates[0].remove()
            gates[0].open()
            (page,) = other.result(WAIT_S)
        assert page.text == text_of_files(stored(picture(2)), tokens=64)


def test_a_client_that_is_forgotten_leaves_no_thread(named: Callable[..., int]) -> None:
    named()
    one = Client(name=NAME)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "dotsctl-wire"]
    with pytest.warns(ResourceWarning, match="Client was not closed: use it in a 'with' block"):
        del one
        gc.collect()
    thread.join(WAIT_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_finds_a_runtime_again_that_was_restarted_between_calls(
    named: Callable[..., int], number: signal.Signals
) -> None:
    content, slow = stored(picture(1)), "fake:decode_ms=20000,tokens=2000"
    expected = text_of_files(content, tokens=2)
    first = named(decoder=slow)
    with Client(name=NAME) as one:
        assert next(one.ocr([content], max_tokens=2)).text == expected
        second = named(decoder=slow, end_by=number)
        assert second != first
        assert next(one.ocr([content], max_tokens=2)).text == expected
        assert one.status().pid == second
        stream = one.stream(content)
        assert next(stream)
        named(decoder=slow, end_by=number)
        with pytest.raises((RuntimeLostError, PageError), match=r"has ended|stopped by SIGQUIT"):
            list(stream)
        assert "".join(one.stream(content, max_tokens=2)) == expected


def test_a_successor_with_another_encoder_is_refused_and_a_missing_one_is_reported(named: Callable[..., int]) -> None:
    content = stored(picture(1))
    named()
    with Client(name=NAME) as one:
        named("fake:encode_ms=1")
        for _ in range(2):
            with pytest.raises(UsageError, match=r"uses encoder 'fake:encode_ms=1', but 'fake' was requested"):
                next(one.ocr([content]))
        launch.stop(NAME, now=True, timeout_s=10)
        with pytest.raises(RuntimeLostError, match=r"has ended: start it again with 'dotsctl up -d --name test'"):
            one.status()
        named()
        assert next(one.ocr([content])).encoder == "fake"


def test_an_async_client_finds_a_restarted_runtime_again_from_several_tasks(named: Callable[..., int]) -> None:
    content = stored(picture(1))
    named()

    async def read(one: AsyncClient) -> str:
        (page,) = [page async for page in one.ocr([content])]
        return page.text

    async def scene() -> None:
        async with AsyncClient(name=NAME) as one:
            assert await read(one) == text_of_files(content)
            pid = named()  # in the main thread, as `launch.stop` needs it
            async with asyncio.timeout(WAIT_S):
                assert set(await asyncio.gather(*[read(one) for _ in range(5)])) == {text_of_files(content)}
            status = await one.status()
            assert (status.pid, status.clients) == (pid, 1)

    asyncio.run(scene())
