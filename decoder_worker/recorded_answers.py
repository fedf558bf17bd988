"""Recorded answers of a model, from one file for all pages or from a folder with one file for each source."""

from pathlib import Path

from dotsctl.protocol.errors import ErrorCode, MissingError, PageError
from dotsctl.protocol.model.file_names import shown
from dotsctl.protocol.model.files import open_regular

PIECE_CHARACTERS = 5
"""Characters of a piece: an answer arrives in many parts, which end inside words, escapes and tags."""
MAX_BYTES = 16 << 20
"""Size limit of an answer."""


class RecordedAnswers:
    """The answers that ``fake:answer=FILE|DIR`` names; a file is read for each page."""

    def __init__(self, path: Path) -> None:
        """Check the path.

        Raises:
            MissingError: there is no such file or folder.
        """
        if not path.exists():
            raise MissingError(f"there is no answer {shown(path)}", "give answer= a text file, or a folder of them")
        self._path = path

    def pieces(self, source: str) -> list[str]:
        """Return the answer of a page in pieces, at least one.

        Args:
            source: name of the page's source without its ending; a folder is searched for a file of that stem.

        Raises:
            PageError: there is no such file or more than one, or it is not UTF-8 text of at most 16 MiB.
        """
        path = self._file_of(source) if self._path.is_dir() else self._path
        try:
            with open_regular(path) as stream:
                content = stream.read(MAX_BYTES + 1)
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(f"the answer {shown(path)} cannot be read: {error}", "give a file of UTF-8 text") from None
        if len(content) > MAX_BYTES:
            raise _refused(f"the answer {shown(path)} has more than {MAX_BYTES >> 20} MiB", "give a smaller file")
        return [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)] or [""]

    def _file_of(self, source: str) -> Path:
        found = sorted(
            path for path in self._path.iterdir() if source and shown(path.stem) == source and path.is_file()
        )
        if len(found) == 1:
            return found[0]
        name = source or "a page without a name"
        if not found:
            problem = f"there is no answer for {name} in {shown(self._path)}"
            raise _refused(problem, f"add {name}.txt to the folder" if source else "give answer= one file")
        names = " and ".join(shown(path.name) for path in found)
        raise _refused(f"{shown(self._path)} has several answers for {name}: {names}", "keep one of them")


def _refused(problem: str, remedy: str) -> PageError:
    return PageError(problem, remedy, code=ErrorCode.INTERNAL)
