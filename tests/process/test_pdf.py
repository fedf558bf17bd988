"""PDFs through a real runtime with fakes."""

import io
import json
import signal
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.render.exchange import RenderRequest
from dotsctl.protocol.render.process import PendingAnswer, RenderProcess
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from tests.conftest import Gate
from tests.decoding import answer
from tests.hostile_pdfs import endless
from tests.process.conftest import START_S, dotsctl

pytestmark = pytest.mark.process


def stored(count: int) -> bytes:
    pages = [Image.new("L", (40, 30), 20 * number % 256) for number in range(count)]
    stream = io.BytesIO()
    pages[0].save(stream, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return stream.getvalue()


def text_of(content: bytes, page: int, dpi: int) -> str:
    return fake_text(answer(content, page, dpi=dpi)[1])


def test_a_pdf_gives_a_record_for_each_page_in_order(run_folder: Path, tmp_path: Path) -> None:
    content = stored(3)
    (tmp_path / "three.pdf").write_bytes(content)
    arguments = ["three.pdf", "--encoder", "fake", "--decoder", "fake", "-o", "three.json"]
    process = dotsctl("ocr", *arguments, cwd=tmp_path)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, "", "3 pages read\n")
    records = json.loads((tmp_path / "three.json").read_text())
    assert [(record["path"], record["page"], record["num_pages"]) for record in records] == [
        ("three.pdf", number, 3) for number in (1, 2, 3)
    ]
    assert [record["raw"] for record in records] == [text_of(content, page, 200) for page in (1, 2, 3)]
    assert len({record["raw"] for record in records}) == 3
    assert {record["status"] for record in records} == {"ok"}


def test_the_text_layer_travels_with_its_page_and_the_record_names_it(run_folder: Path, tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "two.pdf"), pagesize=(90, 60))
    canvas.drawString(10, 30, "born digital")
    canvas.showPage()
    canvas.rect(10, 10, 20, 20)
    canvas.showPage()
    canvas.save()
    for hint, expected in (("auto", ["textlayer", ""]), ("none", ["", ""]), (tmp_path / "h.txt", ["user", "user"])):
        (tmp_path / "h.txt").write_text("another text")
        arguments = ["two.pdf", "--hint", str(hint), "--encoder", "fake", "--decoder", "fake", "-o", "2.json"]
        process = dotsctl("ocr", *arguments, "--overwrite", "--force", cwd=tmp_path)
        _, err = process.communicate(timeout=40)
        assert process.returncode == 0, err
        records = json.loads((tmp_path / "2.json").read_text())
        assert [record["hint"] for record in records] == expected


def test_pages_are_rendered_at_most_a_window_and_one_ahead(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window, rendered, ask = 3, [], RenderProcess.request

    def noted(process: RenderProcess, request: RenderRequest, content: bytes) -> PendingAnswer:
        rendered.extend([request.page] if request.asked == "page" else [])
        return ask(process, request, content)

    monkeypatch.setattr(RenderProcess, "request", noted)
    with Client(encoder="fake", decoder="fake", window=window, timeout_s=START_S) as client:
        assert rendered == []
        for read, page in enumerate(client.ocr([stored(300)], dpi=36), start=1):
            assert page.error is None and page.num_pages == 300
            assert len(rendered) <= read - 1 + window + 1
    assert rendered == list(range(1, 301))


def test_the_library_takes_pages_and_resolution(run_folder: Path) -> None:
    content = stored(5)
    with Client(encoder="fake", decoder="fake", timeout_s=START_S) as client:
        found = sorted((page.page, page.text) for page in client.ocr([content], pages="4-,2", dpi=72))
        assert found == [(page, text_of(content, page, 72)) for page in (2, 4, 5)]
        streamed = "".join(client.stream(content, pages="2", dpi=100))
        assert streamed == text_of(content, 2, 100)


def test_ctrl_c_takes_effect_while_a_page_is_rendered(run_folder: Path, tmp_path: Path, gates: list[Gate]) -> None:
    (tmp_path / "endless.pdf").write_bytes(endless())
    Image.new("RGB", (30, 20)).save(tmp_path / "page.png")
    arguments = ["page.png", "endless.pdf", "--encoder", f"fake:gate={gates[0].path}", "--decoder", "fake", "-o", "out"]
    process = dotsctl("ocr", *arguments, cwd=tmp_path)
    gates[0].wait_entered()  # the first page is sent, and the second one at work
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    assert any("stopping" in line for line in process.stderr)
    gates[0].open()
    gates[0].remove()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, "interrupted after 1 page;" in err) == (130, True), err
    assert "endless" not in err and "Traceback" not in err
