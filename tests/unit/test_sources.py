import hashlib
import io
import os
from pathlib import Path

import pytest
from dotsctl.client.inputs.selection import PageRanges, Selection
from dotsctl.client.inputs.sources import InputFile, LeftOut, expand, natural
from dotsctl.protocol.model.file_names import shown
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: str = "white") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def names(*arguments: str | Path, stdin: bytes = b"") -> list[str]:
    return [document.name for document in expand([str(argument) for argument in arguments], io.BytesIO(stdin))]


def only_document(argument: str) -> InputFile:
    (document,) = expand([argument], io.BytesIO())
    return document


def test_a_folder_is_walked_in_natural_order_for_pictures_alone(tmp_path: Path) -> None:
    for name in ("p10.PNG", "p2.png", "sub/p1.jpg", ".hidden.png", ".git/p.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert names(tmp_path) == [str(tmp_path / name) for name in ("p2.png", "p10.PNG", "sub/p1.jpg")]


def test_a_folder_holds_documents_and_phone_pictures_too(tmp_path: Path) -> None:
    found = ["a.pdf", "b.heic", "c.HEIF", "d.avif", "e.PDF"]
    for name in [*found, "f.epub"]:
        (tmp_path / name).touch()
    assert names(tmp_path) == [str(tmp_path / name) for name in found]


def test_the_variant_of_a_document_is_what_its_text_depends_on(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for kind in ("pdf", "tif"):
        Image.new("L", (9, 9)).save(tmp_path / f"b.{kind}")
    for selection, *expected in (
        (Selection(), "200 dpi", "", ""),
        (Selection(dpi=300), "300 dpi", "", ""),
        (Selection(PageRanges.parse("7,1-3"), password="secret"), "pages 1-3,7 200 dpi", "pages 1-3,7", ""),
    ):
        paths = [str(tmp_path / name) for name in ("b.pdf", "b.tif", "a.png")]
        assert [document.variant() for document in expand(paths, io.BytesIO(), selection)] == expected
        (piped,) = expand(["-"], io.BytesIO((tmp_path / "b.pdf").read_bytes()), selection)
        assert piped.variant() == expected[0]


def test_a_folder_without_pictures_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (page,) = only_document(str(tmp_path)).pages()
    assert "no picture in this folder" in str(page.error)


def test_a_quoted_glob_reaches_into_folders(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "a/b/2.png")
    (tmp_path / "a/notes.txt").touch()
    assert names(f"{tmp_path}/**/*") == [str(tmp_path / "a/1.png"), str(tmp_path / "a/b/2.png")]
    assert {document.root for document in expand([f"{tmp_path}/a/**/*.png"], io.BytesIO())} == {tmp_path / "a"}


def test_a_glob_for_folders_takes_their_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "2024/1.png")
    picture(tmp_path / "2025/1.png")
    assert names(f"{tmp_path}/20*") == [str(tmp_path / "2024/1.png"), str(tmp_path / "2025/1.png")]


def test_a_glob_for_an_unknown_ending_takes_what_it_matches(tmp_path: Path) -> None:
    (tmp_path / "a.scan").touch()
    assert names(f"{tmp_path}/*.scan") == [str(tmp_path / "a.scan")]


def test_a_glob_without_a_match_is_one_error(tmp_path: Path) -> None:
    (page,) = only_document(f"{tmp_path}/*.png").pages()
    assert "no file matches" in str(page.error)


def test_a_file_with_brackets_in_its_name_is_no_glob(tmp_path: Path) -> None:
    path = picture(tmp_path / "a[1].png")
    assert names(path) == [str(path)]


def test_standard_input_is_a_document(tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    (document,) = expand(["-"], io.BytesIO(content))
    (page,) = document.pages()
    assert (page.source, page.path, page.load()[1]) == ("-", None, b"\xff" * 3600)
    assert document.digest() == hashlib.sha256(content).hexdigest()


def test_an_input_named_twice_is_read_once(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    assert names(path, tmp_path, f"{tmp_path}/./a.png") == [str(path)]


def test_an_empty_argument_is_an_error_of_its_own() -> None:
    (page,) = only_document("").pages()
    assert "empty name" in str(page.error)


def test_the_digest_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert only_document(str(tmp_path / "nothing.png")).digest() == ""


def test_a_name_that_is_no_text_is_shown_with_escapes() -> None:
    assert shown(os.fsdecode(b"a\xff.png")) == "a\\xff.png"


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**12), unique=True))
def test_numbers_in_names_sort_by_value(numbers: list[int]) -> None:
    ordered = sorted((f"page{number}.png" for number in numbers), key=natural)
    assert ordered == [f"page{number}.png" for number in sorted(numbers)]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=6), unique=True))
def test_any_names_have_one_order(texts: list[str]) -> None:
    assert sorted(texts, key=natural) == sorted(reversed(texts), key=natural)


def test_a_folder_that_cannot_be_listed_is_an_error_beside_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    first, second = expand([str(tmp_path)], io.BytesIO())
    assert (first.name, first.error) == (str(tmp_path / "a.png"), None)
    assert second.name == str(tmp_path / "secret")
    assert "cannot be listed: Permission denied" in str(second.error)


def test_a_file_with_two_names_and_a_link_to_a_folder_are_named_because_they_are_not_read(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "elsewhere/x.png")
    for name in ("b.png", "c.png"):
        (tmp_path / "in" / name).symlink_to("a.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    folder = str(tmp_path / "in")
    left_out = LeftOut()
    assert [document.name for document in expand([folder], io.BytesIO(), left_out=left_out)] == [f"{folder}/a.png"]
    assert list(left_out.lines()) == [
        f"{folder}/b.png and 1 more: the same file under another name; it is read once, as {folder}/a.png",
        f"{folder}/link: links to folders are not followed; name the folder to read it",
    ]
    left_out = LeftOut()
    arguments = [f"{folder}/link", f"{folder}/a.png", f"{folder}/./a.png"]
    found = [document.name for document in expand(arguments, io.BytesIO(), left_out=left_out)]
    assert (found, list(left_out.lines())) == ([f"{folder}/link/x.png", f"{folder}/a.png"], [])
