"""Pages that a browser sets: Chromium breaks the lines, spaces and draws the text, and reports where each character is.

Several pages stand below each other in one HTML document, which Chromium opens twice: for its picture, and for the
truth that a script in it records. Needs Debian's ``chromium``, ``fonts-dejavu-core`` and ``fonts-liberation``.
"""

import html
import json
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import DotsctlError, MissingError
from dotsctl.protocol.geometry import CELL_PX
from dotsctl.tools.dev.page_sets.page_set import ink_box
from dotsctl.tools.pages.characters import CHARACTERS
from dotsctl.tools.pages.elements import Element, GeneratedPage, Glyph
from dotsctl.tools.pages.words import TrainingWords, Words, number
from PIL import Image

FAMILIES = {
    "dejavu-sans": "DejaVu Sans",
    "dejavu-serif": "DejaVu Serif",
    "dejavu-mono": "DejaVu Sans Mono",
    "liberation-sans": "Liberation Sans",
}
BODY_PX = (17.0, 30.0)
MAX_HEIGHT_PX = 16_000
"""The size of one document: a larger picture is scaled down by the browser."""
EXTRA_PX = 200
"""Added to the window, part of which is not the page."""
DEADLINE_S = 300
HINTING = ("none", "slight", "medium", "full")
SCRIPT = (Path(__file__).parent / "browser_truth.js").read_text(encoding="utf-8")


def browser_pages(rng: random.Random, grid: tuple[int, int], count: int) -> Iterator[GeneratedPage]:
    """Yield pages of a grid of (rows, columns) cells of 28 px.

    Raises:
        MissingError: Chromium is not installed.
        DotsctlError: Chromium failed, or did not end within its deadline.
    """
    rows, columns = grid
    size = columns * CELL_PX, rows * CELL_PX
    each = max(1, MAX_HEIGHT_PX // size[1])
    while count > 0:
        looks = [Look(rng) for _ in range(min(count, each))]
        yield from _rendered(looks, size, rng.choice(HINTING))
        count -= len(looks)


class Look:
    """The style of one page, and its blocks as HTML."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._words = rng, TrainingWords(rng)
        self.family = rng.choice(list(FAMILIES))
        self.paper = rng.choice((*((255, 255, 255),) * 3, tuple(rng.randint(220, 255) for _ in range(3))))
        grey = rng.choice((0, 0, rng.randint(0, 110)))
        self._ink = rng.choice(((grey,) * 3, tuple(rng.randint(0, 70) for _ in range(3))))
        self.body = rng.uniform(*BODY_PX)

    def html(self, size: tuple[int, int], top: int) -> str:
        """Return the page as an element at ``top``; blocks that do not fit are removed by the script."""
        rng = self._rng
        spacing = rng.choice((0.0, 0.0, rng.uniform(-0.02, 0.1)))
        style = (
            f"top:{top}px;width:{size[0]}px;height:{size[1]}px;background:rgb{self.paper};color:rgb{self._ink};"
            f"font:{self.body:.2f}px/{rng.uniform(1.05, 1.5):.2f} '{FAMILIES[self.family]}';"
            f"letter-spacing:{spacing:.3f}em;padding:{rng.uniform(2, 30):.1f}px {rng.uniform(4, 30):.1f}px;"
            f"text-align:{rng.choice(('left', 'left', 'justify', 'justify', 'center'))}"
        )
        if size[0] >= 336 and rng.random() < 0.15:
            style += ";columns:2"
        if rng.random() < 0.35:
            blocks = f"<p data-c='Text'>{self._text(4, 260)}</p>"
        else:
            blocks = "".join(self._block() for _ in range(rng.randint(2, 14)))
        return f"<div class='page' style=\"{style}\">{blocks}</div>"

    def _text(self, fewest: int, most: int) -> str:
        return html.escape(self._words.words(fewest, most), quote=False)

    def _block(self) -> str:
        rng, kind, gap = self._rng, self._rng.random(), f"{self._rng.uniform(0.2, 1.1):.2f}em"
        if kind < 0.06:
            style = f"margin:0 0 {gap};font-size:{rng.uniform(1.4, 1.9):.2f}em"
            return f"<h1 data-c='Title' style='{style}'>{self._text(1, 4)}</h1>"
        if kind < 0.24:
            style = f"margin:0 0 {gap};font-size:{rng.uniform(1.0, 1.35):.2f}em"
            return f"<h2 data-c='Section-header' style='{style}'>{self._text(1, 5)}</h2>"
        if kind < 0.42:
            is_numbered = rng.random() < 0.5
            items = (f"{f'{n}.' if is_numbered else '-'} {self._text(1, 9)}" for n in range(1, rng.randint(2, 6)))
            return "".join(f"<p data-c='List-item' style='margin:0 0 0.15em'>{item}</p>" for item in items)
        if kind < 0.5:
            return self._table(gap)
        return f"<p data-c='Text' style='margin:0 0 {gap}'>{self._text(2, 45)}</p>"

    def _table(self, gap: str) -> str:
        rng, columns = self._rng, self._rng.randint(2, 4)
        border = rng.choice(("none", "1px solid currentColor"))
        rows = []
        for row in range(rng.randint(2, 6)):
            entries = (_entry(self._words, rng, row == 0) for _ in range(columns))
            rows.append("".join(f"<td style='border:{border};padding:1px 6px'>{entry}</td>" for entry in entries))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table data-c='Table' style='border-collapse:collapse;margin:0 0 {gap};text-align:left'>{body}</table>"


def _entry(words: Words, rng: random.Random, is_head: bool) -> str:
    """Return a short word or number without characters that HTML escapes."""
    for _ in range(8):
        found = words.word() if is_head or rng.random() < 0.4 else number(rng)
        if len(found) <= 9 and not set("<>&") & set(found):
            return found
    return str(rng.randrange(100))


def _rendered(looks: list[Look], size: tuple[int, int], hinting: str) -> Iterator[GeneratedPage]:
    """Yield pages of one document; one whose text has an unknown character, as a broken ligature, is left out."""
    blocks = "".join(look.html(size, place * size[1]) for place, look in enumerate(looks))
    document = (
        "<!doctype html><meta charset='utf-8'><style>body{margin:0}h1,h2,p{padding:0;break-inside:avoid}"
        ".page{position:absolute;left:0;box-sizing:border-box;overflow:hidden;font-variant-ligatures:none;"
        "column-fill:auto}</style>"
        f"{blocks}<script>{SCRIPT}</script>"
    )
    with tempfile.TemporaryDirectory(prefix="dotsctl-browser-") as name:
        folder = Path(name)
        (folder / "pages.html").write_text(document, encoding="utf-8")
        window = f"--window-size={max(500, size[0])},{len(looks) * size[1] + EXTRA_PX}"
        common = [window, f"--font-render-hinting={hinting}", f"--user-data-dir={folder / 'profile'}"]
        address = (folder / "pages.html").as_uri()
        _chromium([*common, f"--screenshot={folder / 'pages.png'}", address])
        dom = _chromium([*common, "--dump-dom", address])
        found = re.search(r'<pre id="truth">(.*?)</pre>', dom, re.S)
        if found is None or not (folder / "pages.png").exists():
            raise DotsctlError("Chromium wrote no picture or no truth of the pages", "try its command by hand")
        with Image.open(folder / "pages.png") as picture:
            sheet = picture.convert("RGB")
    for place, (look, truth) in enumerate(zip(looks, json.loads(html.unescape(found[1])), strict=True)):
        image = sheet.crop((0, place * size[1], size[0], (place + 1) * size[1]))
        if page := _page(image, look, truth):
            yield page


def _page(image: Image.Image, look: Look, blocks: list[dict[str, Any]]) -> GeneratedPage | None:
    """Return a page from what the script found: blocks of (category, cells), with a rectangle for each character."""
    elements, glyphs = list[Element](), list[Glyph]()
    for block in blocks:
        plain = " ".join(" ".join(cell).strip() for cell in block["words"])
        box = ink_box(image, tuple(block["box"]), look.paper)  # type: ignore[arg-type]
        if box is None or not set(plain) <= {*CHARACTERS, " "}:
            return None
        for character, left, top, right, bottom in block["characters"]:
            glyphs.append(Glyph((left + right) / 2, (top + bottom) / 2, character, len(elements)))
        elements.append(Element(box, block["category"], _written(block, plain), plain))
    return GeneratedPage(image, tuple(elements), tuple(glyphs), look.family if glyphs else "")


def _written(block: dict[str, Any], plain: str) -> str:
    """Return the text of a block as the layout answer has it."""
    if block["category"] == "Table":
        cells = iter(" ".join(cell) for cell in block["words"])
        rows = ("".join(f"<td>{next(cells)}</td>" for _ in range(count)) for count in block["rows"])
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
    return {"Title": "# ", "Section-header": "## "}.get(block["category"], "") + plain


def _chromium(arguments: list[str]) -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise MissingError("Chromium is not installed", "apt-get install chromium")
    switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    try:
        done = subprocess.run([program, *switches, *arguments], capture_output=True, text=True, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise DotsctlError(f"Chromium did not end within {DEADLINE_S} s", "try again with fewer pages") from None
    if done.returncode:
        raise DotsctlError(f"Chromium failed with exit code {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
