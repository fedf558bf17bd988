"""From the bytes of a picture to the rows of the vision tower."""

import io
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.image import patchify
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import PixelLimits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from tests.decoding import decode_image

DEFAULT = PixelLimits()
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colours(content: bytes) -> list[Any]:
    """Pixels from left to right and from top to bottom."""
    image, source, orientation = decode_image(content)
    assert image.mode == "RGB"
    assert orientation == 1
    assert source == image.size
    return list(np.asarray(image).reshape(-1, 3).tolist())


def row(mode: str, *pixels: Any) -> Image.Image:
    image = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)
    return image


def palette(*entries: tuple[int, int, int]) -> Image.Image:
    image = row("P", *range(len(entries)))
    image.putpalette([part for entry in entries for part in entry])
    return image


WHITE, BLACK, RED, PINK = [255, 255, 255], [0, 0, 0], [255, 0, 0], [255, 127, 127]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (stored(row("1", 0, 255)), [BLACK, WHITE]),
        (stored(row("L", 0, 100, 255)), [BLACK, [100, 100, 100], WHITE]),
        (stored(row("RGB", (255, 0, 0), (1, 2, 3))), [RED, [1, 2, 3]]),
        (stored(row("LA", (0, 255), (0, 0), (90, 255))), [BLACK, WHITE, [90, 90, 90]]),
        (stored(row("RGBA", (255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128))), [RED, WHITE, PINK]),
        (stored(palette((255, 0, 0), (0, 0, 0))), [RED, BLACK]),
        (stored(palette((255, 0, 0), (0, 0, 0)), transparency=1), [RED, WHITE]),
        (stored(palette((255, 0, 0), (0, 0, 0)), transparency=b"\x80\xff"), [PINK, BLACK]),
        (stored(row("RGB", (255, 0, 0), (0, 0, 0)), transparency=(0, 0, 0)), [RED, WHITE]),
        (stored(row("I;16", 0, 100 * 257, 65_535)), [BLACK, [100, 100, 100], WHITE]),
        (stored(row("I;16", 0, 100 * 257, 65_535), "TIFF"), [BLACK, [100, 100, 100], WHITE]),
        (stored(row("I;16B", 0, 100 * 257, 65_535), "TIFF"), [BLACK, [100, 100, 100], WHITE]),
        (stored(row("CMYK", (0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)), "TIFF"), [WHITE, RED, BLACK]),
    ],
    ids=[
        *("1", "L", "RGB", "LA", "RGBA", "P", "P-one-clear", "P-alpha", "RGB-one-clear"),
        *("I16", "I16-tiff", "I16-big-endian", "CMYK"),
    ],
)
def test_every_mode_becomes_rgb_on_white(content: bytes, expected: list[list[int]]) -> None:
    found = np.array(colours(content), int)
    assert np.abs(found - np.array(expected)).max() <= 1


def test_a_cmyk_jpeg_is_read() -> None:
    found = np.array(colours(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)))
    assert np.abs(found - RED).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_reported_with_the_stored_size(orientation: int) -> None:
    image = Image.new("RGB", (6, 4), "white")
    image.putpixel((1, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = stored(image, exif=exif)
    found, source, reported = decode_image(content)
    assert (source, reported) == ((6, 4), orientation)
    with Image.open(io.BytesIO(content)) as reopened:
        shown = ImageOps.exif_transpose(reopened)
    assert found.size == ((4, 6) if orientation >= 5 else (6, 4))
    assert np.array_equal(np.asarray(found), np.asarray(shown))
    geometry = patchify(found, source, reported, DEFAULT).geometry
    assert (geometry.source, geometry.orientation, geometry.oriented) == ((6, 4), orientation, found.size)


@pytest.mark.parametrize(
    ("orientation", "place"),
    [(1, (1, 0)), (2, (4, 0)), (3, (4, 3)), (4, (1, 3)), (5, (0, 1)), (6, (3, 1)), (7, (3, 4)), (8, (0, 4))],
)
def test_a_dot_that_is_stored_at_the_top_left_is_shown_where_its_orientation_puts_it(
    orientation: int, place: tuple[int, int]
) -> None:
    image = Image.new("L", (6, 4), 255)
    image.putpixel((1, 0), 0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    shown = np.asarray(decode_image(stored(image, exif=exif))[0])  # (height, width, 3)
    assert [(x, y) for y, x in np.argwhere(shown[..., 0] == 0)] == [place]


@pytest.mark.parametrize("orientation", [0, 9, 1000])
def test_an_orientation_that_does_not_exist_counts_as_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found, source, reported = decode_image(stored(Image.new("L", (6, 4)), exif=exif))
    assert (found.size, source, reported) == ((6, 4), (6, 4), 1)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_truncated_picture_is_damaged_and_not_half_read(kind: str) -> None:
    content = stored(noise(60, 60), kind)
    with pytest.raises(PageError, match="again") as caught:
        decode_image(content[: len(content) // 2])
    assert caught.value.code is ErrorCode.BAD_IMAGE


@pytest.mark.parametrize("content", [b"Dear Sir or Madam,\n", b"\x00" * 100, b"GIF89a"])
def test_what_is_no_picture_is_refused_with_a_remedy(content: bytes) -> None:
    with pytest.raises(PageError, match=r"convert it|again|name the scan"):
        decode_image(content)


def test_an_empty_file_is_refused_as_empty() -> None:
    with pytest.raises(PageError, match="empty"):
        decode_image(b"")


def claims(width_px: int, height_px: int) -> dict[str, bytes]:
    """Small files that say they are large pictures."""
    png = stored(Image.new("L", (8, 8)))
    header = b"IHDR" + width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big") + png[24:29]
    bmp = stored(Image.new("RGB", (8, 8)), "BMP")
    sides = width_px.to_bytes(4, "little") + height_px.to_bytes(4, "little")
    return {
        "PNG": png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:],
        "BMP": bmp[:18] + sides + bmp[26:],
    }


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_decompression_bomb_is_refused_before_it_unfolds(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PageError, match="bomb") as caught:
            decode_image(claims(60_000, 60_000)[kind])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.code in (ErrorCode.BAD_IMAGE, ErrorCode.TOO_LARGE)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF"]), st.data())
def test_a_mutated_picture_is_read_or_refused_as_a_page(kind: str, data: st.DataObject) -> None:
    content = bytearray(stored(noise(9, 7), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image, _, _ = decode_image(bytes(content))
    except PageError as error:
        assert str(error)
    else:
        assert image.mode == "RGB"


def test_a_page_of_one_pixel_is_scaled_up_to_the_smallest_page() -> None:
    image, source, orientation = decode_image(stored(Image.new("RGB", (1, 1), (255, 0, 0))))
    patches = patchify(image, source, orientation, DEFAULT)
    assert patches.grid == (4, 4)
    assert patches.values.shape == (16, 588)
    assert patches.geometry.resized == (56, 56)
    assert np.ptp(patches.values.reshape(16, 3, 196), axis=(0, 2)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("width", "height"), [(56, 56), (84, 56), (56, 140), (112, 84)])
def test_patches_stand_in_the_order_of_the_formula(width: int, height: int) -> None:
    image = noise(width, height)
    patches = patchify(image, image.size, 1, DEFAULT)
    rows, columns = height // 14, width // 14
    assert patches.grid == (rows, columns)
    assert patches.values.shape == (rows * columns, 588)
    pixels = (np.asarray(image, np.float64) / 255 - MEAN) / DEVIATION
    for y in range(rows):
        for x in range(columns):
            index = ((y // 2) * (columns // 2) + x // 2) * 4 + (y % 2) * 2 + x % 2
            patch = patches.values[index].reshape(3, 14, 14)
            expected = pixels[14 * y : 14 * y + 14, 14 * x : 14 * x + 14].transpose(2, 0, 1)
            assert np.allclose(patch, expected, atol=1e-5)


def test_values_reach_from_red_zero_to_blue_255_as_measured_on_the_original() -> None:
    both = Image.new("RGB", (56, 56), (0, 0, 0))
    both.paste((255, 255, 255), (0, 0, 28, 56))
    values = patchify(both, both.size, 1, DEFAULT).values
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.min() == pytest.approx(-1.7922626, abs=1e-6)
    assert values.max() == pytest.approx(2.145897, abs=1e-6)


def test_a_page_is_resized_bicubically_to_the_geometry_it_reports() -> None:
    image = noise(100, 70)
    patches = patchify(image, image.size, 1, DEFAULT)
    assert patches.geometry.resized == (112, 56)
    resized = image.resize((112, 56), Image.Resampling.BICUBIC)
    assert np.array_equal(patches.values, patchify(resized, resized.size, 1, DEFAULT).values)


def test_the_users_pixel_limit_makes_the_page_smaller() -> None:
    image = noise(400, 300)
    patches = patchify(image, image.size, 1, PixelLimits(3136, 60_000))
    assert patches.geometry.resized == (280, 196)
    assert patches.grid == (14, 20)
    assert patches.geometry.scale == pytest.approx((280 / 400, 196 / 300))
