"""Pages that outlive the run that read them."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.outputs.destination import choose_output
from dotsctl.client.outputs.folder_output import FolderOutput
from dotsctl.client.outputs.output_base import WriteOptions
from dotsctl.client.outputs.page_store import PageStore
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Page
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readings import is_done
from tests.unit.test_outputs import READING, contents, documents, failed, page

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
pixels = st.integers(0, 10**6)
cells = st.builds(
    Cell,
    st.none() | st.tuples(pixels, pixels, pixels, pixels),
    texts,
    texts,
    st.none() | st.lists(st.tuples(pixels, pixels), min_size=1, max_size=4).map(tuple),
)
pages = st.builds(
    Page,
    source=st.just("a.tif"),
    path=st.just(Path("a.tif")),
    page=st.integers(1, 9),
    num_pages=st.just(9),
    status=st.sampled_from(["ok", "partial", "blank"]),
    text=texts,
    cells=st.lists(cells, max_size=3).map(tuple),
    width=st.none() | pixels,
    quality=st.none() | st.sampled_from(["full", "balanced", "fast"]),
    resolution_loss=st.none() | st.floats(0, 1),
    finish_reason=st.none() | texts,
    tokens=st.dictionaries(texts, pixels, max_size=3),
    timings_ms=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    attempt=pixels,
    repaired=st.lists(texts, max_size=3).map(tuple),
    chosen=st.none() | st.just((1, 2, 9)),
)


@settings(deadline=None)  # files on a busy disk
@given(st.lists(pages, max_size=4, unique_by=lambda page: page.page))
def test_pages_come_back_as_they_were_read(tmp_path_factory: pytest.TempPathFactory, some: list[Page]) -> None:
    folder = tmp_path_factory.mktemp("store")
    for one in some:
        PageStore(folder, "a.md").add("key", one)
    store = PageStore(folder, "a.md")
    for one in some:
        origin = PageInput(one.source, one.path, one.page, one.num_pages, one.chosen)
        assert store.find("key", origin) == one
        assert store.find("other", origin) is None
    store.remove()
    assert list(folder.iterdir()) == []


def test_every_field_of_a_page_is_kept_or_known_from_its_input() -> None:
    from dotsctl.client.outputs.page_store import StoredPage

    reported = {"source", "path", "num_pages", "chosen", "index", "error"}
    assert {field.name for field in fields(StoredPage)} - {"key"} == {field.name for field in fields(Page)} - reported


def test_a_document_continues_with_the_page_that_is_missing(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.tif")
    first = FolderOutput(tmp_path / "out", inputs, Style("md"))
    assert not is_done(first, inputs[0], READING)
    first.add(page(inputs[0].name, "one", 1, 3))
    first.add(failed(inputs[0].name, 2, 3))
    first.add(page(inputs[0].name, "three", 3, 3))

    output = FolderOutput(tmp_path / "out", inputs, Style("txt"))  # another format takes the same pages, too
    assert not is_done(output, inputs[0], READING)
    again = FolderOutput(tmp_path / "out", inputs, Style("md"))
    assert not is_done(again, inputs[0], READING) and again.has_failed(inputs[0])
    origins = [PageInput(inputs[0].name, inputs[0].path, number, 3) for number in (1, 2, 3)]
    kept = [again.kept(origin) for origin in origins]
    assert [one and one.text for one in kept] == ["one", None, "three"]
    for one in (kept[0], page(inputs[0].name, "two", 2, 3), kept[2]):
        assert one is not None
        again.add(one)
    assert contents(tmp_path / "out") == {"a.md": "one\n\ntwo\n\nthree\n"}
    assert not list((tmp_path / "out").glob("*.pages")), "a whole document needs no pages"
    done = FolderOutput(tmp_path / "out", inputs, Style("md"))
    assert is_done(done, inputs[0], READING) and not done.has_failed(inputs[0])


@pytest.mark.parametrize("change", ["model", "input", "force"])
def test_pages_are_resumed_only_from_the_same_reading_of_the_same_input(tmp_path: Path, change: str) -> None:
    inputs = documents(tmp_path / "a.tif")
    first = FolderOutput(tmp_path / "out", inputs, Style("md"))
    is_done(first, inputs[0], READING)
    first.add(page(inputs[0].name, "one", 1, 2))
    reading = replace(READING, fingerprint="0" * 64) if change == "model" else READING
    if change == "input":
        (tmp_path / "a.tif").write_bytes(b"another scan")
    again = FolderOutput(tmp_path / "out", inputs, Style("md"), WriteOptions(force=change == "force"))
    is_done(again, inputs[0], reading)
    assert again.kept(PageInput(inputs[0].name, inputs[0].path, 1, 2)) is None


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_single_file_resumes_after_a_run_that_was_interrupted(tmp_path: Path, is_complete: bool) -> None:
    inputs = documents(tmp_path / "a.tif")
    target = f"{tmp_path}/out/all.md"
    output = choose_output(target, inputs, Style("md"), print)
    output.prepare()
    assert not is_done(output, inputs[0], READING)
    output.add(page(inputs[0].name, "one", 1, 2))
    if is_complete:
        output.add(page(inputs[0].name, "two", 2, 2))
    output.finish(is_complete=is_complete)
    again = choose_output(target, inputs, Style("md"), print)
    again.prepare()
    assert not is_done(again, inputs[0], READING)
    kept = again.kept(PageInput(inputs[0].name, inputs[0].path, 1, 2))
    assert (kept is None) if is_complete else (kept is not None and kept.text == "one")


def test_lines_that_a_crash_has_cut_are_read_again(tmp_path: Path) -> None:
    for number in (1, 2):
        PageStore(tmp_path, "a.md").add("key", page("a.tif", "text", number, 3))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    PageStore(tmp_path, "a.md").add("key", page("a.tif", "text", 3, 3))
    store = PageStore(tmp_path, "a.md")
    found = [store.find("key", PageInput("a.tif", None, number, 3)) for number in (1, 2, 3)]
    assert [one is not None for one in found] == [True, False, True]
