"""The render process: what a document does to it is the failure of one page, and its owner continues."""

import io
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotsctl.client.inputs.pages import limit_rendering, pages_of, render_timeout_s
from dotsctl.encoder_worker import opening
from dotsctl.encoder_worker.opening import open_page
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.errors import ErrorCode, PageError, RenderingStoppedError
from dotsctl.protocol.model import pixels
from dotsctl.protocol.render.document import RenderDocument
from dotsctl.protocol.render.exchange import PAGE, RenderRequest
from dotsctl.protocol.render.finishing import finishing
from dotsctl.protocol.render.process import RenderProcess
from PIL import Image

from tests.conftest import EXAMPLES, HAS_PROC, wait_gone
from tests.hostile_pdfs import endless, laughs, pdf_of

DAMAGED_FILES = 300 * EXAMPLES
DEADLINE_S = 60.0
MARGIN_S = 10.0
GIB = 1 << 30


@pytest.fixture
def process() -> Iterator[RenderProcess]:
    made = RenderProcess()
    yield made
    made.close()


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


GOOD = stored(Image.new("RGB", (30, 20), (1, 2, 3)), "PNG")


def require_good(process: RenderProcess) -> None:
    page = RenderDocument(process, GOOD).page(1)
    assert (page.size, bytes(page.pixels)) == ((30, 20), b"\x01\x02\x03" * 600)


def bomb(side_px: int, bits: int, kind: int) -> bytes:
    """A PNG that claims many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    row = b"\0" + b"\x55" * (side_px * bits * channels // 8)
    content = zlib.compress(row * 9, 1)  # the beginning: nobody comes to the end
    header = struct.pack(">IIBBBBB", side_px, side_px, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def samples() -> dict[str, bytes]:
    """A file of each format, a few hundred bytes each."""
    pixels._register_heif()
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    kinds = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "DDS", "PDF")
    return {kind: stored(picture, kind) for kind in kinds}


def damaged(count: int) -> Iterator[tuple[str, bytes]]:
    """Files of all formats with changed, missing or repeated bytes, most of them near the start."""
    chance, originals = random.Random(1), samples()
    for number in range(count):
        kind, original = list(originals.items())[number % len(originals)]
        content = bytearray(original)
        for _ in range(chance.randint(1, 6)):
            place = int(len(content) * chance.random() ** 2)
            match chance.randrange(4):
                case 0:
                    content[place : place + 1] = bytes([chance.randrange(256)])
                case 1:
                    content[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)])
                case 2:
                    del content[place : place + chance.randint(1, 64)]
                case 3:
                    content[place:place] = content[place : place + chance.randint(1, 64)]
        yield kind, bytes(content)


def test_a_good_page_is_read_after_each_damaged_file(process: RenderProcess) -> None:
    failed = 0
    for kind, content in damaged(DAMAGED_FILES):
        started = time.monotonic()
        try:
            document = RenderDocument(process, content)
            document.page(document.contents().num_pages, 72)
        except PageError as error:
            failed += 1
            assert "\n" not in str(error) and error.code in (ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE), kind
        assert time.monotonic() - started < DEADLINE_S + MARGIN_S, kind
        require_good(process)
    assert failed > DAMAGED_FILES / 4
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * GIB / 1024


def test_a_page_that_takes_memory_without_end_fails_alone(process: RenderProcess) -> None:
    with pytest.raises(PageError, match="the page ended the process that renders it") as raised:
        RenderDocument(process, laughs()).page(1, 72)
    assert raised.value.code in (ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1.3 * GIB / 1024
    require_good(process)


@pytest.mark.parametrize(("bits", "kind"), [(16, 0), (8, 6), (16, 4)])
def test_a_picture_of_too_many_pixels_is_refused_before_they_are_decoded(
    process: RenderProcess, bits: int, kind: int
) -> None:
    with pytest.raises(PageError, match="13000x13000 px is larger than 256 MiB") as raised:
        RenderDocument(process, bomb(13_000, bits, kind)).contents()
    assert raised.value.code == ErrorCode.TOO_LARGE
    require_good(process)


def test_a_page_that_takes_too_long_fails_with_the_seconds_and_the_remedy() -> None:
    process = RenderProcess(lambda: 0.5)
    try:
        require_good(process)
        started, pid = time.monotonic(), process.pid
        with pytest.raises(PageError, match=r"not rendered within 0\.5 s: raise render_timeout \(DOTSCTL_RENDER"):
            RenderDocument(process, endless()).page(1, 72)
        assert time.monotonic() - started < 0.5 + MARGIN_S
        assert pid is not None and wait_gone(pid, 5.0)
        require_good(process)
    finally:
        process.close()


def test_empty_content_is_not_mistaken_for_the_content_before_it(process: RenderProcess) -> None:
    require_good(process)
    with pytest.raises(PageError, match="the file is empty"):
        RenderDocument(process, b"").contents()
    require_good(process)


def test_a_process_that_was_killed_is_replaced_and_the_page_is_read(process: RenderProcess) -> None:
    require_good(process)
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    require_good(process)
    assert process.pid != pid


def test_a_page_that_was_requested_ahead_is_requested_again_when_the_process_was_closed(tmp_path: Path) -> None:
    frames = [Image.new("L", (40, 30), shade) for shade in range(3)]
    path = tmp_path / "a.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    process = RenderProcess()
    try:
        document = RenderDocument(process, path)
        document.page(1, following=2)
        process.close()
        assert set(document.page(2, following=3).pixels) == {1}
        other = RenderDocument(process, GOOD)
        assert other.contents().num_pages == 1
        assert set(document.page(3).pixels) == {2}, "the answer was kept while another document was opened"
    finally:
        process.close()


def test_a_document_that_was_replaced_is_opened_anew(process: RenderProcess, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(stored(Image.new("RGB", (30, 20)), "PDF"))
    document = RenderDocument(process, path)
    assert document.page(1, 72).size == (30, 20)
    other = tmp_path / "b.pdf"
    other.write_bytes(stored(Image.new("RGB", (20, 30)), "PDF"))
    other.replace(path)
    assert document.page(1, 72).size == (20, 30)


def test_a_stop_that_comes_before_the_wait_is_kept_and_pages_that_were_read_are_finished(
    process: RenderProcess,
) -> None:
    require_good(process)
    document = RenderDocument(process, endless())
    pending = document._request(RenderRequest(PAGE, page=1, dpi=72))
    process.stop()
    with finishing():
        require_good(process)
    for ask in (lambda: process.result(pending), lambda: document.page(1, 72), document.contents):
        with pytest.raises(RenderingStoppedError):
            ask()
    process.close()
    require_good(process)


def test_a_process_that_waits_for_a_page_stops_within_a_second(process: RenderProcess) -> None:
    require_good(process)
    document, outcome = RenderDocument(process, endless()), []

    def wait() -> None:
        try:
            document.page(1, 72)
        except RenderingStoppedError as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until = time.monotonic() + 20.0
    while process._under_way is None:
        assert time.monotonic() < until
    process.stop()
    thread.join(1.0)
    assert outcome and not thread.is_alive()
    process.close()
    require_good(process)


def test_the_process_ends_with_its_owner_in_the_middle_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(endless())
    program = (
        "import os, sys; from pathlib import Path\n"
        "from dotsctl.protocol.render.document import RenderDocument\n"
        "from dotsctl.protocol.render.exchange import RenderRequest\n"
        "from dotsctl.protocol.render.process import RenderProcess\n"
        "process = RenderProcess(); document = RenderDocument(process, Path(sys.argv[1]))\n"
        "assert document.contents().num_pages == 1\n"
        "document._request(RenderRequest('page', dpi=72)); print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, path], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert wait_gone(int(done.stdout), 5.0)


@pytest.mark.skipif(not HAS_PROC, reason="asks Linux for the environment of a process")
def test_the_process_gets_no_password_and_no_token(process: RenderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOTSCTL_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    require_good(process)
    assert b"secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_the_limit_of_time_is_that_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render_timeout_s()
    try:
        limit_rendering(7.0)
        assert render_timeout_s() == 7.0
    finally:
        limit_rendering(before)


def test_a_document_of_many_pages_takes_the_same_time_for_the_last_ones(process: RenderProcess, tmp_path: Path) -> None:
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 20_003))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 28 28] >>"
    tree = b"<< /Type /Pages /Kids [%s] /Count 20000 >>" % kids
    path = tmp_path / "long.pdf"
    path.write_bytes(pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", tree, *[page] * 20_000]))
    document = RenderDocument(process, path)
    assert document.contents().num_pages == 20_000
    document.page(1, 72)
    started = time.monotonic()
    for number in range(19_901, 20_001):
        document.page(number, 72)
    assert time.monotonic() - started < 5.0


def test_standard_input_by_its_path_is_read_here(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(GOOD)
    program = (
        "from dotsctl.client.inputs.pages import pages_of\n(page,) = pages_of('/dev/stdin'); print(page.load()[0])"
    )
    with (tmp_path / "a.png").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program], stdin=file, capture_output=True, text=True, timeout=60, check=False
        )
    assert "width=30, height=20" in done.stdout, done.stderr


def test_pages_of_a_relative_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)
    (page,) = pages_of("a.png")
    assert page.load()[0].width == 30


def test_names_in_utf_8_are_found_where_the_locale_has_ascii_alone(tmp_path: Path) -> None:
    (tmp_path / "größe.png").write_bytes(GOOD)
    code = "import sys; from dotsctl.client.inputs.pages import pages_of"
    code += "; print(next(pages_of(sys.argv[1])).load()[0].width)"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "größe.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "30\n"), done.stderr


def test_the_encoder_lets_the_files_of_other_clients_be_decoded_elsewhere() -> None:
    exif = Image.Exif()
    exif[274] = 6
    content = stored(Image.new("RGB", (30, 20), (1, 2, 3)), "PNG", exif=exif)
    try:
        image, source, orientation = open_page(PageImage(content, None, None))
        assert opening.RENDERER.pid not in (None, os.getpid())
        assert (image.size, source, orientation) == ((20, 30), (30, 20), 6)
        assert image.getpixel((0, 0)) == (1, 2, 3)
        with pytest.raises(PageError, match="damaged"):
            open_page(PageImage(content[:-30], None, None))
    finally:
        opening.RENDERER.close()
