"""``dotsctl.testing.FakeClient``, and through it what both clients take, check and give; no process is started."""

import asyncio
import inspect
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl import (
    AsyncClient,
    Client,
    Document,
    OutputError,
    Page,
    PageError,
    PageRestarted,
    PageText,
    RuntimeLostError,
    UsageError,
)
from dotsctl.testing import FakeAsyncClient, FakeClient
from PIL import Image

CELLS = '[{"bbox": [0, 0, 20, 10], "category": "Title", "text": "# Head"}]'
PICTURE = '[{"bbox": [0, 0, 20, 10], "category": "Picture"}]'


def picture(colour: int = 0) -> Image.Image:
    return Image.new("RGB", (60, 40), (colour, 0, 0))


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pictures and a TIFF of three pages; it is the current one."""
    for number in (2, 10):
        picture(number).save(tmp_path / f"page{number}.png")
    (tmp_path / "more").mkdir()
    picture(1).save(tmp_path / "more" / "three.tif", save_all=True, append_images=[picture(2), picture(3)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


SINGLE: list[Callable[[], Any]] = [
    lambda: "page2.png",
    lambda: Path("page2.png"),
    lambda: "./page2.*",
    lambda: stored(picture()),
    lambda: bytearray(stored(picture())),
    lambda: memoryview(stored(picture())),
    lambda: io.BytesIO(stored(picture())),
    lambda: picture(),
    lambda: Image.open("page2.png"),
    lambda: np.zeros((40, 60, 3), np.uint8),
    lambda: np.zeros((40, 60), np.uint8),
]


@pytest.mark.parametrize("make", SINGLE)
@pytest.mark.parametrize("call", ["ocr", "read", "events", "stream", "stream_cells", "ask"])
def test_one_input_of_any_kind_is_one_input_and_a_list_is_several(scans: Path, make: Any, call: str) -> None:
    with FakeClient(CELLS) as client:
        arguments = ["Why?"] if call == "ask" else []
        options = {"task": "layout"} if call == "stream_cells" else {}
        for inputs, count in ((make(), 1), ([make(), make()], 2), (iter([make()]), 1)):
            found = getattr(client, call)(*arguments, inputs, **options)
            if call == "ask":
                assert found.text == CELLS
            elif call == "stream":
                assert "".join(found) == CELLS * count
            else:
                ends = [each for each in found if not isinstance(each, PageText)]
                assert len(ends) == count and not any(getattr(end, "error", None) for end in ends)


def test_a_path_is_that_file_and_not_its_letters(scans: Path) -> None:
    (page,) = FakeClient("words").ocr("page2.png")
    assert (page.source, page.path, page.text, page.status) == ("page2.png", Path("page2.png"), "words", "ok")


def test_folders_globs_documents_and_stacks_are_all_their_pages_in_order(scans: Path) -> None:
    client = FakeClient("words")
    assert [page.source for page in client.read(".")] == ["page2.png", "page10.png", *["more/three.tif"] * 3]
    assert [page.source for page in client.read("**/*.png")] == ["page2.png", "page10.png"]
    stack = client.read(np.zeros((3, 40, 60, 3), np.uint8))  # (pages, height, width, channels)
    assert [(page.page, page.num_pages, page.error) for page in stack] == [(1, 3, None), (2, 3, None), (3, 3, None)]
    assert [page.page for page in client.read("more/three.tif", pages="3,1")] == [1, 3]
    with Path("page2.png").open("rb") as file:
        assert client.read(file).pages[0].source == "page2.png"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.png", "there is no such file"),
        ("", "an empty name"),
        ("x" * 5000, "cannot be opened"),
        ("*.xyz", "no file matches"),
        (4, "int is not a path"),
        (io.StringIO("text"), "open it with mode 'rb'"),
    ],
)
def test_an_input_that_cannot_be_read_is_a_failed_page_beside_the_others(scans: Path, source: Any, words: str) -> None:
    failed, good = FakeClient("words").read([source, "page2.png"])
    assert failed.error is not None and words in failed.error.message
    assert good.text == "words"


def closed_file() -> io.BytesIO:
    file = io.BytesIO(b"")
    file.close()
    return file


def test_a_closed_file_is_a_failed_page() -> None:
    (page,) = FakeClient().read(closed_file())
    assert page.error is not None and "cannot be read" in page.error.message


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"task": "poem"}, UsageError, "unknown task 'poem'"),
    ({"max_tokens": "5"}, UsageError, "max_tokens"),
    ({"quality": "best"}, UsageError, "choose one of full"),
    ({"box": (4, 4, 1, 1)}, UsageError, "box"),
    ({"pages": "0"}, UsageError, "counted from 1"),
    ({"dpi": 1}, UsageError, "dpi"),
    ({"colour": True}, TypeError, "'colour' is not an option"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
@pytest.mark.parametrize("call", ["ocr", "events", "stream", "read"])
def test_arguments_are_checked_by_the_call_and_not_by_the_first_step(
    call: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        getattr(FakeClient(), call)("page.png", **options)  # nothing is iterated


def test_what_is_no_input_is_a_usage_error_of_the_call() -> None:
    for nothing in (None, 4, 2.5):
        with pytest.raises(UsageError, match="is not a valid input: give a path"):
            FakeClient().ocr(nothing)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="gives text without boxes"):
        FakeClient().stream_cells("a.png", task="text")
    with pytest.raises(UsageError, match="the question is empty"):
        FakeClient().ask(" ", "a.png")
    with pytest.raises(TypeError, match="'task' is not an option"):
        FakeClient().ask("Why?", "a.png", task="text")  # type: ignore[call-arg]


def test_answers_are_given_by_page_and_an_error_is_a_page_that_fails(scans: Path) -> None:
    client = FakeClient(["first", PageError("it is torn", "scan it again")])
    document = client.read(["page2.png", "page10.png", "page2.png"])
    assert [page.text for page in document] == ["first", "", ""]
    assert [page.error and page.error.message for page in document] == [
        None,
        "it is torn: scan it again",
        "the fake client has 2 answers, and this is page 3",
    ]
    pieces = FakeClient(["first", PageError("it is torn")]).stream(["page2.png", "page10.png"])
    assert next(pieces) == "first"
    with pytest.raises(PageError, match="it is torn"):
        next(pieces)


def test_events_are_the_text_of_a_page_and_then_the_page(scans: Path) -> None:
    events = list(FakeClient("two  words\n").events(["page2.png"]))
    texts = [event for event in events if isinstance(event, PageText)]
    assert "".join(event.text for event in texts) == "two  words\n" == events[-1].text
    assert (texts[0].source, texts[0].page, texts[0].index) == ("page2.png", 1, 0)
    assert isinstance(events[-1], Page) and len(events) == len(texts) + 1
    seen: list[PageText | PageRestarted] = []
    (page,) = FakeClient("two words").ocr("page2.png", on_event=seen.append)
    assert [type(event) for event in seen] == [PageText, PageText] and page.text == "two words"


def test_a_layout_answer_becomes_cells_in_pixels_of_the_page(scans: Path) -> None:
    (page,) = FakeClient(CELLS).ocr("page2.png", task="layout")
    (cell,) = FakeClient(CELLS).stream_cells("page2.png", task="layout")
    assert page.cells == (cell,) and cell.category == "Title"
    assert page.markdown == "# Head" and (page.width, page.height) == (60, 40)


def test_a_document_is_saved_in_the_format_of_its_ending(scans: Path) -> None:
    document = FakeClient(CELLS).read(["page2.png", picture()], task="layout")
    for name in ("out.md", "out.txt", "out.json", "out.jsonl", "out.html", "new/out.md"):
        document.save(name)
    assert Path("out.md").read_text() == document.markdown == document._repr_markdown_()
    assert Path("out.txt").read_text() == document.plain_text
    assert [Page.from_record(each).text for each in json.loads(Path("out.json").read_text())] == [CELLS, CELLS]
    assert Path("out.html").read_text().count("<img") == 2, "a picture in memory is shown as well"
    FakeClient(CELLS).read("page2.png", task="layout").save("out.overlay.png")
    with Image.open("out.overlay.png") as overlay:
        assert overlay.size == (60, 40)
    assert not list(Path().glob("**/*.part*"))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("out.docx", UsageError, r"no known file extension: use one of \.md, \.txt"),
        ("page2.png", UsageError, "no known file extension"),
        ("out.overlay.png", UsageError, "takes one input, not 2"),
        ("page2.png/out.md", OutputError, "cannot write"),
    ],
)
def test_a_document_that_cannot_be_saved_states_why(scans: Path, name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FakeClient("x").read(["page2.png", "page10.png"]).save(name)


def test_a_document_is_never_written_over_its_input(scans: Path) -> None:
    Path("page2.png").rename("scan.md")
    with pytest.raises(UsageError, match=r"scan\.md is an input and would be lost"):
        FakeClient("x").read("scan.md").save("scan.md")


def test_a_document_replaces_a_file_only_with_overwrite(scans: Path) -> None:
    document = FakeClient("new").read("page2.png")
    Path("out.md").write_text("notes by hand")
    Path("out.md").chmod(0o600)
    with pytest.raises(
        UsageError, match=r"out\.md exists, and it was edited or not written by dotsctl.*overwrite=True"
    ):
        document.save("out.md")
    assert Path("out.md").read_text() == "notes by hand"
    Path("link.md").symlink_to("out.md")
    document.save("link.md", overwrite=True)
    assert (Path("out.md").read_text(), Path("link.md").is_symlink()) == ("new\n", True)
    assert Path("out.md").stat().st_mode & 0o777 == 0o600


def test_a_document_replaces_no_picture_of_others(scans: Path) -> None:
    document = FakeClient(PICTURE).read("page2.png", task="layout")
    crop = Path("out/images/page-0001-01.png")
    crop.parent.mkdir(parents=True)
    crop.write_bytes(b"of others")
    with pytest.raises(UsageError, match="page-0001-01"):
        document.save("out.md")
    assert (crop.read_bytes(), Path("out.md").exists()) == (b"of others", False)
    document.save("out.md", overwrite=True)
    assert crop.read_bytes() != b"of others"


def test_a_document_is_written_through_a_fifo(scans: Path) -> None:
    os.mkfifo("out.md")
    reader = os.open("out.md", os.O_RDONLY | os.O_NONBLOCK)
    try:
        FakeClient("new").read("page2.png").save("out.md")
        assert os.read(reader, 99) == b"new\n" and Path("out.md").is_fifo()
    finally:
        os.close(reader)


def test_a_document_whose_input_is_gone_reports_it_where_pixels_are_needed(scans: Path) -> None:
    document = FakeClient(CELLS).read("page2.png", task="layout")
    Path("page2.png").unlink()
    document.save("out.md", images="none")
    with pytest.raises(PageError, match="its pixels cannot be loaded again"):
        document.save("out.html")
    assert not Path("out.html").exists()


def test_a_page_comes_back_from_its_record(scans: Path) -> None:
    client = FakeClient([CELLS, PageError("torn")])
    for page in client.read(["page2.png", "page10.png"], task="layout"):
        again = Page.from_record(json.loads(json.dumps(page.record())))
        assert again.record() == page.record() and again.path == page.path
        assert again._repr_markdown_() == page._repr_markdown_() != ""
    record = page.record()
    for wrong in ({}, record | {"schema": "other/1"}, record | {"cells": [4]}, record | {"model": {}}, [1]):
        with pytest.raises(UsageError, match="not a page record"):
            Page.from_record(wrong)  # type: ignore[arg-type]
    assert Page.from_record({**record, "later": 1}).status == "failed"


def test_a_closed_client_reports_it() -> None:
    with FakeClient() as client:
        assert client.status().state == "ready"
    with pytest.raises(RuntimeLostError, match="closed"):
        next(client.ocr(picture()))


def test_the_asynchronous_one_answers_alike(scans: Path) -> None:
    async def scene() -> tuple[Document, list[Page], list[str]]:
        async with FakeAsyncClient("words") as client:
            pages = [page async for page in client.ocr("page2.png")]
            with pytest.raises(UsageError, match="unknown task"):
                client.ocr("page2.png", task="poem")
            pieces = [piece async for piece in client.stream("page2.png")]
            assert [type(event) async for event in client.events("page2.png")] == [PageText, Page]
            return await client.read("page2.png"), pages, pieces

    document, pages, pieces = asyncio.run(scene())
    assert document.markdown == "words\n" and [page.text for page in pages] == pieces == ["words"]


def test_both_clients_have_the_same_names() -> None:
    names, other = ({name for name in vars(kind) if not name.startswith("_")} for kind in (Client, AsyncClient))
    attributes = {"model_name", "fingerprint", "encoder", "decoder", "tasks"}
    assert other - attributes == names
    for name in names:
        assert (
            inspect.signature(getattr(Client, name)).parameters
            == inspect.signature(getattr(AsyncClient, name)).parameters
        )
