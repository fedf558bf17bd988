"""HEIC and AVIF: upright exactly once."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dotsctl.client.inputs.pages import pages_of
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.model import pixels
from dotsctl.protocol.parts import ImageKind
from PIL import Image

from tests.decoding import decode_image


def marked() -> Image.Image:
    """A page of 80x40 px, white, with a black upper left corner."""
    image = Image.new("RGB", (80, 40), "white")
    image.paste("black", (0, 0, 20, 20))
    return image


def stored(kind: str, orientation: int = 1) -> bytes:
    pixels._register_heif()
    exif, stream = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    marked().save(stream, kind, quality=95, **({"exif": exif.tobytes()} if orientation > 1 else {}))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phone_picture_is_turned_upright_once(kind: str, orientation: int) -> None:
    content = stored(kind, orientation)
    plain = io.BytesIO()
    exif = Image.Exif()
    exif[274] = orientation
    marked().save(plain, "PNG", exif=exif)
    expected, _, _ = decode_image(plain.getvalue())
    shown, _, turned = decode_image(content)
    assert shown.size == expected.size == ((40, 80) if orientation >= 5 else (80, 40))
    difference = np.abs(np.asarray(shown, np.int16) - np.asarray(expected, np.int16))  # (height, width, 3)
    assert difference.mean() < 3, "the corner lies elsewhere"
    header = next(pages_of(content)).load()[0]
    assert (header.kind, (header.width, header.height)) == (ImageKind.RGB, shown.size)
    assert (turned == 1) == (kind == "HEIF" or orientation == 1)


def test_a_container_of_the_general_brand_is_read_too() -> None:
    content = stored("HEIF")
    assert content[4:12] == b"ftypheic"
    assert decode_image(content[:8] + b"mif1" + content[12:])[0].size == (80, 40)


def test_a_process_that_has_met_no_heic_reads_its_first_one(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(stored("HEIF", 6))
    program = (
        "import sys; from pathlib import Path; from dotsctl.protocol.model.pixels import open_picture\n"
        "assert 'pillow_heif' not in sys.modules\n"
        "with open_picture(Path(sys.argv[1])) as image: print(*image.size)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program, str(path)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["40", "80"], "")
    (page,) = pages_of(path)
    assert (page.load()[0].width, page.load()[0].height) == (40, 80)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_damaged_heic_is_reported_on_one_line(share: float) -> None:
    content = stored("HEIF")
    with pytest.raises(PageError, match="damaged") as caught:
        decode_image(content[: int(share * len(content))])
    assert "\n" not in str(caught.value)


def test_without_the_library_a_heic_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = stored("HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF")  # as in a process that has met none
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    with pytest.raises(PageError, match="pip install --force-reinstall dotsctl"):
        decode_image(content)
    assert decode_image(stored_png())[0].size == (80, 40)


def stored_png() -> bytes:
    stream = io.BytesIO()
    marked().save(stream, "PNG")
    return stream.getvalue()
