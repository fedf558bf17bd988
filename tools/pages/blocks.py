"""The elements of a generated page: each function prints one into an area and moves the area's top below it.

All take the sheet and an area and return whether the element found room.
"""

from dataclasses import dataclass

from dotsctl.tools.pages.elements import Box
from dotsctl.tools.pages.sheet import BULLETS, Area, Sheet, Type, picture
from dotsctl.tools.pages.words import Words, number


@dataclass
class BlockWriter:
    """A sheet with the body type of its page."""

    sheet: Sheet
    prose: Words
    body_px: float
    lead: float

    def wrapped(self, first: str, area: Area, kind: Type, most: int, ending: float) -> list[str]:
        """Lines of words as wide as the area, at most as many as find room.

        Args:
            first: what the first line begins with.
            area: where they are to stand.
            kind: their type.
            most: lines at most.
            ending: chance that the text ends with any one word.
        """
        room = min(most, int(area.height // kind.pitch))
        lines, line = list[str](), first
        while len(lines) < room:
            longer = f"{line} {self.prose.word()}".strip()
            if kind.length(longer) > area.width:
                if not line:
                    continue  # a word that is wider than the column: take another one
                lines.append(line)
                line = ""
                continue
            line = longer
            if self.sheet.rng.random() < ending:
                lines.append(line)
                break
        return lines

    def fitting(self, area: Area, kind: Type) -> str:
        """Return a word with a capital that is no wider than the area; empty: none was found."""
        found = (self.prose.words(1, 1) for _ in range(12))
        return next((word for word in found if kind.length(word) <= area.width), "")

    def print(self, lines: list[str], area: Area, kind: Type, category: str, mark: str = "") -> bool:
        """Print lines below each other as one element whose Markdown begins with ``mark``."""
        if not lines or kind.pitch * len(lines) > area.height + kind.lead:
            return False
        boxes = []
        for place, line in enumerate(lines):
            justified = self.sheet.setting.is_justified and place < len(lines) - 1
            width = area.width if justified and kind.length(line) > 0.75 * area.width else None
            boxes.append(self.sheet.line(area.left, area.top, line, kind, width))
            area.top += kind.pitch
        plain = " ".join(lines)
        self.sheet.add(category, boxes, mark + plain, plain)
        area.top += self.sheet.rng.uniform(0.3, 1.2) * self.body_px
        return True


def text(writer: BlockWriter, area: Area) -> bool:
    """A paragraph; some have short lines, as an address has."""
    rng = writer.sheet.rng
    kind = writer.sheet.type(writer.body_px, lead=writer.lead, bold=rng.random() < 0.06)
    if rng.random() < 0.2:
        short = (writer.wrapped("", area, kind, 1, 0.4) for _ in range(rng.randint(1, 6)))
        lines = [line for found in short for line in found][: int(area.height // kind.pitch)]
    else:
        lines = writer.wrapped("", area, kind, rng.randint(1, 8), 0.02)
    return writer.print(lines, area, kind, "Text")


def list_item(writer: BlockWriter, area: Area) -> bool:
    """One to five items with a bullet or a number."""
    rng = writer.sheet.rng
    kind = writer.sheet.type(writer.body_px, lead=writer.lead)
    bullet, found = rng.choice((*BULLETS, "1.")), False
    indent = rng.choice((0.0, 0.5, 1.0)) * writer.body_px
    inner = Area(area.left + indent, area.top, area.right, area.bottom)
    for item in range(1, rng.randint(1, 5) + 1):
        mark = f"{item}." if bullet == "1." else bullet
        lines = writer.wrapped(mark, inner, kind, 2, 0.2)
        if not lines or lines[0] == mark or kind.pitch * len(lines) > inner.height:
            break
        boxes = []
        for line in lines:
            boxes.append(writer.sheet.line(inner.left, inner.top, line, kind))
            inner.top += kind.pitch
        plain = " ".join(lines).removeprefix(mark).strip()
        written = f"{mark if bullet == '1.' else '-'} {plain}"
        writer.sheet.add("List-item", boxes, written, written)
        inner.top += rng.choice((0.0, 0.15)) * writer.body_px
        found = True
    area.top = inner.top + rng.uniform(0.3, 1.0) * writer.body_px * found
    return found


def heading(writer: BlockWriter, area: Area) -> bool:
    """A Section-header, often with a number, up to 40 px."""
    rng = writer.sheet.rng
    kind = writer.sheet.type(min(40.0, writer.body_px * rng.uniform(1.0, 1.35)), bold=rng.random() < 0.85)
    first = f"{rng.randint(1, 9)}.{rng.randint(1, 9)}" if rng.random() < 0.35 else writer.fitting(area, kind)
    return writer.print(writer.wrapped(first, area, kind, 2, 0.35), area, kind, "Section-header", "## ")


def title(writer: BlockWriter, area: Area) -> bool:
    """The Title, up to 40 px."""
    rng = writer.sheet.rng
    kind = writer.sheet.type(min(40.0, writer.body_px * rng.uniform(1.4, 2.1)), bold=rng.random() < 0.8)
    first = writer.fitting(area, kind)
    return writer.print(writer.wrapped(first, area, kind, 2, 0.3), area, kind, "Title", "# ")


def caption(writer: BlockWriter, area: Area) -> bool:
    """A Caption in a slightly smaller type."""
    rng = writer.sheet.rng
    kind = writer.sheet.type(max(14.0, writer.body_px * 0.9), lead=writer.lead)
    first = f"{rng.choice(('Figure', 'Fig.', 'Table', 'Picture'))} {rng.randint(1, 20)}{rng.choice('.:')}"
    return writer.print(writer.wrapped(first, area, kind, 2, 0.15), area, kind, "Caption")


def figure(writer: BlockWriter, area: Area) -> bool:
    """A Picture, mostly with a Caption below it."""
    rng = writer.sheet.rng
    height = rng.uniform(0.25, 0.7) * area.width
    if height + 2 * writer.body_px > area.height or height < 24:
        return False
    left = area.left + rng.uniform(0, 0.3) * area.width
    box = _whole((left, area.top, left + rng.uniform(0.5, 1.0) * (area.right - left), area.top + height))
    picture(writer.sheet, box)
    writer.sheet.add("Picture", [box])
    area.top += height + rng.uniform(0.3, 0.7) * writer.body_px
    if rng.random() < 0.75:
        caption(writer, area)
    return True


def table(writer: BlockWriter, area: Area) -> bool:
    """A Table of short entries, ruled, ruled across or open."""
    rng, sheet = writer.sheet.rng, writer.sheet
    kind = sheet.type(writer.body_px)
    columns, rows = rng.randint(2, 4), rng.randint(2, 6)
    padding, pitch = rng.uniform(3, 8), kind.pitch + rng.uniform(2, 8)
    width = area.width / columns
    rows = min(rows, int(area.height // pitch))
    if rows < 2 or width < 3 * writer.body_px:
        return False
    head = sheet.type(writer.body_px, bold=rng.random() < 0.6)
    entries = [[_entry(writer, width - 2 * padding, kind, row == 0) for _ in range(columns)] for row in range(rows)]
    boxes = []
    for row, texts in enumerate(entries):
        for column, entry in enumerate(texts):
            left, top = area.left + column * width + padding, area.top + row * pitch + (pitch - kind.pitch) / 2
            boxes.append(sheet.line(left, top, entry, head if row == 0 else kind))
    if (rules := rng.choice(("all", "across", "none"))) != "none":  # an open table ends where its ink does
        boxes = [_whole((area.left, area.top, area.right, area.top + rows * pitch))]
        _rules(sheet, boxes[0], rows, columns, rules)
    html = "".join("<tr>" + "".join(f"<td>{entry}</td>" for entry in texts) + "</tr>" for texts in entries)
    sheet.add("Table", boxes, f"<table>{html}</table>", " ".join(entry for texts in entries for entry in texts))
    area.top += rows * pitch + rng.uniform(0.5, 1.0) * writer.body_px
    return True


def _whole(box: Box) -> Box:
    """Sides at whole pixels, where Pillow draws them anyway."""
    x0, y0, x1, y1 = box
    return float(round(x0)), float(round(y0)), float(round(x1)), float(round(y1))


def _entry(writer: BlockWriter, width: float, kind: Type, is_head: bool) -> str:
    """A word or a number that fits; marks that HTML would have to escape do not occur."""
    for _ in range(6):
        found = writer.prose.word() if is_head or writer.sheet.rng.random() < 0.4 else number(writer.sheet.rng)
        if not set("<>&") & set(found) and kind.length(found) * 1.12 <= width:
            return found
    return str(writer.sheet.rng.randrange(10))


def _rules(sheet: Sheet, box: Box, rows: int, columns: int, kind: str) -> None:
    x0, y0, x1, y1 = box
    for row in range(rows + 1):
        y = round(y0 + (y1 - y0) * row / rows)
        sheet.draw.line((x0, y, x1, y), fill=sheet.ink)
    if kind == "all":
        for column in range(columns + 1):
            x = round(x0 + (x1 - x0) * column / columns)
            sheet.draw.line((x, y0, x, y1), fill=sheet.ink)
