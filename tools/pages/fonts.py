"""Font families of the generated pages, found by file name at run time.

The DejaVu families come with matplotlib's wheel, so they are the same on every machine; the others are Debian
packages. A family that is not installed is a clear error, never a silent replacement.
"""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dotsctl.protocol.errors import MissingError, UsageError
from PIL import ImageFont

MATPLOTLIB = "matplotlib"
"""The value that stands for the wheel where other families name a Debian package."""


@dataclass(frozen=True)
class Family:
    """A regular and a bold face."""

    package: str
    """Debian package with the files, or ``matplotlib``."""
    regular: str
    bold: str


FAMILIES = {
    "dejavu-sans": Family(MATPLOTLIB, "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    "dejavu-serif": Family(MATPLOTLIB, "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    "dejavu-mono": Family(MATPLOTLIB, "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    "liberation-sans": Family("fonts-liberation", "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    "liberation-serif": Family("fonts-liberation", "LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf"),
    "liberation-mono": Family("fonts-liberation", "LiberationMono-Regular.ttf", "LiberationMono-Bold.ttf"),
    "freesans": Family("fonts-freefont-ttf", "FreeSans.ttf", "FreeSansBold.ttf"),
    "freeserif": Family("fonts-freefont-ttf", "FreeSerif.ttf", "FreeSerifBold.ttf"),
    "freemono": Family("fonts-freefont-ttf", "FreeMono.ttf", "FreeMonoBold.ttf"),
    "noto-sans": Family("fonts-noto-core", "NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    "noto-serif": Family("fonts-noto-core", "NotoSerif-Regular.ttf", "NotoSerif-Bold.ttf"),
    "carlito": Family("fonts-crosextra-carlito", "Carlito-Regular.ttf", "Carlito-Bold.ttf"),
    "caladea": Family("fonts-crosextra-caladea", "Caladea-Regular.ttf", "Caladea-Bold.ttf"),
    "open-sans": Family("fonts-open-sans", "OpenSans-Regular.ttf", "OpenSans-Bold.ttf"),
    "roboto": Family("fonts-roboto-unhinted", "Roboto-Regular.ttf", "Roboto-Bold.ttf"),
    "lato": Family("fonts-lato", "Lato-Regular.ttf", "Lato-Bold.ttf"),
}
HELD_OUT = ("caladea", "noto-serif", "open-sans", "roboto")
"""The families that are never trained on: they measure how well other fonts are read."""
TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)
EVERYWHERE = ("dejavu-sans", "dejavu-serif", "dejavu-mono")
"""Installed with matplotlib."""
FIRST = (*EVERYWHERE, "liberation-sans")
"""The families that can be learnt on a CPU: the sample pages are of these, and Arial resembles the last one."""


def families(names: str) -> tuple[str, ...]:
    """Families of a comma-separated list; ``first``, ``trained``, ``held-out``, ``everywhere`` and ``all`` are groups.

    Raises:
        UsageError: a name is unknown.
    """
    groups = {
        "first": FIRST, "trained": TRAINED, "held-out": HELD_OUT, "everywhere": EVERYWHERE, "all": tuple(FAMILIES)
    }  # fmt: skip
    found: list[str] = []
    for name in (name.strip() for name in names.split(",")):
        if name not in groups and name not in FAMILIES:
            raise UsageError(f"no font family {name!r}; there are {', '.join([*groups, *FAMILIES])}")
        found += groups.get(name, (name,))
    return tuple(dict.fromkeys(found))


@cache
def font(family: str, size_px: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A face of one of the FAMILIES.

    Raises:
        MissingError: its file is not installed.
    """
    entry = FAMILIES[family]
    name = entry.bold if bold else entry.regular
    path = _bundled().get(name) if entry.package == MATPLOTLIB else _installed().get(name)
    if path is None:
        raise MissingError(f"font {name} of family {family} is not installed", f"{_remedy(entry)}")
    return ImageFont.truetype(str(path), size_px)


def _remedy(entry: Family) -> str:
    return "pip install 'dotsctl[train]'" if entry.package == MATPLOTLIB else f"apt-get install {entry.package}"


@cache
def _bundled() -> dict[str, Path]:
    """Fonts of matplotlib's wheel by file name; none without it."""
    try:
        import matplotlib  # heavy, and only its fonts are needed
    except ImportError:
        return {}
    return {path.name: path for path in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")}


@cache
def _installed() -> dict[str, Path]:
    """Fonts of the system and of the user by file name."""
    home = Path.home()
    folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]
    folders += [Path("/Library/Fonts"), home / "Library/Fonts"]
    found: dict[str, Path] = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            found |= {name: Path(parent, name) for name in names if name.endswith(".ttf") and name not in found}
    return found
