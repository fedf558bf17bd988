"""Nothing that dotsctl did not write, or that was changed since, is replaced without ``--overwrite``."""

import json
import os
from pathlib import Path

import pytest
from dotsctl.client.outputs.journal import JOURNAL_NAME, Journal
from dotsctl.client.results.cell import Cell

from tests.fake_client import FakeClient, call, pictures

KEPT = "0 pages read, 1 kept (edited, or not written by dotsctl; --overwrite replaces them)"
SUMMARY = "1 page read\n"


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_file_that_dotsctl_did_not_write_is_kept_and_named_and_replaced_only_where_that_is_requested(
    client: type[FakeClient],
) -> None:
    pictures("v/a.png", "v/b.png")
    Path("v/a.md").write_text("notes by hand")
    result = call("ocr", "v", "-o", "v")
    assert (result.exit_code, Path("v/a.md").read_text()) == (0, "notes by hand")
    named, summary = result.stderr.splitlines()
    assert named == "v/a.md is kept: it was edited, or dotsctl did not write it"
    assert summary == KEPT.replace("0 pages", "1 page")
    assert call("ocr", "v", "-o", "v", "--force").stderr.splitlines()[-1] == summary, "--force alone replaces nothing"
    assert call("ocr", "v", "-o", "v", "--overwrite").stderr.startswith("1 page read, 1 skipped")
    assert Path("v/a.md").read_text() == "text of a.png\n"
    assert call("ocr", "v", "-o", "v").stderr.startswith("0 pages read, 2 skipped"), "it is our own from now on"


@pytest.mark.parametrize("options", [[], ["--max-tokens", "9"], ["--force"]])
def test_a_correction_by_hand_is_kept_whatever_the_options(client: type[FakeClient], options: list[str]) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/")
    Path("out/a.md").write_text("text of A.png\n")  # of the same size
    os.utime("out/a.md", ns=(1, 1))
    result = call("ocr", "a.png", "-o", "out/", *options)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (0, KEPT)
    assert Path("out/a.md").read_text() == "text of A.png\n"


def test_a_copy_with_other_times_is_still_ours(client: type[FakeClient]) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/")
    os.utime("out/a.md", ns=(1, 1))
    assert "1 skipped" in call("ocr", "a.png", "-o", "out/").stderr
    assert call("ocr", "a.png", "-o", "out/", "--max-tokens", "9").stderr == SUMMARY


def test_an_output_that_was_emptied_by_somebody_is_kept(client: type[FakeClient]) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/")
    Path("out/a.md").write_text("")
    assert call("ocr", "a.png", "-o", "out/").stderr.splitlines()[-1] == KEPT


def test_pictures_belong_to_their_document(client: type[FakeClient]) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""),)
    pictures("a.png")
    words = ("ocr", "a.png", "-o", "out/", "--task", "layout")
    call(*words)
    crop = Path("out/a/images/page-0001-01.png")
    content = crop.read_bytes()
    crop.unlink()
    assert call(*words).stderr == SUMMARY and crop.read_bytes() == content, "a lost picture is made again"
    crop.write_bytes(b"retouched")
    assert call(*words).stderr.splitlines()[-1] == KEPT and crop.read_bytes() == b"retouched"


def test_a_picture_of_others_where_one_is_to_be_written_keeps_the_document(client: type[FakeClient]) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""),)
    pictures("a.png", "b.png")
    crop = Path("out/a/images/page-0001-01.png")
    crop.parent.mkdir(parents=True)
    crop.write_bytes(b"of others")
    result = call("ocr", "a.png", "b.png", "-o", "out/", "--task", "layout")
    assert result.exit_code == 0 and f"{crop} is kept" in result.stderr
    assert (crop.read_bytes(), Path("out/a.md").exists(), Path("out/b.md").exists()) == (b"of others", False, True)


def test_a_fifo_in_the_place_of_an_output_is_kept_and_not_waited_for(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    Path("out").mkdir()
    os.mkfifo("out/a.md")
    for more in ([], ["--overwrite"]):
        result = call("ocr", "a.png", "b.png", "-o", "out", *more)
        assert "out/a.md is kept" in result.stderr and Path("out/b.md").exists()


def test_a_journal_of_an_earlier_version_owns_its_outputs(client: type[FakeClient]) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/")
    journal = Path("out") / JOURNAL_NAME
    line = json.loads(journal.read_text())
    journal.write_text(json.dumps({key: line[key] for key in ("output", "source", "digest", "key", "finished")}) + "\n")
    Path("out/a.md").write_text("another size")
    assert "1 skipped" in call("ocr", "a.png", "-o", "out/").stderr
    assert call("ocr", "a.png", "-o", "out/", "--max-tokens", "9").stderr == SUMMARY


def test_an_input_is_never_replaced(client: type[FakeClient]) -> None:
    pictures("v/a.png")
    Path("v/a.png").rename("v/a.txt")
    content = Path("v/a.txt").read_bytes()
    assert call("ocr", "v/a.txt", "-o", "v/", "-f", "txt", "--overwrite").exit_code == 0
    assert (Path("v/a.txt").read_bytes(), Path("v/a.txt.txt").read_text()) == (content, "text of a.txt\n")
    assert call("ocr", "v/a.txt", "-o", "v/a.txt", "--overwrite").exit_code == 2
    assert Path("v/a.txt").read_bytes() == content


def test_an_input_in_the_place_of_a_picture_of_a_result_is_never_replaced(client: type[FakeClient]) -> None:
    client.cells = (Cell((0, 0, 9, 9), "Picture", ""),)
    pictures("v/a.png", "v/a/images/page-0001-01.png")
    before = Path("v/a/images/page-0001-01.png").read_bytes()
    result = call("ocr", "v/a.png", "v/a/images/page-0001-01.png", "-o", "v", "--task", "layout", "--overwrite")
    assert result.exit_code == 0 and "v/a/images/page-0001-01.png is kept" in result.stderr
    assert Path("v/a/images/page-0001-01.png").read_bytes() == before


# --- a kill between the journal and the name -------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run as a kill does: nothing is written after it."""


@pytest.mark.parametrize("is_noted", [False, True])
def test_a_result_of_other_options_is_never_mistaken_for_the_one_that_is_requested(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, is_noted: bool
) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/", "--max-tokens", "3")
    append = Journal.append

    def killed(self: Journal, entry: object) -> None:
        if is_noted:
            append(self, entry)  # type: ignore[arg-type]
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        client.statuses["a.png"] = "length"
        with pytest.raises(Killed):
            call("ocr", "a.png", "-o", "out/")
    client.statuses.clear()
    assert Path("out/a.md").read_text() == "text of a.png\n", "it has its name after its line"
    again = call("ocr", "a.png", "-o", "out/", "--max-tokens", "3").stderr
    assert again == (SUMMARY if is_noted else "0 pages read, 1 skipped (already done; --force reads them again)\n")


# --- one file --------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_only_as_long_as_it_is_what_dotsctl_wrote(client: type[FakeClient]) -> None:
    pictures("a.png")
    Path("notes.md").write_text("by hand")
    result = call("ocr", "a.png", "-o", "notes.md")
    assert (result.exit_code, client.created, Path("notes.md").read_text()) == (2, [], "by hand")
    assert result.stderr.startswith("dotsctl: notes.md exists, and it was edited or not written by dotsctl\n")
    assert "--overwrite" in result.stderr
    for more in (["--overwrite"], [], []):
        assert call("ocr", "a.png", "-o", "notes.md", *more).exit_code == 0
    with Path("notes.md").open("a") as notes:
        notes.write("a remark")
    assert call("ocr", "a.png", "-o", "notes.md").exit_code == 2
    assert Path("notes.md").read_text() == "text of a.png\na remark"


def test_a_file_that_appears_while_pages_are_read_is_kept(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("a.png", "b.png")
    read = client.ocr

    def slowly(self: FakeClient, inputs: object, **options: object) -> object:
        for page in read(self, inputs, **options):  # type: ignore[arg-type]
            Path("all.md").write_text("by hand")
            yield page

    monkeypatch.setattr(client, "ocr", slowly)
    result = call("ocr", "a.png", "b.png", "-o", "all.md")
    assert (result.exit_code, Path("all.md").read_text()) == (5, "by hand")
    assert "all.md exists, and it was edited or not written by dotsctl" in result.stderr


@pytest.mark.parametrize("target", ["out.doc", "out.docx", ""])
def test_a_name_without_a_known_format_is_a_usage_error(client: type[FakeClient], target: str) -> None:
    pictures("a.png", "b.png")
    for inputs in (["a.png"], ["a.png", "b.png"]):
        assert call("ocr", *inputs, "-o", target).exit_code == 2
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "b.png"]
    if target:
        assert call("ocr", "a.png", "-o", target, "-f", "md").exit_code == 0
        assert Path(target).read_text() == "text of a.png\n"
        assert call("ocr", "a.png", "b.png", "-o", f"folder-{target}/").exit_code == 0
        assert Path(f"folder-{target}/b.md").exists()
