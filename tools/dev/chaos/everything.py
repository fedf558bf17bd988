"""``kill -9`` of ``dotsctl ocr -o DIR`` and of all its processes at random moments, and then the same command again."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.errors import CommandFailedError
from PIL import Image

FINISH_S = 300.0
MOST_TRIES = 4
"""Runs for each that is to be interrupted."""
ENCODER, DECODER = "fake:encode_ms=2", "fake:batch=4,decode_ms=20"
EARLY = 0.1
"""Share of the moments before the first output; at the others some outputs exist and others do not."""
LOOK_S = 0.002
"""Seconds between two checks of the outputs."""


@dataclass(frozen=True)
class EverythingChaos:
    """The findings after the second run, summed over all moments."""

    seed: int
    pages: int
    moments: int
    tried: int
    """Runs that were to be killed; some end before their moment."""
    interrupted: int
    """Runs that were killed before their end."""
    in_the_middle: int
    """The interrupted runs that had some outputs and not all."""
    finished_before: int
    """Outputs that were there when everything was killed."""
    wrong_exits: int
    """Second runs that did not end with 0."""
    missing: int
    changed: int
    """Outputs that differ from those of the calm run."""
    decoded_again: int
    """Pages decoded by the second run although their output was there."""
    half_written: int
    """Files that are no outputs, in the folder of the outputs after the second run."""
    left_behind: int
    """Files and folders in the runtime directory after the second run."""
    processes: int
    """The processes that were still there."""
    calm_s: float

    @property
    def holds(self) -> bool:
        """Return whether everything was killed as often as requested, and all promises were kept."""
        broken = (self.wrong_exits, self.missing, self.changed, self.decoded_again, self.half_written)
        is_thorough = self.interrupted == self.moments and self.in_the_middle >= self.moments / 2
        return is_thorough and not any((*broken, self.left_behind, self.processes))


class Place:
    """A folder with pages, outputs and a runtime directory of its own."""

    def __init__(self, folder: Path, pages: int) -> None:
        self.pages, self.run = folder / "pages", folder / "run"
        self._folder = folder
        self.pages.mkdir()
        self.digests: dict[str, str] = {}
        for number in range(pages):
            page = Image.new("RGB", (40, 40), (number % 256, number // 256, 7))
            page.save(self.pages / f"{number:05}.png")
            self.digests[f"{number:05}"] = hashlib.sha256(page.tobytes()).hexdigest()
        homes = dict.fromkeys(("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"), str(folder))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DOTSCTL_")}
        self._environment = {**kept, **homes, "DOTSCTL_RUNTIME_DIR": str(self.run)}

    def start(self, out: Path, trace: Path) -> "subprocess.Popen[bytes]":
        """Start the command."""
        words = ["ocr", str(self.pages), "-o", str(out), "-f", "txt"]
        plugins = ["--encoder", ENCODER, "--decoder", f"{DECODER},trace={trace}"]
        command = [sys.executable, "-P", "-m", "dotsctl", *words, *plugins]
        return subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
        )


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True, timeout=30)
    children: dict[int, list[int]] = {}
    for line in shown.stdout.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:  # grows while it is read
        found += children.get(one, [])
    return found


def kill_everything(pages: int, moments: int, seed: int, tell: Callable[[str], None]) -> EverythingChaos:
    """Run calmly once, then kill and run again at each of the random moments."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="d") as name:
        folder = Path(name)
        place = Place(folder, pages)
        started = time.monotonic()
        if place.start(folder / "calm", folder / "calm.trace").wait(FINISH_S):
            raise CommandFailedError("the calm run did not end with 0")
        calm_s = time.monotonic() - started
        calm = outputs(folder / "calm")
        totals: dict[str, int] = {}
        tried = 0
        while totals.get("interrupted", 0) < moments and tried < MOST_TRIES * moments:
            number, tried = totals.get("interrupted", 0), tried + 1
            share = (number + rng.random()) / moments  # each part of the run has its turn
            moment = Moment(calm_s * share, 0) if share < EARLY else Moment(0.0, int(share * pages))
            found = _one_moment(place, folder, rng, calm, moment)
            totals = {key: totals.get(key, 0) + value for key, value in found.items()}
            tell(f"{number + found['interrupted']} of {moments}: {found}")
    return EverythingChaos(seed=seed, pages=pages, moments=moments, tried=tried, calm_s=calm_s, **totals)


def outputs(folder: Path) -> dict[str, bytes]:
    """The results in a folder, by name without ending."""
    return {path.stem: path.read_bytes() for path in folder.glob("*.txt")}


@dataclass(frozen=True)
class Moment:
    """The moment at which everything is killed: after a time, and with so many outputs."""

    at_s: float
    num_outputs: int

    def wait(self, process: "subprocess.Popen[bytes]", out: Path) -> bool:
        """Wait for the moment; false: the process ended, or nothing came, before it."""
        began = time.monotonic()
        while (spent_s := time.monotonic() - began) < FINISH_S:
            if spent_s >= self.at_s and sum(1 for _ in out.glob("*.txt")) >= self.num_outputs:
                return process.poll() is None
            try:
                process.wait(LOOK_S)
                return False
            except subprocess.TimeoutExpired:
                continue
        return False


def _one_moment(
    place: Place, folder: Path, rng: random.Random, calm: dict[str, bytes], moment: Moment
) -> dict[str, int]:
    """Return what was found after the second run."""
    out, trace = folder / "out", folder / "trace"
    first = place.start(out, trace)
    interrupted = int(moment.wait(first, out))
    victims = family(first.pid) if interrupted else []
    rng.shuffle(victims)
    for pid in victims:
        _kill(pid)
    first.wait(FINISH_S)
    before = outputs(out)
    decoded = _lines(trace)
    second = place.start(out, trace)
    code = second.wait(FINISH_S)
    again = set(_lines(trace)[len(decoded) :])
    after = outputs(out)
    found = {
        "interrupted": interrupted,
        "in_the_middle": int(interrupted and 0 < len(before) < len(calm)),
        "finished_before": len(before),
        "wrong_exits": int(code != 0),
        "missing": len(calm.keys() - after.keys()),
        "changed": sum(after[name] != text for name, text in calm.items() if name in after),
        "decoded_again": sum(place.digests[name] in again for name in before),
        "half_written": sum(path.name.endswith(".part") for path in out.iterdir()),
        "left_behind": len(list(place.run.iterdir())),
        "processes": len(family(second.pid)) - 1,
    }
    shutil.rmtree(out)
    trace.unlink(missing_ok=True)
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended with one that was killed before it


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
