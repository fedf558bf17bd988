"""Invisible text for PDF: a font without shapes, and the content streams that place words with it. Pure.

The font shows nothing. Its characters are numbered as they occur, each is half an em wide, and a table gives
readers their Unicode; horizontal scaling makes every word as wide as its box. The baseline is the bottom of the box
and the ascent its top, so a selection covers the box.
"""

import struct
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.results.placed import Line, PrintedWord

WIDTH = 500
"""The width of every character, in thousandths of an em."""
BLOCK = 100
"""The most entries of one block of a table of characters."""
SLANTED = 1.35
"""A line that is so much higher than its highest word lies askew: its words have heights of their own."""
MOST_CHARACTERS = 0xFFFE


@dataclass(frozen=True, slots=True)
class PlacedText:
    """The lines of one page."""

    width: int
    """Pixels of the page as viewers show it."""
    height: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class PicturePage:
    """A page that is made of a picture."""

    original: Path | None
    """The file of the picture, which states its resolution; none: it was a picture in memory."""
    is_kept: bool
    """Whether the original is one picture, which is kept as it is where PDF can hold it."""
    pixels: Path
    """The page as viewers show it, a PNG."""
    text: PlacedText
    dpi: float
    """The resolution where the original states none."""


class Characters:
    """Numbers the characters of a document."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def code(self, text: str) -> str:
        """Return a text as a hexadecimal string of PDF; what goes beyond 65,534 different characters is left out."""
        codes = []
        for character in text:
            number = self._numbers.setdefault(character, len(self._numbers) + 1)
            codes.append(f"{number:04X}" if number <= MOST_CHARACTERS else "")
        return f"<{''.join(codes)}>"

    def __len__(self) -> int:
        return min(len(self._numbers), MOST_CHARACTERS)

    def to_unicode(self) -> bytes:
        """Return the table from numbers to Unicode, a CMap as PDF 32000-1, 9.10.3 describes it."""
        entries = [
            f"<{number:04X}> <{character.encode('utf-16-be', 'surrogatepass').hex().upper()}>"
            for character, number in self._numbers.items()
            if number <= MOST_CHARACTERS
        ]
        blocks = [entries[start : start + BLOCK] for start in range(0, len(entries), BLOCK)]
        tables = "".join(f"{len(block)} beginbfchar\n{chr(10).join(block)}\nendbfchar\n" for block in blocks)
        return (
            "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
            "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
            f"1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n{tables}"
            "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
        ).encode("ascii")


def text_stream(page: PlacedText, font: str, characters: Characters, matrix: Sequence[float]) -> bytes:
    """Return the content that writes a page's words without showing them.

    Args:
        page: the words.
        font: the name of the font in the page's resources, with its slash.
        characters: numbers the characters of the document.
        matrix: six numbers, from pixels of the page, counted from its lower left corner, to the page's own units.
    """
    parts = [f"q {' '.join(map(_number, matrix))} cm BT 3 Tr"]
    for line in page.lines:
        heights = [word.bbox[3] - word.bbox[1] for word in line.words]
        top, bottom = line.bbox[1], line.bbox[3]
        is_slanted = bottom - top > SLANTED * max(heights)
        size = max(1, max(heights) if is_slanted else bottom - top)
        parts.append(f"{font} {size} Tf")
        for word, space_to in _with_spaces(line.words):
            base = page.height - ((word.bbox[1] + word.bbox[3] + size) / 2 if is_slanted else bottom)
            x0, _, x1, _ = word.bbox
            parts.append(_placed(characters, seen_from_left(word.text), x0, base, x1 - x0, size))
            if space_to is not None and space_to > x1:
                parts.append(_placed(characters, " ", x1, base, space_to - x1, size))
    return "\n".join([*parts, "ET Q"]).encode("ascii")


def _with_spaces(words: Sequence[PrintedWord]) -> Iterator[tuple[PrintedWord, int | None]]:
    """Yield the words of a line from left to right, each with the place to which the space behind it goes."""
    ordered = sorted(words, key=lambda word: word.bbox[0])
    for word, following in zip(ordered, [*ordered[1:], None], strict=True):
        yield word, following.bbox[0] if following is not None else None


def _placed(characters: Characters, text: str, x: float, y: float, width: float, size: float) -> str:
    scale = 100 * width / (len(text) * WIDTH / 1000 * size)
    return f"{_number(scale)} Tz 1 0 0 1 {_number(x)} {_number(y)} Tm {characters.code(text)} Tj"


def _number(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def seen_from_left(word: str) -> str:
    """Return the characters of a word as they stand on paper; readers of PDF turn right-to-left ones around again."""
    if not any(unicodedata.bidirectional(character) in ("R", "AL") for character in word):
        return word
    return "".join(reversed(list(_kept_together(word))))


def _kept_together(word: str) -> Iterator[str]:
    """Yield the parts of a right-to-left word that keep their own order: numbers, foreign letters, marks."""
    part = ""
    for character in word:
        kind = unicodedata.bidirectional(character)
        is_mark = kind == "NSM"
        goes_right = kind in ("L", "EN", "AN")
        if part and (is_mark or (goes_right and unicodedata.bidirectional(part[-1]) in ("L", "EN", "AN"))):
            part += character
            continue
        if part:
            yield part
        part = character
    yield part


def empty_font() -> bytes:
    """Return a TrueType font whose one glyph has an outline without an area; tables as OpenType 1.9 describes them.

    PDFium leaves out a word of one character whose glyph has no outline at all.
    """
    glyph = struct.pack(">hhhhhHHBBhhhh", 1, 0, 0, WIDTH, 1000, 1, 0, 1, 1, 0, WIDTH, 0, 1000)
    em = 1000
    tables = {
        b"cmap": struct.pack(">HHHHIHHHHHHHHHH", 0, 1, 3, 1, 12, 4, 24, 0, 2, 2, 0, 0, 0xFFFF, 0, 0xFFFF)
        + struct.pack(">HH", 1, 0),
        b"glyf": glyph,
        b"head": struct.pack(
            ">IIIIHHQQhhhhHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 3, em, 0, 0, 0, 0, WIDTH, em, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 0x10000, em, 0, 0, WIDTH, 0, 0, WIDTH, 1, 0, 0, 0, 0, 0, 0, 0, 1),
        b"hmtx": struct.pack(">Hhh", WIDTH, 0, 0),
        b"loca": struct.pack(">HHH", 0, 0, len(glyph) // 2),
        b"maxp": struct.pack(">IHHHHHHHHHHHHHH", 0x10000, 2, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
        b"post": struct.pack(">IIhhIIIII", 0x30000, 0, 0, 0, 1, 0, 0, 0, 0),
    }
    return _font_file(tables)


def _font_file(tables: dict[bytes, bytes]) -> bytes:
    """Return tables as a font file with their directory and checksums."""
    count = len(tables)
    power = 1 << (count.bit_length() - 1)
    start = struct.pack(">IHHHH", 0x10000, count, 16 * power, power.bit_length() - 1, 16 * (count - power))
    at = len(start) + 16 * count
    directory, body = b"", b""
    for tag, content in sorted(tables.items()):
        directory += tag + struct.pack(">III", _sum(content), at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    font = bytearray(start + directory + body)
    adjustment = (0xB1B0AFBA - _sum(bytes(font))) & 0xFFFFFFFF
    head = font.index(struct.pack(">I", 0x5F0F3CF5), len(start + directory)) - 4
    font[head : head + 4] = struct.pack(">I", adjustment)
    return bytes(font)


def _sum(content: bytes) -> int:
    padded = content + bytes(-len(content) % 4)
    return sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
