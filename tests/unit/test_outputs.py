import io
from dataclasses import replace
from pathlib import Path

import pytest
from dotsctl.client.files.part_file import write_atomically
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import InputFile, expand
from dotsctl.client.outputs.destination import choose_format, choose_output
from dotsctl.client.outputs.folder_output import FolderOutput
from dotsctl.client.outputs.journal import JOURNAL_NAME, Entry, Journal
from dotsctl.client.outputs.output_base import Output, Reading, WriteOptions
from dotsctl.client.outputs.runs import RUNS_NAME
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import OutputError

from tests.readings import is_done, reading

READING = reading("f" * 64, "mlx", "mlx", task="text")


def page(source: str, text: str = "", number: int = 1, of: int = 1) -> Page:
    return Page(source, Path(source), number, of, "ok", text, task="text")


def failed(source: str, number: int = 1, of: int = 1) -> Page:
    origin = PageInput(source, Path(source), number, of)
    return Page.from_failure(origin, Failure("E_OOM", "no memory -- sorry"), model="demo", fingerprint="", task="text")


def documents(*paths: Path) -> list[InputFile]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(str(path).encode())
    return list(expand([str(path) for path in paths], io.BytesIO()))


def write_all(output: Output, inputs: list[InputFile]) -> list[str]:
    """Read what is not done; the text of a page is the name of its input. Returns the names that were read."""
    output.prepare()
    todo = [document for document in inputs if not is_done(output, document, READING)]
    for document in todo:
        output.add(page(document.name, f"text of {Path(document.name).name}"))
    output.finish()
    return [Path(document.name).name for document in todo]


def contents(folder: Path) -> dict[str, str]:
    hidden = (JOURNAL_NAME, ".pages")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(hidden)]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files if RUNS_NAME not in path.parts}


# --- one file --------------------------------------------------------------------------------------------------------


def test_one_input_goes_to_the_file(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png")
    assert write_all(choose_output(f"{tmp_path}/new/out.txt", inputs, Style("txt"), print), inputs) == ["a.png"]
    assert contents(tmp_path / "new") == {"out.txt": "text of a.png\n"}


def test_several_inputs_go_to_one_file_of_the_formats_ending(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png", tmp_path / "b.png")
    write_all(choose_output(f"{tmp_path}/all.jsonl", inputs, Style("jsonl"), print), inputs)
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2


def test_a_file_is_not_touched_when_no_page_was_read(tmp_path: Path) -> None:
    (tmp_path / "out.md").write_text("from yesterday")
    output = choose_output(f"{tmp_path}/out.md", documents(tmp_path / "a.png"), Style("md"), print)
    output.add(failed(str(tmp_path / "a.png")))
    output.finish()
    assert (tmp_path / "out.md").read_text() == "from yesterday"


def test_the_format_is_that_of_the_outputs_ending_unless_chosen() -> None:
    assert choose_format("x/out.JSON", None) == "json"
    assert choose_format("out.json", "md") == "md"
    assert (choose_format("out", None), choose_format(None, None), choose_format("-", None)) == ("md", "md", "md")


@pytest.mark.parametrize("target", ["file/out.md", "file/out/"])
def test_an_output_that_cannot_be_written_is_reported_before_any_work(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    output = choose_output(f"{tmp_path}/{target}", documents(tmp_path / "a.png"), Style("md"), print)
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file/out.*: (Not a directory|File exists)"):
        output.prepare()


# --- folders ---------------------------------------------------------------------------------------------------------


def test_the_tree_is_mirrored_below_the_common_root(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "in/2024/a.png", tmp_path / "in/2025/b/c.png")
    write_all(choose_output(f"{tmp_path}/out/", inputs, Style("md"), print), inputs)
    assert contents(tmp_path / "out") == {"2024/a.md": "text of a.png\n", "2025/b/c.md": "text of c.png\n"}


def test_a_named_folder_is_the_root_even_when_all_its_pictures_lie_deeper(tmp_path: Path) -> None:
    documents(tmp_path / "in/2024/a.png")
    inputs = list(expand([str(tmp_path / "in")], io.BytesIO()))
    write_all(choose_output(f"{tmp_path}/out/", inputs, Style("md"), print), inputs)
    assert list(contents(tmp_path / "out")) == ["2024/a.md"]


def test_several_inputs_make_the_target_a_folder(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png", tmp_path / "b.png")
    write_all(choose_output(f"{tmp_path}/out", inputs, Style("md"), print), inputs)
    assert contents(tmp_path / "out") == {"a.md": "text of a.png\n", "b.md": "text of b.png\n"}


def test_standard_input_has_a_name_in_a_folder(tmp_path: Path) -> None:
    inputs = list(expand(["-"], io.BytesIO(b"picture")))
    write_all(choose_output(f"{tmp_path}/out/", inputs, Style("md"), print), inputs)
    assert list(contents(tmp_path / "out")) == ["stdin.md"]


def test_pictures_of_the_same_stem_do_not_overwrite_each_other(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png", tmp_path / "a.jpg", tmp_path / "A.gif")
    write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs)
    expected = {"a.md": "text of a.png\n", "a.jpg.md": "text of a.jpg\n", "A.gif.md": "text of A.gif\n"}
    assert contents(tmp_path / "out") == expected


def test_pictures_of_the_same_stem_keep_their_names_in_later_runs(tmp_path: Path) -> None:
    png, jpg = documents(tmp_path / "a.png", tmp_path / "a.jpg")
    for run in ([png], [jpg], [jpg, png], [png, jpg]):
        write_all(FolderOutput(tmp_path / "out", run, Style("md")), run)
    assert contents(tmp_path / "out") == {"a.md": "text of a.png\n", "a.jpg.md": "text of a.jpg\n"}


def test_pictures_of_the_same_name_from_different_folders_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for folder in ("x", "y", "z"):
        inputs = documents(tmp_path / folder / "a.png")
        write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs)
    assert sorted(contents(tmp_path / "out")) == ["a.md", "a.png-2.md", "a.png.md"]


def test_what_is_done_is_skipped(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png", tmp_path / "b.png")
    out = tmp_path / "out"
    assert write_all(FolderOutput(out, inputs, Style("md")), inputs) == ["a.png", "b.png"]
    assert write_all(FolderOutput(out, inputs, Style("md")), inputs) == []
    assert write_all(FolderOutput(out, inputs, Style("json")), inputs) == ["a.png", "b.png"]
    assert write_all(FolderOutput(out, inputs, Style("md"), WriteOptions(force=True)), inputs) == ["a.png", "b.png"]


def test_a_changed_input_and_a_lost_output_are_done_again(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs)
    (tmp_path / "a.png").write_bytes(b"a new scan")
    (tmp_path / "out/b.md").unlink()
    assert write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs) == ["a.png", "b.png"]


def test_an_input_that_was_moved_is_not_read_again(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "before/a.png")
    write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs)
    (tmp_path / "before").rename(tmp_path / "after")
    moved = documents(tmp_path / "after/a.png")
    assert write_all(FolderOutput(tmp_path / "out", moved, Style("md")), moved) == []


@pytest.mark.parametrize(
    "other",
    [
        reading("0" * 64, "mlx", "mlx", task="text"),
        reading("f" * 64, "coreml", "mlx", task="text"),
        reading("f" * 64, "mlx", "fake", task="text"),
        reading("f" * 64, "mlx", "mlx", task="layout"),
        reading("f" * 64, "mlx", "mlx", task="text", prompt="Read"),
        reading("f" * 64, "mlx", "mlx", task="text", max_tokens=7),
        reading("f" * 64, "mlx", "mlx", task="text", max_pixels=1000),
        reading("f" * 64, "mlx", "mlx", task="text", quality="full"),
    ],
)
def test_whatever_changes_the_result_makes_it_undone(tmp_path: Path, other: Reading) -> None:
    inputs = documents(tmp_path / "a.png")
    write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs)
    assert is_done(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs[0], READING)
    assert not is_done(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs[0], other)


def test_a_document_with_a_failed_page_is_written_and_done_again_next_time(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.tif")
    output = FolderOutput(tmp_path / "out", inputs, Style("md"))
    assert not is_done(output, inputs[0], READING)
    output.add(failed(inputs[0].name, 2, 2))
    output.add(page(inputs[0].name, "one", 1, 2))
    assert contents(tmp_path / "out")["a.md"].startswith("one\n\n<!-- page 2 failed: E_OOM")
    assert not is_done(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs[0], READING)


def test_a_document_without_a_good_page_is_not_written(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png")
    output = FolderOutput(tmp_path / "out", inputs, Style("json"))
    output.prepare()
    output.add(failed(inputs[0].name))
    output.finish()
    assert contents(tmp_path / "out") == {}


def test_an_interrupted_document_keeps_its_pages_and_states_what_is_missing(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.tif")
    output = FolderOutput(tmp_path / "out", inputs, Style("md"))
    is_done(output, inputs[0], READING)
    output.add(page(inputs[0].name, "two", 2, 2))
    output.finish()
    assert contents(tmp_path / "out")["a.md"].startswith("<!-- page 1 failed: E_CANCELLED")
    assert not is_done(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs[0], READING)


def test_a_document_is_written_as_soon_as_its_chosen_pages_are_there(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.tif")
    output = FolderOutput(tmp_path / "out", inputs, Style("md"))
    for number in (7, 2):
        assert not (tmp_path / "out").exists()
        output.add(replace(page(inputs[0].name, f"page {number}", number, 9), chosen=(2, 7)))
    assert contents(tmp_path / "out") == {"a.md": "page 2\n\npage 7\n"}


def test_an_interruption_does_not_replace_a_complete_result(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.tif")
    first, second = page(inputs[0].name, "one", 1, 2), page(inputs[0].name, "two", 2, 2)
    for pages in ([first, second], [second]):
        output = FolderOutput(tmp_path / "out", inputs, Style("md"), WriteOptions(force=True))
        is_done(output, inputs[0], READING)
        for one in pages:
            output.add(one)
        output.finish()
    assert contents(tmp_path / "out") == {"a.md": "one\n\ntwo\n"}


def test_a_journal_with_a_cut_last_line_is_read_and_continued(tmp_path: Path) -> None:
    inputs = documents(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs)
    journal = tmp_path / "out" / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-9])
    (tmp_path / "out/c.md").unlink()  # it gets its name after its line
    assert write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs) == ["c.png"]
    assert write_all(FolderOutput(tmp_path / "out", inputs, Style("md")), inputs) == []


def test_the_last_line_of_an_output_holds(tmp_path: Path) -> None:
    for finished in (True, False):
        Journal(tmp_path).append(Entry("a.md", "/a.png", "d", "k", finished))
    entry = Journal(tmp_path).entry("A.MD")
    assert entry is not None
    assert not entry.finished


def test_a_failed_write_names_the_path_and_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "out.md").mkdir()
    with pytest.raises(OutputError, match=rf"cannot write {tmp_path}/out.md: Is a directory"):
        write_atomically(tmp_path / "out.md", b"text")
    assert [path.name for path in tmp_path.iterdir()] == ["out.md"]


def test_a_written_file_replaces_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    for text in (b"old", b"new"):
        write_atomically(tmp_path / "sub/out.md", text)
    assert contents(tmp_path) == {"sub/out.md": "new"}
