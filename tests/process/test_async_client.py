"""``AsyncClient``: several tasks at once, cancellation, restarts of the runtime, and nothing left behind."""

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Awaitable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from dotsctl import AsyncClient, Client, Page, RuntimeLostError, UsageError
from dotsctl.client.connection import launch
from dotsctl.client.connection.wire import Wire
from dotsctl.protocol.messages import Submit

from tests.conftest import processes_in
from tests.decoding import text_of_files
from tests.process.conftest import START_S
from tests.process.test_library import picture, stored

pytestmark = pytest.mark.process
LIMIT_S = 40.0


@pytest.fixture(autouse=True)
def no_thread_left(run_folder: Path) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def client(decoder: str = "fake", encoder: str = "fake", **options: Any) -> AsyncClient:
    return AsyncClient(encoder=encoder, decoder=decoder, private=True, timeout_s=START_S, **options)


def run(scene: Awaitable[None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scene

    asyncio.run(within())


async def texts_of(one: AsyncClient, contents: list[bytes], **options: Any) -> list[str]:
    pages = [page async for page in one.ocr(contents, **options)]
    assert sorted(page.index for page in pages) == list(range(len(contents)))
    return [page.text for page in sorted(pages, key=lambda page: page.index)]


def test_many_tasks_get_their_own_pages_and_no_page_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[Submit] = []
    send = Wire.send

    def watch(self: Wire, message: Any, buffers: Any = ()) -> None:
        if isinstance(message, Submit):
            submitted.append(message)
        send(self, message, buffers)

    monkeypatch.setattr(Wire, "send", watch)

    async def scene() -> None:
        async with client("fake:batch=4") as one:
            assert (one.model_name, one.encoder, one.tasks[0]) == ("fake", "fake", "text")
            contents = [[stored(picture(10 * task + page)) for page in range(3)] for task in range(20)]
            reading = [texts_of(one, each) for each in contents]
            streaming = [piece_by_piece(one, each[0]) for each in contents[:3]]
            asking = [one.ask("Why?", each) for each in contents[:3]]
            asked, streamed, read = await asyncio.gather(
                asyncio.gather(*asking), asyncio.gather(*streaming), asyncio.gather(*reading)
            )
            assert read == [[text_of_files(content) for content in each] for each in contents]
            assert streamed == [text_of_files(each[0]) for each in contents[:3]]
            assert [page.text for page in asked] == [text_of_files(*each) for each in contents[:3]]
            assert (await one.status()).counters["done"] == 66

    run(scene())
    assert len(submitted) == 66


async def piece_by_piece(one: AsyncClient, content: bytes) -> str:
    return "".join([piece async for piece in one.stream(content)])


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_task_that_ends_takes_its_pages_back_and_leaves_the_others(how: str) -> None:
    contents = [stored(picture(colour)) for colour in range(4)]

    async def scene() -> None:
        async with client("fake:decode_ms=20000,tokens=2000") as one:
            begun = asyncio.Event()

            async def victim() -> None:
                async with aclosing(one.ocr(contents, on_event=lambda _: begun.set())) as pages:
                    async for _ in pages:
                        raise AssertionError("these pages take 20 s")

            async def breaks_off() -> None:
                async with aclosing(one.stream(contents[0])) as pieces:
                    async for _ in pieces:
                        begun.set()
                        break

            task = asyncio.create_task(victim() if how == "cancel" else breaks_off())
            await begun.wait()
            if how == "cancel":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.wait([task])
            assert await texts_of(one, contents, max_tokens=2) == [text_of_files(c, tokens=2) for c in contents]
            status = await one.status()
            assert status.requests == {} and status.counters["done"] == 4 and status.counters["cancelled"] >= 1

    run(scene())


def test_a_task_that_is_cancelled_while_the_runtime_starts_leaves_none(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        def start(config: Any, *, private: bool) -> launch.RuntimeProcess:
            runtime = original(config, private=private)
            loop.call_soon_threadsafe(started.set)
            return runtime

        original = launch.start
        monkeypatch.setattr(launch, "start", start)
        one = client(encoder="fake:load_fault=hang")
        entering = asyncio.create_task(one.__aenter__())
        await started.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert processes_in(run_folder) == []
        with pytest.raises(RuntimeLostError, match="closed"):
            await one.status()

    run(scene())


def test_a_runtime_that_goes_away_ends_all_calls_and_the_next_call_starts_another() -> None:
    content = stored(picture(1))

    async def scene() -> None:
        async with client("fake:decode_ms=20000,tokens=2000") as one:
            pid = (await one.status()).pid
            begun = [asyncio.Event() for _ in range(3)]

            async def call(event: asyncio.Event) -> list[Page]:
                return [page async for page in one.ocr([content], on_event=lambda _: event.set())]

            calls = [asyncio.create_task(call(event)) for event in begun]
            await begun[0].wait()
            os.kill(pid, signal.SIGKILL)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(end) for end in ends] == [RuntimeLostError] * 3
            assert len({id(end) for end in ends}) == 3, "each has a traceback of its own"
            assert await texts_of(one, [content], max_tokens=2) == [text_of_files(content, tokens=2)]
            assert (await one.status()).pid != pid

    run(scene())


def test_closing_ends_calls_under_way_and_a_client_without_a_runtime_reports_it() -> None:
    async def scene() -> None:
        one = client("fake:decode_ms=20000,tokens=2000")
        with pytest.raises(UsageError, match="no runtime yet"):
            _ = one.tasks
        stream = one.stream(stored(picture(1)))
        assert await anext(stream)
        reading = asyncio.create_task(texts_of(one, [stored(picture(2))]))
        await one.close()
        for waiting in (anext(stream), reading, one.status()):
            with pytest.raises(RuntimeLostError, match="closed"):
                await waiting
        await one.close()  # a second time is allowed

    run(scene())


def test_wrong_use_is_reported_as_by_the_other_client() -> None:
    async def scene() -> None:
        async with client() as one:
            with pytest.raises(UsageError, match="unknown task 'poem'"):
                await anext(one.ocr([stored(picture(1))], task="poem"))
            with pytest.raises(UsageError, match="the question is empty"):
                await one.ask(" ", [])
            with pytest.raises(UsageError, match="gives text without boxes"):
                await anext(one.stream_cells(stored(picture(1))))
            assert [cell async for cell in one.stream_cells(stored(picture(1)), task="layout")] == []

    run(scene())


@pytest.mark.parametrize("name", ["__init__", "ocr", "ask", "stream", "stream_cells", "status", "close"])
def test_both_clients_take_the_same_arguments(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (AsyncClient, Client))
    assert ours == theirs
