"""Turns whatever a plugin raises while it is imported, loaded or warmed up into one line that names both.

Another start would meet the same fault, so these are errors that end a worker for good; only what the machine caused
(a GPU that refuses work) passes as it is, and the worker is started again.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dotsctl.protocol.errors import REINSTALL, CommandFailedError, DotsctlError, MissingError, PageError
from dotsctl.protocol.worker.gpu_faults import is_gpu_fault

MAX_CHARACTERS = 300
REMEDY = "repair it, or choose another plugin; 'dotsctl logs' and -v show the traceback"


@contextmanager
def load_faults(where: str, step: str) -> Iterator[None]:
    """Turn every exception of a plugin into an error for the user.

    Args:
        where: role and name of the plugin.
        step: what it does, as ``load`` or ``the warm-up page``.

    Raises:
        MissingError: a module is not installed, or cannot be imported.
        CommandFailedError: everything else that is no error of dotsctl already.
        RuntimeError: macOS ended or refused work on the GPU; only this one is worth another start.
    """
    try:
        with import_errors(where):
            yield
    except PageError as error:
        raise CommandFailedError(f"{where} fails on {step}: {error.problem}", error.remedy or REMEDY) from error
    except DotsctlError:
        raise
    except (Exception, SystemExit) as error:
        if is_gpu_fault(error):
            raise
        raise CommandFailedError(f"{where} {raised(error)} in {step}{location_of(error)}", REMEDY) from error


def raised(error: BaseException) -> str:
    """Return what a plugin did, in one line: ``raised ValueError: no such layer``."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r:.40})"
    text = " ".join(str(error).split())[:MAX_CHARACTERS]
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def location_of(error: BaseException) -> str:
    """Return the file and line where an exception was raised, in brackets; empty: not known."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


@contextmanager
def import_errors(where: str) -> Iterator[None]:
    """Turn a failing import into an error that names what to install.

    Args:
        where: what is imported, for the user.

    Raises:
        MissingError: a module is not installed, or cannot be imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{where} needs the module {error.name!r}, which is not installed",
            f"{REINSTALL}, or install what the plugin's documentation names",
        ) from error
    except ImportError as error:
        raise MissingError(
            f"{where} cannot be imported ({error})", "install its latest version, or repair it"
        ) from error
