"""dotsctl: dots.ocr in two long-lived worker processes.

    from dotsctl import Client

    with Client(model="demo") as client:
        print(client.read("scan.png").markdown)

The public names are imported when they are first used, so that ``import dotsctl`` costs nothing in workers
and on the command line.
"""

TYPE_CHECKING = False  # for type checkers; the module typing would take a tenth of the time to the first line

if TYPE_CHECKING:
    from dotsctl.client.api import Client
    from dotsctl.client.async_api import AsyncClient
    from dotsctl.client.inputs.accepted import Inputs, Source
    from dotsctl.client.inputs.pages import PageInput
    from dotsctl.client.jobs.page_options import AskOptions, ReadOptions, StreamOptions
    from dotsctl.client.outputs.document import Document
    from dotsctl.client.results.cell import Cell
    from dotsctl.client.results.events import PageEvent, PageRestarted, PageText
    from dotsctl.client.results.page import Failure, Page
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
    from dotsctl.protocol.geometry import Box
    from dotsctl.protocol.messages import Status
    from dotsctl.protocol.page_hint import HintBlock, PageHint

__version__ = "0.1.0"

_HOMES = {
    "client.api": ("Client",),
    "client.async_api": ("AsyncClient",),
    "client.inputs.accepted": ("Inputs", "Source"),
    "client.inputs.pages": ("PageInput",),
    "client.jobs.page_options": ("AskOptions", "ReadOptions", "StreamOptions"),
    "client.outputs.document": ("Document",),
    "client.results.cell": ("Cell",),
    "client.results.events": ("PageEvent", "PageRestarted", "PageText"),
    "client.results.page": ("Failure", "Page"),
    "protocol.geometry": ("Box",),
    "protocol.messages": ("Status",),
    "protocol.page_hint": ("HintBlock", "PageHint"),
}
"""Module of each public name; the others are those of ``protocol.errors``."""

__all__ = [
    "AlreadyRunningError",
    "AskOptions",
    "AsyncClient",
    "Box",
    "Cell",
    "Client",
    "CommandFailedError",
    "Document",
    "DotsctlError",
    "ErrorCode",
    "ExitCode",
    "Failure",
    "HintBlock",
    "Inputs",
    "MissingError",
    "OutputError",
    "Page",
    "PageError",
    "PageEvent",
    "PageHint",
    "PageInput",
    "PageRestarted",
    "PageText",
    "ProtocolError",
    "ReadOptions",
    "RuntimeLostError",
    "Source",
    "Status",
    "StreamOptions",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used; all that are not in the table are errors."""
    if name not in __all__:
        raise AttributeError(f"module 'dotsctl' has no attribute {name!r}")
    from importlib import import_module

    home = next((module for module, names in _HOMES.items() if name in names), "protocol.errors")
    value: object = getattr(import_module(f"dotsctl.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
