"""``from dotsctl import Client``: what goes in, what comes out, and what is left afterwards."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dotsctl import Client, Page, PageRestarted, PageText, RuntimeLostError, UsageError
from dotsctl.client.connection import launch
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.parts import Role
from PIL import Image

from tests.conftest import HAS_PROC, Gate, processes_in
from tests.decoding import decode_image, text_of_files
from tests.process.conftest import START_S

pytestmark = pytest.mark.process
NAME = "test"


@pytest.fixture
def client(run_folder: Path) -> Iterator[Callable[..., Client]]:
    """Make clients with fakes; the ones that a test leaves open are closed."""
    made: list[Client] = []

    def make(encoder: str = "fake", decoder: str = "fake", **options: object) -> Client:
        made.append(Client(encoder=encoder, decoder=decoder, timeout_s=START_S, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def running(run_folder: Path) -> Iterator[int]:
    """The process id of a named runtime with fakes."""
    config = RuntimeConfig(NAME, "fake", "", PluginChoice.parse("fake"), PluginChoice.parse("fake"))
    yield launch.start_detached(config, START_S).pid
    launch.stop(NAME, now=True, timeout_s=10)


def picture(colour: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, (colour, 0, 0))


def stored(*frames: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:]} if len(frames) > 1 else {}
    frames[0].save(stream, kind, **more)  # type: ignore[arg-type]
    return stream.getvalue()


def by_index(pages: Iterator[Page]) -> list[Page]:
    found = sorted(pages, key=lambda page: page.index)
    assert [page.index for page in found] == list(range(len(found)))
    return found


def test_paths_bytes_images_and_arrays_are_read_in_one_call(client: Callable[..., Client], tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    path.write_bytes(stored(picture(1)))
    array = np.full((20, 30, 3), 7, np.uint8)  # (height, width, 3)
    inputs = [path, str(path), stored(picture(2)), picture(3), array, 4]
    pages = by_index(client().ocr(inputs))
    assert [page.source for page in pages] == [str(path), str(path), "<bytes>", "<image>", "<image>", "<int>"]
    files = [decode_image(content)[0].tobytes() for content in (path.read_bytes(), inputs[2])]
    contents = [files[0], *files, picture(3).tobytes(), array.tobytes()]
    assert [page.text for page in pages[:5]] == [fake_text(content) for content in contents]
    assert pages[5].error is not None and "int is not a path" in pages[5].error.message
    assert all(page.markdown == page.text and page.model == "fake" for page in pages[:5])


def test_the_frames_of_a_tiff_are_pages(client: Callable[..., Client], tmp_path: Path) -> None:
    frames = [picture(colour) for colour in (10, 20, 30)]
    path = tmp_path / "scans.tiff"
    path.write_bytes(stored(*frames, kind="TIFF"))
    pages = by_index(client().ocr([stored(picture(1)), path, stored(picture(2))]))
    assert [(page.page, page.num_pages) for page in pages] == [(1, 1), (1, 3), (2, 3), (3, 3), (1, 1)]
    assert [page.text for page in pages[1:4]] == [fake_text(frame.tobytes()) for frame in frames]


def test_more_pages_than_the_window_come_back_each_with_its_own_text(client: Callable[..., Client]) -> None:
    contents = [stored(picture(colour)) for colour in range(60)]
    pages = by_index(client(decoder="fake:batch=4", window=3).ocr(iter(contents)))
    assert [page.text for page in pages] == [text_of_files(content) for content in contents]


def test_a_stream_gives_text_while_the_page_is_decoded(client: Callable[..., Client], gates: list[Gate]) -> None:
    content = stored(picture(1))
    stream = client(decoder=f"fake:tokens=64,gate={gates[0].path}").stream(content)
    whole = text_of_files(content, tokens=64)
    pieces = [next(stream)]
    gates[0].wait_entered()  # half of the page is written, and the decoder does not continue before the gate opens
    while len("".join(pieces)) < len(whole) // 3:
        pieces.append(next(stream))
    assert whole.startswith("".join(pieces)) and len("".join(pieces)) < len(whole)
    gates[0].remove()
    gates[0].open()
    pieces += stream
    assert len(pieces) > 2
    assert "".join(pieces) == whole


def test_a_stream_repeats_nothing_after_a_restart(client: Callable[..., Client], gates: list[Gate]) -> None:
    content = stored(picture(1))
    one = client(decoder=f"fake:tokens=64,gate={gates[0].path}")
    stream = one.stream(content)
    pieces = [next(stream)]
    gates[0].wait_entered()
    gates[0].remove()
    os.kill(decoder_pid(one), signal.SIGKILL)
    pieces += stream
    assert "".join(pieces) == text_of_files(content, tokens=64)
    assert [worker.restarts for worker in one.status().workers if worker.role is Role.DECODER] == [1]


def test_events_report_tokens_and_restarts(client: Callable[..., Client], gates: list[Gate]) -> None:
    content = stored(picture(1))
    one = client(decoder=f"fake:tokens=64,gate={gates[0].path}")
    text = ""
    restarts: list[PageRestarted] = []

    def on_event(event: PageText | PageRestarted) -> None:
        nonlocal text
        if isinstance(event, PageRestarted):
            restarts.append(event)
            text = ""
        else:
            text += event.text

    def kill_at_gate() -> None:
        gates[0].wait_entered()
        gates[0].remove()
        os.kill(pid, signal.SIGKILL)

    pid = decoder_pid(one)
    killer = threading.Thread(target=kill_at_gate)
    killer.start()
    (page,) = one.ocr([content], on_event=on_event)
    killer.join(20)
    assert len(restarts) == 1 and "SIGKILL" in restarts[0].reason
    assert text == page.text == text_of_files(content, tokens=64)
    assert page.attempt == 2


def test_a_stream_of_a_page_that_cannot_be_read_raises(client: Callable[..., Client], tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"missing\.png: there is no such file"):
        list(client().stream(tmp_path / "missing.png"))


@pytest.mark.parametrize("call", ["ocr", "stream"])
def test_breaking_off_cancels_the_rest_and_the_next_call_works(client: Callable[..., Client], call: str) -> None:
    one = client(decoder="fake:decode_ms=3000,tokens=300")
    contents = [stored(picture(colour)) for colour in range(4)]
    if call == "ocr":
        pages = one.ocr([*contents[:2], b"", *contents[2:]])
        assert next(pages).index == 2, "the bad page is reported while two are on their way"
        pages.close()  # type: ignore[attr-defined]
    else:
        stream = one.stream(contents[0])
        assert next(stream)
        stream.close()  # type: ignore[attr-defined]
    started = time.monotonic()
    (page,) = one.ocr([contents[0]], max_tokens=2)
    assert page.text == text_of_files(contents[0], tokens=2)
    assert time.monotonic() - started < 2.5, "the page waited for pages that nobody wants"
    status = one.status()
    assert status.requests == {} and status.counters["done"] == 1


def test_two_generators_of_one_client_do_not_disturb_each_other(client: Callable[..., Client]) -> None:
    one = client()
    first = [stored(picture(colour)) for colour in range(12)]
    second = [stored(picture(colour)) for colour in range(100, 112)]
    calls = (one.ocr(first), one.ocr(second))
    found: tuple[list[Page], list[Page]] = ([], [])
    for _ in range(12):
        for generator, pages in zip(calls, found, strict=True):
            pages.append(next(generator))
    assert all(next(generator, None) is None for generator in calls)
    for pages, contents in zip(found, (first, second), strict=True):
        assert [page.text for page in by_index(iter(pages))] == [text_of_files(content) for content in contents]


def test_a_running_runtime_is_used_and_lives_on(running: int, client: Callable[..., Client], run_folder: Path) -> None:
    before = sorted(processes_in(run_folder))
    content = stored(picture(1))
    with client(name=NAME) as one:
        assert sorted(processes_in(run_folder)) == before
        assert one.status().pid == running
        (page,) = one.ocr([content])
    assert page.text == text_of_files(content)
    assert sorted(processes_in(run_folder)) == before


def test_a_private_client_leaves_the_running_runtime_alone(
    running: int, client: Callable[..., Client], run_folder: Path
) -> None:
    before = set(processes_in(run_folder))
    content = stored(picture(1))
    with client(name=NAME, private=True) as one:
        assert one.status().pid != running
        (page,) = one.ocr([content])
        if HAS_PROC:
            assert len(set(processes_in(run_folder)) - before) == 3
    assert page.text == text_of_files(content)
    assert set(processes_in(run_folder)) == before


def test_another_encoder_than_the_running_one_is_a_usage_error_with_both(
    running: int, client: Callable[..., Client]
) -> None:
    with pytest.raises(UsageError, match=r"encoder 'fake', but 'fake:encode_ms=5' was requested.*dotsctl down"):
        client("fake:encode_ms=5", name=NAME)


def test_an_unknown_task_is_a_usage_error_that_lists_the_known_ones(client: Callable[..., Client]) -> None:
    one = client()
    with pytest.raises(UsageError, match=r"unknown task 'poem'.*text, layout"):
        next(one.ocr([stored(picture(1))], task="poem"))
    with pytest.raises(UsageError, match="unknown task 'poem'"):
        next(one.stream(stored(picture(1)), task="poem"))
    (page,) = one.ocr([stored(picture(1))], task="layout")
    assert page.task == "layout" and page.error is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_a_runtime_that_goes_away_in_a_job_is_reported_within_two_seconds(
    run_folder: Path, client: Callable[..., Client], number: signal.Signals
) -> None:
    one = client(decoder="fake:decode_ms=20000,tokens=2000")
    pid = one.status().pid
    killed_at: list[float] = []

    def kill_runtime(_: object) -> None:
        if not killed_at:
            killed_at.append(time.monotonic())
            os.kill(pid, number)

    pages: list[Page] = []
    with pytest.raises(RuntimeLostError):
        pages.extend(one.ocr((stored(picture(colour)) for colour in range(200)), on_event=kill_runtime))
    assert time.monotonic() - killed_at[0] < 2.5
    assert all(page.error and "stopped by SIGQUIT" in page.error.message for page in pages)
    (page,) = one.ocr([stored(picture(2))], max_tokens=2)  # the next call starts another one
    assert page.text == text_of_files(stored(picture(2)), tokens=2) and one.status().pid != pid


def test_closing_leaves_nothing_even_in_the_middle_of_a_page(client: Callable[..., Client], run_folder: Path) -> None:
    one = client(decoder="fake:decode_ms=20000,tokens=2000")
    stream = one.stream(stored(picture(1)))
    assert next(stream)
    started = time.monotonic()
    one.close()
    assert time.monotonic() - started < 3.0
    assert processes_in(run_folder) == []
    assert list(run_folder.iterdir()) == []
    one.close()  # a second time is allowed
    with pytest.raises(RuntimeLostError, match="closed"):
        next(stream)
    with pytest.raises(RuntimeLostError, match="closed"):
        next(one.ocr([stored(picture(2))]))
    with pytest.raises(RuntimeLostError, match="closed"):
        one.status()


def decoder_pid(client: Client) -> int:
    return next(worker.pid for worker in client.status().workers if worker.role is Role.DECODER)


def test_cells_stream_for_tasks_that_have_some_and_the_connection_stays_usable(client: Callable[..., Client]) -> None:
    one = client()
    assert list(one.stream_cells(stored(picture(1)), task="layout")) == []  # the fakes answer in words
    with pytest.raises(UsageError, match="the task 'text' gives text without boxes"):
        next(one.stream_cells(stored(picture(1))))
    assert len(list(one.ocr([stored(picture(1))]))) == 1
