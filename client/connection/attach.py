"""The way to a runtime: the running one, or a private one; found again when it was restarted between two calls."""

import os
import sys
import threading
import time
import warnings

from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.defaults import AUTO
from dotsctl.protocol import descriptors, endpoints
from dotsctl.protocol.errors import RuntimeLostError, UsageError
from dotsctl.protocol.messages import Welcome
from dotsctl.protocol.model.directory import find_model


class Connection:
    """Opened once, then again whenever a call finds that its runtime has ended; any thread may use it."""

    def __init__(self, choices: settings.Choices, *, private: bool, timeout_s: float, owner: str) -> None:
        """Nothing is opened yet.

        Args:
            choices: the settings that the user requests of the runtime.
            private: start a private runtime even if one is running.
            timeout_s: longest time until all workers are ready.
            owner: name of the caller's class, for messages.
        """
        self._owner = owner
        self._pid: int | None = None
        """The process that opened it; none: it was not opened yet, so a forked process may do that."""
        self._choices, self._timeout_s = choices, timeout_s
        self._directory = endpoints.instance_directory(choices.name)
        self._private: bool | None = private or None
        """Whether the runtime is ours; none: not decided."""
        self._opening = threading.Lock()
        self._state = threading.Lock()
        self._runtime: launch.RuntimeProcess | None = None
        self._coming: Session | None = None
        """A session that is not welcomed yet, or not checked."""
        self._session: Session | None = None
        self._is_closed = False
        self.welcome: Welcome | None = None
        """The welcome of the first runtime; every later one must hold the same."""
        self.encoder = ""
        """The encoder of our pages, ``auto`` where the runtime chooses; of the first runtime, as it was then."""

    @property
    def render_timeout_s(self) -> float:
        """The longest time for which a page may be rendered before it is sent."""
        return self._choices.render_timeout_s

    def live(self) -> Session | None:
        """The session, if its runtime still runs; never waits.

        Raises:
            UsageError: this process is not the one that made the connection.
            RuntimeLostError: the connection was closed here.
        """
        self._refuse_forked()  # before any lock: in a forked process it would never be released
        with self._state:
            self._refuse_closed()
            session = self._session
        return session if session is not None and session.is_alive() else None

    def session(self) -> Session:
        """The session with a runtime that runs; opens one if need be.

        Raises:
            UsageError: the runtime holds another model or encoder than before, or than was requested.
            RuntimeLostError: the named runtime does not run or is gone, or this connection was closed.
            MissingError: there is no such model, or a dependency is missing.
            CommandFailedError: the workers could not be started, or no descriptor is free.
        """
        self._refuse_forked()
        self._pid = os.getpid()
        descriptors.raise_limit()
        with self._opening, descriptors.naming_shortage():
            if (session := self.live()) is not None:
                return session
            self._drop()
            if self._private is None:
                self._private = endpoints.lock_holder(self._directory) is None
                if self._private and self._choices.is_chosen("name"):
                    self._private = None  # it may be started until the next call
                    raise endpoints.not_running(self._choices.name)
            try:
                session = self._started() if self._private else self._joined()
                session.encoder_index = self._check_same(session.welcome)
            except BaseException:  # Ctrl-C too: only this call can end what was started
                self._drop()
                raise
            if self.welcome is None:
                self.welcome, self.encoder = session.welcome, _name(session.welcome, session.encoder_index)
            with self._state:
                self._session, self._coming = session, None
            return session

    def _started(self) -> Session:
        """A session with a new private runtime."""
        deadline = time.monotonic() + self._timeout_s
        runtime = launch.start(settings.runtime_config(self._choices, launch.private_name()), private=True)
        with self._state:
            self._runtime = runtime
            is_closed = self._is_closed
        if is_closed:
            runtime.end(now=True)
        runtime.wait_ready(self._timeout_s)
        return self._greeted(runtime.directory, max(1.0, deadline - time.monotonic()))

    def _joined(self) -> Session:
        """A session with the named runtime."""
        if endpoints.lock_holder(self._directory) is None:
            name = self._choices.name
            raise RuntimeLostError(
                f"the runtime {name!r} has ended", f"start it again with 'dotsctl up -d --name {name}'"
            )
        return self._greeted(self._directory, self._timeout_s)

    def _greeted(self, directory: endpoints.InstanceDirectory, timeout_s: float) -> Session:
        session = Session(directory, timeout_s, hello=False)
        with self._state:
            self._coming = session
            is_closed = self._is_closed
        if is_closed:
            session.close()
        session.greet(timeout_s)
        return session

    def _check_same(self, welcome: Welcome) -> int | None:
        """Refuse a runtime that is not what the caller requested, or had before.

        Returns the slot of the encoder that the caller named; none: the runtime chooses.
        """
        encoders = (*welcome.encoders, *([AUTO] if welcome.auto else []))
        running = {"model": (welcome.model,), "encoder": encoders, "decoder": (welcome.decoder,)}
        expected = self._expected(welcome)
        for key, value in expected.items():
            if value not in running[key]:
                raise UsageError(
                    f"the runtime {self._choices.name!r} uses {key} {' and '.join(map(repr, running[key]))}, "
                    f"but {value!r} was requested",
                    "stop it with 'dotsctl down', or use another --name",
                )
        if self.welcome is not None and welcome.fingerprint != self.welcome.fingerprint:
            raise UsageError(
                f"the model {welcome.model!r} of the runtime {self._choices.name!r} has changed since this client was "
                f"made ({self.welcome.fingerprint[:12]}, now {welcome.fingerprint[:12]})",
                "create a new client",
            )
        requested = expected.get("encoder", AUTO)
        return None if requested == AUTO else welcome.encoders.index(requested)

    def _expected(self, welcome: Welcome) -> dict[str, str]:
        """Return what the runtime must hold: what it held before, or else what the user chose."""
        if self.welcome is not None:
            return {"model": self.welcome.model, "encoder": self.encoder, "decoder": self.welcome.decoder}
        if self._private:
            return {}  # it was just started with these settings
        chosen = self._choices
        requested = {
            "model": chosen.model or "",
            "encoder": chosen.encoder,
            "decoder": chosen.decoder,
        }
        if settings.is_auto(chosen.encoder) and not welcome.auto:
            requested["encoder"] = settings.resolve_encoder(chosen.encoder, chosen.model)
        if chosen.is_chosen("model"):
            requested["model"] = find_model(chosen.model)[0]
        return {key: value for key, value in requested.items() if chosen.is_chosen(key)}

    def _drop(self) -> None:
        """Close the sessions, end the private runtime if there is one, and wait until it has ended."""
        with self._state:
            sessions, self._session, self._coming = (self._session, self._coming), None, None
            runtime, self._runtime = self._runtime, None
        for session in filter(None, sessions):
            session.close()
        if runtime is not None:
            runtime.end(now=True)

    def _refuse_forked(self) -> None:
        if self._pid not in (None, os.getpid()):
            raise UsageError(
                f"this {self._owner} belongs to process {self._pid}, and this is process {os.getpid()}",
                "create one in each process",
            )

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise RuntimeLostError("this connection to the runtime is closed", "open a new one")

    def close(self) -> None:
        """Close the session, and end the private runtime if there is one; also while another thread opens it.

        In a forked process nothing is done: session and runtime belong to the process that made them.
        """
        if self._pid not in (None, os.getpid()):
            return
        with self._state:
            self._is_closed = True
        self._drop()

    def __del__(self) -> None:
        if getattr(self, "_session", None) is None or self._is_closed or self._pid != os.getpid():
            return
        try:
            warnings.warn(
                f"{self._owner} was not closed: use it in a 'with' block, or call close()", ResourceWarning, 2
            )
        finally:
            if not sys.is_finalizing():  # then no thread runs that could be waited for, and the runtime sees our end
                self.close()


def _name(welcome: Welcome, index: int | None) -> str:
    """Return the name of the encoder in a slot; none: that of pages that name no encoder."""
    if index is None and welcome.auto:
        return AUTO
    return welcome.encoders[index or 0]
