"""Does one thing with a build that may hang or end its process: ``python -P -m dotsctl.encoder_worker.coreml.probe``.

``encode`` loads all packages for one page size on some compute units, or the MLX encoder, encodes the drawn page of
that size a few times and saves the embeddings. ``plan`` queries Core ML where the operations of a page size are to run.

Steps and results go to standard output, a JSON object a line, so that ``probing.py`` knows how far the process came. It
ends by itself when a step takes too long, even where the framework holds the interpreter's lock, and when its standard
input is closed.
"""

import argparse
import faulthandler
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.device_tower import DeviceTower
from dotsctl.encoder_worker.coreml.devices import require_neural_engine
from dotsctl.encoder_worker.coreml.golden_page import draw_page, draw_picture
from dotsctl.encoder_worker.coreml.manifest import Build, function_name
from dotsctl.encoder_worker.coreml.residency import PlannedOperation, plan_packages, planned_operations, residency
from dotsctl.encoder_worker.plugins import MLX
from dotsctl.protocol.errors import DotsctlError, ExitCode
from numpy.typing import NDArray

WARM_PAGES = 3
"""Pages after the first one; their median counts, as others may use the machine meanwhile."""
Encode = Callable[[], NDArray[np.float32]]


class Steps:
    """Reports steps, and ends the process when one takes longer than it may."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    def report(self, event: str, **content: Any) -> None:
        """Write one line; the time of the next step begins."""
        faulthandler.dump_traceback_later(self._limit_s, exit=True)
        print(json.dumps({"event": event, **content}), flush=True)

    def begin(self, step: str) -> None:
        """Report the step that begins now."""
        self.report("step", step=step)


def encode(arguments: argparse.Namespace, build: Build, steps: Steps) -> None:
    """Load, encode the drawn page, save its embeddings (bucket / 4, width) and report the times."""
    started = time.perf_counter()
    loaded = _mlx(arguments, steps) if arguments.units == MLX else _packages(arguments, build, steps)
    load_s, times_s = time.perf_counter() - started, list[float]()
    for _ in range(1 + WARM_PAGES):
        started = time.perf_counter()
        embeddings = loaded()  # (bucket / 4, width)
        times_s.append(time.perf_counter() - started)
    np.save(arguments.output, embeddings)
    steps.report("encoded", load_s=load_s, first_s=times_s[0], page_s=statistics.median(times_s[1:]))


def _packages(arguments: argparse.Namespace, build: Build, steps: Steps) -> Encode:
    require_neural_engine(arguments.units)
    page, chunks = draw_page(arguments.bucket), len(build.chunks)
    tower = DeviceTower(arguments.folder, build, arguments.units, (arguments.bucket,), steps.begin, arguments.compiled)

    def begin(number: int) -> None:
        steps.begin(f"page of {arguments.bucket} patches through package {number} of {chunks} on {arguments.units}")

    def one_page() -> NDArray[np.float32]:
        begin(1)
        return tower.encode(page.values, page.grid, lambda number, _: begin(number + 1) if number < chunks else None)

    return one_page


def _mlx(arguments: argparse.Namespace, steps: Steps) -> Encode:
    """The MLX encoder as it is used on this machine; it is imported for this alone."""
    from dotsctl.encoder_worker.plugin import PageImage, encode_images
    from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
    from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions
    from dotsctl.protocol.worker.blas import preload_blas

    preload_blas()
    encoder = MLXEncoder()
    steps.begin("loading the MLX encoder")
    spec = encoder.load(arguments.model, MLXEncoderOptions(), steps.begin)
    image = PageImage(None, np.asarray(draw_picture(arguments.bucket)), None)

    def one_page() -> NDArray[np.float32]:
        steps.begin(f"page of {arguments.bucket} patches through the MLX encoder")
        (page,) = encode_images(encoder, [image])
        return as_float32(page.embeddings, spec.dtype)

    return one_page


def as_float32(embeddings: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Return embeddings of an encoder as float32; ``bf16`` is held as uint16, the upper half of a float32."""
    if dtype == "bf16":
        return (embeddings.astype(np.uint32) << 16).view(np.float32)
    return embeddings.astype(np.float32)


def plan(arguments: argparse.Namespace, build: Build, steps: Steps) -> None:
    """Report where the operations of a page size are planned to run."""
    tower = DeviceTower(arguments.folder, build, arguments.units, (), steps.begin, arguments.compiled)
    found = list[PlannedOperation]()
    for number, file in plan_packages(build, arguments.bucket):
        steps.begin(f"querying the plan of {file}")
        found += planned_operations(tower.compiled(file), number, tower.units, function_name(arguments.bucket))
    steps.report("plan", operations=[asdict(operation) for operation in found], **asdict(residency(found)))


def main() -> None:
    """Do what the command line names, and end without the clean-up of libraries, which may crash after the work."""
    parser = argparse.ArgumentParser(description="Started by dotsctl, not by hand.")
    parser.add_argument("task", choices=["encode", "plan"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("units")
    parser.add_argument("bucket", type=int)
    parser.add_argument("--step-limit", type=float, required=True, help="seconds")
    parser.add_argument("--compiled", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    steps = Steps(arguments.step_limit)
    code = ExitCode.OK
    try:
        steps.begin("reading the build")
        build = Build.read(arguments.folder)
        (encode if arguments.task == "encode" else plan)(arguments, build, steps)
    except DotsctlError as error:
        steps.report("error", reason=error.problem, remedy=error.remedy)
        code = error.exit_code
    except Exception as error:  # of the framework's bindings, whatever they raise: it is the result
        steps.report("error", reason=f"{type(error).__name__}: {error}", remedy="")
        code = ExitCode.COMMAND
    sys.stderr.flush()
    os._exit(code)


def _leave_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(ExitCode.OK)


if __name__ == "__main__":
    main()
