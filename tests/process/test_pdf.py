"""PDFs through a real runtime with fakes."""

import io
import json
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.client import pdf
from dotsctl.decoder_worker.plugins.fake import fake_text
from PIL import Image

from tests.process.conftest import START_S, dotsctl

pytestmark = pytest.mark.process


def stored(count: int) -> bytes:
    pages = [Image.new("L", (40, 30), 20 * number % 256) for number in range(count)]
    stream = io.BytesIO()
    pages[0].save(stream, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return stream.getvalue()


def text_of(content: bytes, page: int, dpi: int) -> str:
    return fake_text(pdf.render_page(io.BytesIO(content), page, dpi, None)[0])


def test_a_pdf_gives_a_record_for_each_page_in_order(run_folder: Path, tmp_path: Path) -> None:
    content = stored(3)
    (tmp_path / "three.pdf").write_bytes(content)
    arguments = ["three.pdf", "--encoder", "fake", "--decoder", "fake", "-o", "three.json"]
    process = dotsctl("ocr", *arguments, cwd=tmp_path)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, "", "")
    records = json.loads((tmp_path / "three.json").read_text())
    assert [(record["path"], record["page"], record["num_pages"]) for record in records] == [
        ("three.pdf", number, 3) for number in (1, 2, 3)
    ]
    assert [record["raw"] for record in records] == [text_of(content, page, 200) for page in (1, 2, 3)]
    assert len({record["raw"] for record in records}) == 3
    assert {record["status"] for record in records} == {"ok"}


def test_pages_are_rendered_at_most_a_window_ahead(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window, rendered, render = 3, [], pdf.render_page
    monkeypatch.setattr(pdf, "render_page", lambda *given: rendered.append(given[1]) or render(*given))
    with Client(encoder="fake", decoder="fake", window=window, timeout_s=START_S) as client:
        assert rendered == []
        for read, page in enumerate(client.ocr([stored(300)], dpi=36), start=1):
            assert page.error is None and page.num_pages == 300
            assert len(rendered) <= read - 1 + window
    assert rendered == list(range(1, 301))


def test_the_library_takes_pages_and_resolution(run_folder: Path) -> None:
    content = stored(5)
    with Client(encoder="fake", decoder="fake", timeout_s=START_S) as client:
        found = sorted((page.page, page.text) for page in client.ocr([content], pages="4-,2", dpi=72))
        assert found == [(page, text_of(content, page, 72)) for page in (2, 4, 5)]
        streamed = "".join(client.stream(content, pages="2", dpi=100))
        assert streamed == text_of(content, 2, 100)
