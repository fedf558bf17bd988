"""Tries a build on one choice of compute units: ``python -P -m dotsctl.encoder_worker.coreml.probe``.

It is a process of its own because a load for the Neural Engine may never come back, and a prediction may be the end of
its process. What is done next and what was found goes to standard output, a JSON object a line, so that whoever reads
it (``probing.py``) knows how far it came. It ends by itself when a step takes too long, even where the framework holds
the interpreter's lock, and when its standard input is closed.
"""

import argparse
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.device_tower import DeviceTower
from dotsctl.encoder_worker.coreml.golden_page import Golden, draw_page
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.encoder_worker.coreml.residency import PlannedOperation, planned_operations, residency
from dotsctl.protocol.errors import DotsctlError, ExitCode
from dotsctl.protocol.verdicts import Trial

WARM_PAGES = 3
"""Pages after the first one; the fastest counts, as others may use the machine meanwhile."""
Say = Callable[..., None]


class Steps:
    """Tells what is done, and ends the process when a step takes longer than it may."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    def say(self, event: str, **content: Any) -> None:
        """One line; the time of the next step begins."""
        faulthandler.dump_traceback_later(self._limit_s, exit=True)
        print(json.dumps({"event": event, **content}), flush=True)

    def begin(self, step: str) -> None:
        """Tell what comes now, in words."""
        self.say("step", step=step)


def try_bucket(folder: Path, build: Build, units: str, bucket: int, compiled: Path | None, steps: Steps) -> Trial:
    """Load all packages for one page size and encode the golden page of that size a few times.

    Args:
        folder: of the build.
        build: its manifest.
        units: compute units.
        bucket: patches of the page.
        compiled: folder of the compiled packages, where it is not the usual one.
        steps: told what goes on.
    """
    page, started = draw_page(bucket), time.perf_counter()
    try:
        tower = DeviceTower(folder, build, units, (bucket,), steps.begin, compiled)
    except DotsctlError as error:
        return Trial(bucket, str(error))
    load_s = time.perf_counter() - started
    times_s, chunks = [], len(build.chunks)

    def watch(number: int, _: object) -> None:
        if number < chunks:
            steps.begin(f"page of {bucket} patches through package {number + 1} of {chunks}")

    for _ in range(1 + WARM_PAGES):
        steps.begin(f"page of {bucket} patches through package 1 of {chunks}")
        started = time.perf_counter()
        embeddings = tower.encode(page.values, page.grid, watch)
        times_s.append(time.perf_counter() - started)
    tower.close()
    golden = Golden.read(folder) if build.golden else None
    cosine, wrong = golden.check(embeddings, build, units) if golden and golden.bucket == bucket else (None, "")
    return Trial(bucket, not_finite(embeddings) or wrong, load_s, times_s[0], min(times_s[1:]), cosine)


def not_finite(embeddings: np.ndarray) -> str:
    """How many embeddings (count, width) have values that are not finite, in words; empty: none."""
    bad = int(np.count_nonzero(~np.isfinite(embeddings).all(axis=1)))
    return f"{bad} of {len(embeddings)} embeddings have values that are no numbers" if bad else ""


def plan(folder: Path, build: Build, units: str, compiled: Path | None, steps: Steps) -> None:
    """Tell where the operations are planned to run."""
    tower = DeviceTower(folder, build, units, (), steps.begin, compiled)
    operations: list[PlannedOperation] = []
    for number, chunk in enumerate(build.chunks, 1):
        steps.begin(f"asking for the plan of package {number} of {len(build.chunks)}")
        operations += planned_operations(tower.compiled(chunk), number, tower.units)
    steps.say("plan", operations=[asdict(operation) for operation in operations], **asdict(residency(operations)))


def main() -> None:
    """Try what the command line names."""
    parser = argparse.ArgumentParser(description="Started by dotsctl, not by hand.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("units")
    parser.add_argument("buckets", type=int, nargs="+")
    parser.add_argument("--step-limit", type=float, required=True, help="seconds")
    parser.add_argument("--compiled", type=Path)
    asked = parser.parse_args()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    steps = Steps(asked.step_limit)
    steps.begin("reading the build")
    try:
        build = Build.read(asked.folder)
        for bucket in asked.buckets:
            trial = try_bucket(asked.folder, build, asked.units, bucket, asked.compiled, steps)
            steps.say("trial", **asdict(trial))
        plan(asked.folder, build, asked.units, asked.compiled, steps)
    except DotsctlError as error:
        steps.say("error", reason=str(error))
        sys.exit(error.exit_code)
    except Exception as error:  # of the framework's bindings, whatever they raise: it is the verdict
        steps.say("error", reason=f"{type(error).__name__}: {error}")
        sys.exit(ExitCode.COMMAND)


def _leave_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(ExitCode.OK)


if __name__ == "__main__":
    main()
