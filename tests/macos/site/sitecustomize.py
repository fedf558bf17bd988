"""Makes a Python process under Linux believe that it runs on macOS; ``python -m tests.macos`` puts it into the path.

The library that is preloaded answers the calls of libSystem. ``selectors`` is imported before the platform changes, so
that it uses epoll.
"""

import ctypes
import importlib.abc
import importlib.machinery
import os
import platform
import select
import selectors  # noqa: F401
import sys
import types
from typing import Any

LINUX_ONLY = {"pypdfium2", "pypdfium2_raw", "torch", "truststore"}
"""Packages that load Apple's libraries, or a library of their own with another name, where they see macOS."""
FRAMEWORKS = "/System/Library/Frameworks/"
pidfd_open = os.pidfd_open
EV_ERROR = 0x4000  # xnu bsd/sys/event.h


class Kqueue:
    """``select.kqueue`` as far as it waits for the end of one process."""

    def control(self, changes: list[Any], max_events: int, timeout_s: float | None) -> list[Any]:
        """Wait for the end of the process of the one change; an unknown process is an event with an error."""
        (change,) = changes
        assert (change.filter, max_events) == (select.KQ_FILTER_PROC, 1)
        try:
            fd = pidfd_open(change.ident)
        except ProcessLookupError:
            return [types.SimpleNamespace(ident=change.ident, flags=EV_ERROR)]
        try:
            return changes if select.select([fd], [], [], timeout_s)[0] else []
        finally:
            os.close(fd)

    def close(self) -> None:
        """Do nothing: no descriptor is kept."""


def kevent(ident: int, filter: int, flags: int, fflags: int) -> types.SimpleNamespace:
    """Return an event as ``select.kevent`` does."""
    return types.SimpleNamespace(ident=ident, filter=filter, flags=flags, fflags=fflags)


class Library(ctypes.CDLL):
    """A library; one of Apple's frameworks is the library that is preloaded."""

    def __init__(self, name: str | None, *arguments: Any, **options: Any) -> None:
        super().__init__(None if name and name.startswith(FRAMEWORKS) else name, *arguments, **options)


class LinuxFinder(importlib.abc.MetaPathFinder):
    """Imports the packages of :data:`LINUX_ONLY` with the real names of the platform."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a spec whose loader shows Linux while the module is executed; None for all other modules."""
        if name.partition(".")[0] not in LINUX_ONLY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                before = sys.platform  # that of the outer one, where one such import leads to another
                pretend("linux")
                try:
                    execute(module)
                finally:
                    pretend(before)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def pretend(name: str) -> None:
    """Answer with this name of the system, and with those that belong to it."""
    system, machine = {"darwin": ("Darwin", "arm64"), "linux": ("Linux", "x86_64")}[name]
    sys.platform, platform.system, platform.machine = name, lambda: system, lambda: machine


pretend("darwin")
sys.meta_path.insert(0, LinuxFinder())
sys.modules["_scproxy"] = scproxy = types.ModuleType("_scproxy")
scproxy._get_proxy_settings = scproxy._get_proxies = dict  # type: ignore[attr-defined]
platform.mac_ver = lambda *_: ("26.1", ("", "", ""), "arm64")
del os.pidfd_open
select.kqueue, select.kevent = Kqueue, kevent  # type: ignore[attr-defined]
select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT = -5, 1, 0x80000000  # type: ignore[attr-defined]
ctypes.CDLL = Library  # type: ignore[misc]
