"""Sizes of files, for people and for the disk."""

import os
from pathlib import Path


def size_text(size_bytes: int) -> str:
    """A size of three digits with its unit, in powers of 1000 as disks are sold: ``6.08 GB``."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def memory_text(size_bytes: int) -> str:
    """A size of memory with its unit, in powers of 1024 as memory is sold: ``6.1 GiB``."""
    mib = size_bytes / (1 << 20)
    return f"{mib:.0f} MiB" if mib < 999.5 else f"{mib / 1024:.1f} GiB"


def tree_bytes(path: Path, *, of_links: bool = False) -> int:
    """Bytes of all files below a path, or of the file itself; 0 where there is nothing.

    Args:
        path: a file or a folder.
        of_links: count also what links in it lead to, as in the cache of the Hub; else what removing it sets free.
    """
    if path.is_symlink() and not of_links:
        return 0
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    sizes = {}  # by device and inode, as packages share weights by hard links
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            if file.is_file() and (of_links or not file.is_symlink()):
                found = file.stat()
                sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())
