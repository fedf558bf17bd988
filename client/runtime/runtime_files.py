"""The files of a runtime: its folder, lock and sockets, which may be removed while it runs.

Clients cannot reach a runtime without them, and a second one of its name may start.
"""

from pathlib import Path

from dotsctl.client.runtime.client_listener import ClientListener
from dotsctl.protocol.endpoints import InstanceDirectory, InstanceLock


class RuntimeFiles:
    """The files by which clients and workers reach a runtime."""

    def __init__(
        self, directory: InstanceDirectory, lock: InstanceLock, listener: ClientListener, worker_socket: Path
    ) -> None:
        """Record the files that must stay; all of them exist."""
        self._directory, self._lock, self._listener, self._worker_socket = directory, lock, listener, worker_socket
        self._missing: Path | None = None
        """A decoder's socket that was missing at the last check; a decoder that ends by itself removes it."""

    def missing(self, data_socket: Path | None) -> str:
        """Return what is missing, for the end of a sentence; empty: nothing is.

        Args:
            data_socket: of the decoder that is ready; none: there is none.
        """
        if not self._directory.path.is_dir():
            return f"its folder {self._directory.path} was removed"
        if not self._lock.is_current:
            return f"its lock {self._directory.lock_path} was removed or replaced"
        before, self._missing = self._missing, None if data_socket is None or data_socket.exists() else data_socket
        sockets = {
            self._directory.client_socket: self._listener.is_in_place,
            self._worker_socket: self._worker_socket.exists(),
            **({before: False} if before is not None and before == self._missing else {}),
        }
        return next((f"its socket {path} was removed" for path, is_there in sockets.items() if not is_there), "")
