import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dotsctl.client.inputs.pages import PageInput, pages_of
from dotsctl.encoder_worker.blank import is_blank
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.model.pixels import MAX_SAMPLE_VALUE, open_picture, picture_errors, upright_rgb
from PIL import ExifTags, Image, ImageDraw, TiffImagePlugin

from tests.decoding import decode_image

CHILD_TIMEOUT_S = 60.0


def letter() -> np.ndarray:
    """(500, 400) levels of a white page with a black and a grey bar."""
    page = Image.new("L", (400, 500), 255)
    ImageDraw.Draw(page).rectangle((50, 50, 300, 90), fill=0)
    ImageDraw.Draw(page).rectangle((50, 150, 300, 190), fill=128)
    return np.asarray(page)


def stored(image: Image.Image, kind: str = "TIFF", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def both_ways(content: bytes) -> np.ndarray:
    """(height, width, 3) levels that the encoder sees; those of a client that sends pixels must be the same."""
    rgb, _, _ = decode_image(content)
    (page,) = pages_of(Image.open(io.BytesIO(content)))
    header, pixels, _ = page.load()
    assert np.array_equal(np.asarray(rgb), np.frombuffer(pixels, np.uint8).reshape(header.height, header.width, 3))
    return np.asarray(rgb)


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_any_depth_has_white_paper_black_ink_and_grey_between(bits: int, kind: str) -> None:
    deep = np.round(letter() * ((2**bits - 1) / 255)).astype(np.uint16)
    levels = both_ways(stored(Image.fromarray(deep), kind))
    assert abs(levels[..., 0].astype(int) - letter()).max() <= 1
    assert not is_blank(Image.fromarray(levels))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(255, np.int32), (65535, np.int32), (2**20 - 1, np.int32), (1.0, np.float32), (255, np.float32)],
)
def test_wide_integers_and_floating_point_numbers_are_scaled_by_their_largest_value(values: float, dtype: type) -> None:
    levels = both_ways(stored(Image.fromarray((letter() / 255 * values).astype(dtype))))
    assert abs(levels[..., 0].astype(int) - letter()).max() <= 1


def test_what_is_no_number_is_paper_and_negative_numbers_are_black() -> None:
    values = np.array([[np.nan, np.inf, 1.0, 0.5, -3.0]], np.float32)
    assert np.asarray(upright_rgb(Image.fromarray(values))[0])[0, :, 0].tolist() == [255, 255, 255, 128, 0]


def test_the_white_that_a_file_declares_is_white_even_where_the_page_is_dark() -> None:
    dark = np.round(letter() * 0.25 * 4095 / 255).astype(np.uint16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[MAX_SAMPLE_VALUE] = 4095
    levels = both_ways(stored(Image.fromarray(dark), tiffinfo=tags))
    assert abs(levels[..., 0].astype(int) - letter() * 0.25).max() <= 1


def test_deep_grey_that_is_stored_inverted_is_turned_back() -> None:
    inverted = np.round((1 - letter() / 255) * 4095).astype(np.uint16)
    content = bytearray(stored(Image.fromarray(inverted)))
    entry = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")  # PhotometricInterpretation, one short
    content[entry + 8] = 0
    levels, _, _ = decode_image(bytes(content))
    assert abs(np.asarray(levels)[..., 0].astype(int) - letter()).max() <= 1


def test_a_turned_deep_page_is_upright_with_its_own_white() -> None:
    dark = Image.fromarray(np.round(letter() * 0.25 * 4095 / 255).astype(np.uint16))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[MAX_SAMPLE_VALUE] = 4095
    tags[ExifTags.Base.Orientation] = 6
    levels, _, _ = decode_image(stored(dark, tiffinfo=tags))
    assert levels.size == (500, 400)
    assert abs(np.asarray(levels)[..., 0].astype(int) - np.rot90(letter(), -1) * 0.25).max() <= 1


def test_colours_of_print_and_of_palettes_keep_paper_and_ink() -> None:
    page = Image.fromarray(letter())
    for content in (
        stored(page.convert("CMYK")),
        stored(page.convert("CMYK"), "JPEG", quality=95),
        stored(page.convert("P"), "PNG"),
        stored(page.convert("1", dither=Image.Dither.NONE)),
        stored(page.convert("LA"), "PNG"),
    ):
        levels = both_ways(content)[..., 0].astype(int)
        assert (levels[300:].min(), levels[60:80, 60:290].max()) >= (250, 0)
        assert levels[60:80, 60:290].max() <= 8


def test_transparent_pixels_are_paper() -> None:
    rgba = Image.new("RGBA", (30, 600), (0, 0, 0, 0))
    rgba.paste((10, 20, 30, 255), (0, 500, 30, 520))
    levels = both_ways(stored(rgba, "PNG"))
    assert levels[0].tolist() == [[255] * 3] * 30
    assert levels[510].tolist() == [[10, 20, 30]] * 30
    palette = rgba.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert both_ways(stored(palette, "PNG", transparency=palette.getpixel((0, 0))))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "LA", "F", "I"])
def test_a_large_picture_takes_less_than_four_times_its_pixels(tmp_path: Path, mode: str) -> None:
    side = 5000
    program = (
        "import resource, sys\n"
        "from PIL import Image\n"
        "from dotsctl.protocol.model.pixels import upright_rgb\n"
        f"image = Image.new({mode!r}, ({side}, {side}))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "upright_rgb(image)\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=CHILD_TIMEOUT_S)
    grown_bytes = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert grown_bytes < 4 * 3 * side * side


@pytest.mark.parametrize(
    "error", [RuntimeError("AVIF"), KeyError(273), NotImplementedError("DDS"), OverflowError(), AttributeError("x")]
)
def test_whatever_a_decoder_raises_is_the_failure_of_one_page(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(PageError, match="damaged"), picture_errors():
        fail()
    with pytest.raises(PageError, match=type(error).__name__) as raised:
        PageInput("a.png", None, reader=fail).load()  # type: ignore[arg-type]
    assert raised.value.code == ErrorCode.BAD_IMAGE
    assert raised.value.remedy


def test_a_picture_too_large_for_the_memory_is_one_page_too_large() -> None:
    with pytest.raises(PageError, match="memory") as raised, picture_errors():
        raise MemoryError
    assert raised.value.code == ErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n",
        b"GRIB\0\0\1\1rest of it",
        b"\x89HDF\r\n\x1a\nrest",
        b"BUFR\0\0\1\3rest",
    ],
)
def test_programs_for_other_software_are_no_pictures(content: bytes) -> None:
    with pytest.raises(PageError, match=r"not a picture|holds text"):
        open_picture(io.BytesIO(content))
    (page,) = pages_of(content)
    assert page.error is not None
