"""The name of each result in a folder of results: the tree of the inputs mirrored, and no name twice.

``a.png`` becomes ``a.md``. Where another input owns that name, in this run or by the journal of an earlier one, or
where it is that of an input or of a folder in the tree, it becomes ``a.png.md``, then ``a.png-2.md`` and so on. A name
that is too long for the volume is cut, with a digest of all of it. Names are text, see
:func:`dotsctl.protocol.model.file_names.shown`.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dotsctl.client.inputs.sources import InputFile, here
from dotsctl.client.outputs.journal import Journal, same_file
from dotsctl.protocol.model.file_names import path_shown, shown

STDIN_STEM = "stdin"
LONGEST_BYTES = 255
"""The most bytes of a name, where the volume reports no other limit."""
HALF_CHARACTER = re.compile("[\udc80-\udcff]+$")


def identity(document: InputFile) -> str:
    """Return what identifies an input across runs: the absolute path, or ``-``."""
    return shown(document.place) if document.place is not None else document.name


class OutputNames:
    """The outputs below a folder, with ``/``."""

    def __init__(self, documents: Sequence[InputFile], ending: str, journal: Journal) -> None:
        """Choose all names.

        Args:
            documents: in the order of the user, who decides by it which of two gets the plain name.
            ending: of the outputs, without the dot.
            journal: of the folder.
        """
        self._ending, self._journal = ending, journal
        self._longest = _longest_name(journal.folder)
        self._inputs = {os.path.realpath(document.path) for document in documents if document.path is not None}
        roots = [document.root for document in documents if document.path is not None]
        self._root = Path(os.path.commonpath(roots)) if roots else here()
        self._folders: set[str] = set()
        for document in documents:
            self._folders.update(same_file(shown(each)) for each in self._folder(document).parents)
            self._folders.add(same_file(shown(self._folder(document))))
        self._taken: set[str] = set()
        self.names: dict[str, str] = {}
        """The names of outputs by the name of the document."""
        for document in documents:
            self.choose(document)

    def choose(self, document: InputFile) -> str:
        """Choose the first free name; in place of the one that it had, which turned out to be another input's."""
        for candidate in self._candidates(document):
            name = same_file(candidate)
            is_taken = name in self._taken or name in self._folders or self.is_input(candidate)
            if not is_taken and self.is_free(candidate, document):
                break
        self._taken.add(same_file(candidate))
        self.names[document.name] = candidate
        return candidate

    def is_input(self, output: str) -> bool:
        """Return whether one of the inputs has this path."""
        return os.path.realpath(self._journal.folder / path_shown(output)) in self._inputs

    def is_free(self, output: str, document: InputFile) -> bool:
        """Return whether no other input owns the name; an input that was moved keeps its name by its bytes."""
        entry = self._journal.entry(output)
        if entry is None or entry.source == identity(document):
            return True
        return bool(entry.digest) and entry.digest == document.digest()

    def _folder(self, document: InputFile) -> Path:
        """The folder of its output, below that of the results."""
        if document.place is None:
            return Path()
        below = document.place.relative_to(self._root).parent
        return Path(*(self._shortened(part, "") for part in below.parts))

    def _candidates(self, document: InputFile) -> Iterator[str]:
        """Names in the order in which they are tried; there is always one more."""
        folder = self._folder(document)
        stem, suffix = (STDIN_STEM, "") if document.path is None else (document.path.stem, document.path.suffix)
        tails = itertools.chain(("", suffix), (f"{suffix}-{number}" for number in itertools.count(2)))
        for tail in tails:
            yield shown((folder / self._shortened(stem, f"{tail}.{self._ending}")).as_posix())

    def _shortened(self, stem: str, tail: str) -> str:
        """A name that the volume takes."""
        name = os.fsencode(stem + tail)
        if len(name) <= self._longest:
            return stem + tail
        mark = f"-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"
        room = max(self._longest - len(os.fsencode(mark + tail)), 0)
        return HALF_CHARACTER.sub("", os.fsdecode(os.fsencode(stem)[:room])) + mark + tail


def _longest_name(folder: Path) -> int:
    """Return how many bytes a name may have on the volume of a folder, which need not exist."""
    for each in (folder, *folder.parents):
        try:
            return os.pathconf(each, "PC_NAME_MAX")
        except (OSError, ValueError):
            continue  # a folder that is made later
    return LONGEST_BYTES
