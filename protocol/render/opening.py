"""Opening of an input file, with the reason and the remedy where that is not possible."""

import errno
import io
import sys
from pathlib import Path

from dotsctl.protocol.errors import PageError
from dotsctl.protocol.model.files import open_regular

DEFAULT_TIMEOUT_S = 60.0
"""Longest time for which a page may be rendered, where the user chose none."""
SIGNATURE = b"%PDF-"
SIGNATURE_WITHIN_BYTES = 1024
"""Readers accept a header that begins anywhere in so many bytes; mail programs and scanners put lines before it."""


def open_input(path: Path) -> io.BufferedReader:
    """Open a file for reading. Raises PageError for what stands in the way."""
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise PageError("there is no such file", "check the name and the folder you are in") from None
    except IsADirectoryError:
        raise PageError("this is a folder", "name the pictures in it; the command line takes folders") from None
    except PermissionError as error:
        if remedy := privacy_remedy(error):
            raise PageError("macOS does not let this program read the file", remedy) from None
        raise PageError("you may not read this file", "change its permissions, as with chmod u+r") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EINVAL and not path.is_file():
            raise PageError("this is not a regular file", "name a file; a pipe is read with -") from None
        raise unreadable(error, "opened") from None


def unreadable(error: OSError | ValueError, what: str = "read") -> PageError:
    """The failure of a page whose file cannot be opened or read, as ``what`` describes."""
    if isinstance(error, OSError) and error.errno == errno.EDEADLK:  # what a file provider of macOS answers
        problem = "the file is in iCloud or another cloud, and was not downloaded"
        return PageError(problem, "choose 'Download Now' in its menu in Finder, and run the same command again")
    return PageError(f"the file cannot be {what}: {reason_of(error)}")


def privacy_remedy(error: OSError) -> str:
    """Return the remedy where the privacy protection of macOS refuses a file or a folder; empty: another cause.

    The protection answers EPERM, the permissions of a file answer EACCES.
    """
    if sys.platform != "darwin" or error.errno != errno.EPERM:
        return ""
    place = "System Settings > Privacy & Security > Files and Folders"
    return f"allow the folder in {place}, for your terminal or for {sys.executable}"


def reason_of(error: OSError | ValueError) -> str:
    """The system's message for an error."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
