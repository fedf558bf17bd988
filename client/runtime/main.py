"""Process shell of the runtime: arguments, lock, signals, exit code.

Not for the user's hands: ``dotsctl up`` and ``Client`` start it. The outcome of the start is written as one JSON line
to ``--ready-fd``, so that the starter waits for an event and can show the reason of a failure.
"""

import argparse
import json
import logging
import os
import shutil
import signal
import sys

from dotsctl.client.runtime.loop import RuntimeLoop
from dotsctl.client.runtime.processes import WorkerProcesses
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol import descriptors, endpoints, left_workers
from dotsctl.protocol.errors import AlreadyRunningError, DotsctlError, ExitCode
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Bye


def main() -> None:
    """Run one instance and exit."""
    parser = argparse.ArgumentParser(prog="dotsctl.client.runtime")
    parser.add_argument("--config", required=True, help="RuntimeConfig as JSON")
    parser.add_argument("--ready-fd", type=int, required=True, help="gets one JSON line: how the start went")
    parser.add_argument("--private", action="store_true", help="end with the process that holds our standard input")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        end = run(RuntimeConfig.from_json(arguments.config), arguments.ready_fd, private=arguments.private)
    except DotsctlError as error:
        end = Bye(str(error), error.exit_code)
    except OSError as error:  # a full or read-only disk
        end = Bye(f"the runtime cannot continue: {error}", ExitCode.COMMAND)
    if end.exit_code:
        logging.getLogger(__name__).error("%s", end.reason)
    _report_start(arguments.ready_fd, end.exit_code or ExitCode.COMMAND, end.reason)
    sys.exit(end.exit_code)


def _report_start(ready_fd: int, exit_code: int, reason: str) -> None:
    """Write the outcome; only the first one counts, for then the descriptor is closed."""
    try:
        os.write(ready_fd, json.dumps({"exit_code": exit_code, "reason": reason}).encode() + b"\n")
        os.close(ready_fd)
    except OSError:
        return  # reported before, or the starter is gone


def run(config: RuntimeConfig, ready_fd: int, *, private: bool) -> Bye:
    """Take the lock, serve, and leave nothing behind."""
    directory = endpoints.instance_directory(config.instance)
    endpoints.create(directory)
    lock = endpoints.InstanceLock(directory)
    descriptors.raise_limit()
    try:
        if num_left := left_workers.end_left(directory.path):
            logging.getLogger(__name__).warning("ended %d workers that a killed runtime had left", num_left)
        endpoints.remove_stale(directory)
        log_folder = endpoints.log_directory(directory, private=private)
        log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wakeup, signals = _catch_signals()
        with Links() as links:
            processes = WorkerProcesses(directory.path, log_folder, directory.worker_endpoint(os.getpid()))
            loop = RuntimeLoop(config, directory, lock, processes, links)
            lifeline = sys.stdin.fileno() if private else None
            try:
                return loop.run(lifeline, wakeup, signals, lambda: _report_start(ready_fd, ExitCode.OK, ""))
            finally:
                processes.stop_all(grace_s=0.0)
    finally:
        _leave(directory, lock)
        if private:
            shutil.rmtree(directory.path, ignore_errors=True)


def _leave(directory: endpoints.InstanceDirectory, lock: endpoints.InstanceLock) -> None:
    """Remove our files and give the lock back; another runtime that took the name since keeps its own."""
    if not lock.is_current:
        lock.release()
        try:
            lock = endpoints.InstanceLock(directory)
        except (AlreadyRunningError, FileNotFoundError):
            return
    endpoints.remove_stale(directory)
    lock.release()


def _catch_signals() -> tuple[int, "Signals"]:
    """A descriptor that becomes readable with every signal, and the signals that came."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the wakeup descriptor wakes the loop
    return reader, Signals(reader)


class Signals:
    """Takes the numbers of the signals that have come."""

    def __init__(self, reader: int) -> None:
        self._reader = reader

    def __call__(self) -> list[int]:
        """Signal numbers since the last call, in order."""
        try:
            return list(os.read(self._reader, 4096))
        except BlockingIOError:
            return []
