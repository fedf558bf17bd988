"""The name of each result in a folder of results: the tree of the inputs mirrored, and no name twice.

``a.png`` becomes ``a.md``. Where another input owns that name, in this run or by the journal of an earlier one, it
becomes ``a.png.md``, then ``a.png-2.md`` and so on.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dotsctl.client.journal import Journal, same_file
from dotsctl.client.sources import Document, absolute

STDIN_STEM = "stdin"


def identity(document: Document) -> str:
    """What tells one input from another across runs: the absolute path, or ``-``."""
    return str(absolute(document.path)) if document.path is not None else document.name


def name_outputs(documents: Sequence[Document], ending: str, journal: Journal) -> dict[str, str]:
    """The output below the folder, with ``/``, by name of the document.

    Args:
        documents: in the order of the user, who decides by it which of two gets the plain name.
        ending: of the outputs, without the dot.
        journal: of the folder.
    """
    roots = [document.root for document in documents if document.path is not None]
    root = Path(os.path.commonpath(roots)) if roots else Path.cwd()
    taken: set[str] = set()
    names: dict[str, str] = {}
    for document in documents:
        for candidate in _candidates(document, root, ending):
            if same_file(candidate) not in taken and _is_free(candidate, document, journal):
                taken.add(same_file(candidate))
                names[document.name] = candidate
                break
    return names


def _candidates(document: Document, root: Path, ending: str) -> Iterator[str]:
    """Names in the order in which they are tried; there is always one more."""
    if document.path is None:
        stem = full = STDIN_STEM
    else:
        below = absolute(document.path).relative_to(root)
        stem, full = below.with_suffix("").as_posix(), below.as_posix()
    yield f"{stem}.{ending}"
    yield f"{full}.{ending}"
    for number in itertools.count(2):
        yield f"{full}-{number}.{ending}"


def _is_free(output: str, document: Document, journal: Journal) -> bool:
    """Whether no other input owns the name; an input that was moved keeps its name by its bytes."""
    entry = journal.entry(output)
    if entry is None or entry.source == identity(document):
        return True
    return bool(entry.digest) and entry.digest == document.digest()
