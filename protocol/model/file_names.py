"""Names of files as text: any bytes can be a name, and not all of them are UTF-8."""

import os
import re
from pathlib import Path

AMBIGUOUS = re.compile(r"\\x[89a-f][0-9a-f]")
"""The form of an escaped byte."""
TOKEN = re.compile(rb"\\\\|\\x([89a-f][0-9a-f])")


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text that any terminal and any JSON file takes; no two paths have the same text.

    Bytes that are no UTF-8 become ``\xff``. In such a name, and in one that holds these four characters, a backslash
    becomes two. :func:`path_shown` is the way back.
    """
    name = os.fsencode(path)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return text.replace("\\", "\\\\") if AMBIGUOUS.search(text) else text


def path_shown(text: str) -> Path:
    """Return the path that :func:`shown` made a text of."""
    name = text.encode()
    if AMBIGUOUS.search(text):
        name = TOKEN.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\", name)
    return Path(os.fsdecode(name))
