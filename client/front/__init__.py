"""dotsctl: dots.ocr in two long-lived worker processes.

    from dotsctl import Client

    with Client(model="demo") as client:
        for page in client.ocr(["scan.png"]):
            print(page.markdown)

The public names are imported when they are first asked for, so that ``import dotsctl`` costs nothing in workers
and on the command line.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dotsctl.client.api import Client
    from dotsctl.client.async_api import AsyncClient
    from dotsctl.client.records import Cell, Failure, Page
    from dotsctl.protocol.errors import (
        AlreadyRunningError,
        CommandFailedError,
        DotsctlError,
        ErrorCode,
        ExitCode,
        MissingError,
        OutputError,
        PageError,
        ProtocolError,
        RuntimeLostError,
        UsageError,
    )

__version__ = "0.1.0"

__all__ = [
    "AlreadyRunningError",
    "AsyncClient",
    "Cell",
    "Client",
    "CommandFailedError",
    "DotsctlError",
    "ErrorCode",
    "ExitCode",
    "Failure",
    "MissingError",
    "OutputError",
    "Page",
    "PageError",
    "ProtocolError",
    "RuntimeLostError",
    "UsageError",
    "__version__",
]

_HOMES = {
    "Client": "client.api",
    "AsyncClient": "client.async_api",
    "Page": "client.records",
    "Cell": "client.records",
    "Failure": "client.records",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for; all that are not in the table are errors."""
    if name not in __all__:
        raise AttributeError(f"module 'dotsctl' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"dotsctl.{_HOMES.get(name, 'protocol.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
