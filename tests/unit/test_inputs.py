import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from dotsctl.client.inputs.pages import PageInput, pages_of, read_at_once
from dotsctl.client.inputs.selection import PageRanges, Selection
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.parts import ImageKind
from dotsctl.protocol.render.opening import open_input
from PIL import Image


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: str = "white") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def tiff(path: Path, frames: int, exif: Image.Exif | None = None) -> Path:
    pages = [Image.new("RGB", (40 + index, 30), (index, 0, 0)) for index in range(frames)]
    pages[0].save(path, save_all=True, append_images=pages[1:], **({"exif": exif} if exif else {}))
    return path


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def only_error(source: object) -> str:
    (page,) = pages_of(source)
    assert page.error is not None
    with pytest.raises(PageError):
        page.load()
    assert "\n" not in str(page.error)
    return str(page.error)


def test_a_picture_file_travels_as_pixels(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", colour="red")
    (page,) = pages_of(str(path))
    header, content, digest = page.load()
    assert content == b"\xff\0\0" * 1200
    assert digest == page.load()[2]
    assert (header.kind, header.nbytes, header.width, header.height) == (ImageKind.RGB, len(content), 40, 30)
    assert (page.source, page.path, page.page, page.num_pages, page.error) == (str(path), path, 1, 1, None)


def test_a_page_is_read_only_when_it_is_loaded(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (page,) = pages_of(path)
    path.unlink()
    with pytest.raises(PageError, match="no such file"):
        page.load()


def test_the_frames_of_a_tiff_are_pages_of_pixels(tmp_path: Path) -> None:
    pages = list(pages_of(tiff(tmp_path / "a.tif", 3)))
    assert [(page.page, page.num_pages) for page in pages] == [(1, 3), (2, 3), (3, 3)]
    assert len({page.load()[2] for page in pages}) == 3
    for index, page in enumerate(pages):
        header, content, _ = page.load()
        assert (header.kind, header.width, header.height) == (ImageKind.RGB, 40 + index, 30)
        assert bytes(content[:3]) == bytes((index, 0, 0))


def test_a_turned_tiff_and_the_frames_of_one_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    (single,) = pages_of(tiff(tmp_path / "one.tif", 1, exif))
    assert (single.load()[0].width, single.load()[0].height) == (30, 40)
    first, _ = pages_of(tiff(tmp_path / "two.tif", 2, exif))
    header = first.load()[0]
    assert (header.width, header.height) == (30, 40)


def test_the_chosen_frames_of_a_tiff_are_pages(tmp_path: Path) -> None:
    pages = list(pages_of(tiff(tmp_path / "a.tif", 5), Selection(PageRanges.parse("2,4-"))))
    assert [(page.page, page.num_pages, page.chosen) for page in pages] == [(n, 5, [2, 4, 5]) for n in (2, 4, 5)]
    assert [page.load()[0].width for page in pages] == [41, 43, 44]


def test_chosen_pages_that_a_tiff_does_not_have_are_one_error_after_those_that_it_has(tmp_path: Path) -> None:
    first, error = pages_of(tiff(tmp_path / "a.tif", 2), Selection(PageRanges.parse("2-5,7,9-")))
    assert (first.page, first.error, error.page, first.chosen) == (2, None, 3, [2, 3])
    text = "pages 3-5,7,9- do not exist (the document has 2 pages): choose among these"
    assert str(error.error) == text
    (alone,) = pages_of(tiff(tmp_path / "b.tif", 1), Selection(PageRanges.parse("2")))
    assert "page 2 does not exist (the document has 1 page)" in str(alone.error)


def test_a_picture_is_read_whatever_was_chosen_of_documents(tmp_path: Path) -> None:
    (page,) = pages_of(picture(tmp_path / "a.png"), Selection(PageRanges.parse("7-")))
    assert (page.page, page.error) == (1, None)


def test_an_animated_gif_is_one_page(tmp_path: Path) -> None:
    frames = [Image.new("L", (30, 30), shade) for shade in (0, 128, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert [page.num_pages for page in pages_of(tmp_path / "a.gif")] == [1]


def test_bytes_of_a_picture_are_a_page(tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    (page,) = pages_of(content)
    assert (page.source, page.path) == ("<bytes>", None)
    assert page.load()[1] == b"\xff" * 3600


def test_a_pil_image_lies_on_white_where_it_is_transparent() -> None:
    (page,) = pages_of(Image.new("RGBA", (20, 10), (0, 0, 0, 0)))
    header, content, _ = page.load()
    assert (header.kind, header.width, header.height) == (ImageKind.RGB, 20, 10)
    assert bytes(content) == b"\xff" * 600


def test_a_pil_image_is_sent_as_a_viewer_shows_it() -> None:
    image = Image.new("RGB", (20, 10))
    image.getexif()[274] = 6
    (page,) = pages_of(image)
    assert (page.load()[0].width, page.load()[0].height) == (10, 20)


@pytest.mark.parametrize("array", [np.full((5, 7, 3), 9, np.uint8), np.full((5, 7), 9, np.uint8)])
def test_an_array_is_a_page(array: np.ndarray) -> None:
    (page,) = pages_of(array)
    header, content, _ = page.load()
    assert (header.width, header.height) == (7, 5)
    assert bytes(content) == b"\x09" * 105


def test_an_array_that_is_no_page_is_refused_with_the_valid_shapes() -> None:
    (page,) = pages_of(np.zeros((5, 7, 9), np.uint8))
    with pytest.raises(PageError, match=r"\(5, 7, 9\).*\(height, width, 3\)"):
        page.load()


def test_a_page_input_is_passed_on_as_it_is() -> None:
    page = PageInput("a", None)
    assert list(pages_of(page)) == [page]


def test_an_object_that_is_no_input_is_named() -> None:
    assert "int is not a path" in only_error(7)


def test_a_missing_file_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    assert "check the name" in only_error(tmp_path / "nothing.png")


def test_an_empty_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "empty" in only_error(tmp_path / "a.png")


def test_text_named_like_a_picture_is_called_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("Dear reader,\nthis is no picture.")
    assert "text" in only_error(tmp_path / "a.png")


def test_bytes_of_no_format_are_no_picture() -> None:
    assert "convert it to PNG" in only_error(b"\x00\x01\x02\x03" * 20)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    assert "decompression bomb" in only_error(png_header(60_000, 60_000))


def test_a_page_too_long_for_its_width_is_refused_by_its_header() -> None:
    assert "10x2001 px" in only_error(png_header(10, 2001))
    assert next(pages_of(png_header(10, 2000))).error is None


def test_a_folder_given_to_the_library_is_refused(tmp_path: Path) -> None:
    assert "folder" in only_error(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_reported(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    path.chmod(0)
    assert "permissions" in only_error(path)


def test_a_refused_open_reports_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "a.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PageError, match="permissions"):
        open_input(path)


def test_a_path_that_no_file_system_takes_is_an_error_of_its_page() -> None:
    assert "cannot be opened" in only_error("a\0b.png")


def test_an_only_page_that_is_sent_next_comes_with_its_document(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    with read_at_once():
        (page,) = pages_of(path)
    path.unlink()
    header, content, _ = page.load()
    assert len(content) == header.nbytes > 0
    with pytest.raises(PageError, match="no such file"):
        page.load()


def test_the_pages_of_a_longer_document_are_rendered_one_by_one(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    Image.open(path).save(tmp_path / "t.tiff", save_all=True, append_images=[Image.open(path)])
    with read_at_once():
        pages = list(pages_of(tmp_path / "t.tiff"))
    (tmp_path / "t.tiff").unlink()
    assert len(pages) == 2
    with pytest.raises(PageError, match="no such file"):
        pages[0].load()


def test_an_only_page_that_cannot_be_rendered_is_an_error_of_its_document(tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with read_at_once():
        (page,) = pages_of(tmp_path / "a.png")
    assert page.error is not None and "damaged" in page.error.problem
