"""The record of a written file, by which a later run sees whether the file is still the same."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.model.files import open_regular


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file as it was written."""

    path: str
    """The path as :func:`dotsctl.protocol.model.file_names.shown` writes it."""
    size: int
    """The size in bytes."""
    mtime_ns: int
    sha256: str
    """Digest of its bytes, hexadecimal."""

    def is_still(self, path: Path) -> bool:
        """Return whether the file at ``path`` has these bytes; they are read only where its time is another one."""
        try:
            found = path.stat()
            if found.st_size != self.size:
                return False
            if found.st_mtime_ns == self.mtime_ns:
                return True
            with open_regular(path) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
        except (OSError, ValueError):
            return False
