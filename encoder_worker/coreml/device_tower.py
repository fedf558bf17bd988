"""All packages of a build, one after the other, by the Core ML framework of macOS.

Source of the facts about the framework's Python bindings: ``coremlpython/CoreMLPython.mm`` of
https://github.com/apple/coremltools, version 9.0.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.compiled_packages import compiled_folder, compiled_package
from dotsctl.encoder_worker.coreml.compiler_messages import compiler_failures
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import Build, function_name
from dotsctl.encoder_worker.coreml.prediction import predict
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, patches_input, rotary_inputs
from dotsctl.protocol.errors import CommandFailedError
from numpy.typing import NDArray

INSTEAD = "use --encoder mlx"


def load_function(compiled: Path, units: Any, function: str | None, ct: Any) -> Any:
    """Load one function of a compiled package, and fail where a compiler failed in silence.

    Args:
        compiled: an ``.mlmodelc`` folder.
        units: a member of ``coremltools.ComputeUnit``.
        function: its name; none: the only one.
        ct: the module ``coremltools``.

    Raises:
        CommandFailedError: the framework refuses it, or its compiler reports a failure on standard error, after which
            the framework computes on the CPU without an error.
    """
    where = f"{compiled.name}{f', {function},' if function else ''} on {units.name}"
    with compiler_failures() as failed:
        try:
            model = ct.models.CompiledMLModel(str(compiled), compute_units=units, function_name=function)
        except Exception as error:  # the bindings raise RuntimeError and others, with the framework's own text
            text = " ".join(str(error).split())
            raise CommandFailedError(f"Core ML cannot load {where} ({text})", f"{INSTEAD}") from error
    if failed:
        raise CommandFailedError(f"Core ML cannot compile {where} ({failed[0]})", f"{INSTEAD}")
    return model


class DeviceTower:
    """The tower of one build on one choice of compute units; macOS only."""

    def __init__(
        self,
        folder: Path,
        build: Build,
        units: str,
        buckets: tuple[int, ...],
        report: Callable[[str], None],
        compiled: Path | None = None,
    ) -> None:
        """Compile what is not compiled, and load the functions of ``buckets``.

        The first load of a function on a machine may take minutes, in which the framework prepares it for its
        compute units; ``report`` is called before each.

        Args:
            folder: that of the build.
            build: its manifest.
            units: compute units by their name in coremltools, in lower case.
            buckets: page sizes to load.
            report: called with each step.
            compiled: folder of the compiled packages, where it is not the usual one.

        Raises:
            CommandFailedError: the framework refuses a package.
            OutputError: there is no room to compile a package.
        """
        self._folder, self._build, self._report = folder, build, report
        self._compiled_folder = compiled or compiled_folder(folder)
        self._ct = import_coremltools()
        self.units = self._ct.ComputeUnit[units.upper()]
        """The member of ``coremltools.ComputeUnit``."""
        self._functions = {bucket: self._load(bucket) for bucket in buckets}

    def encode(
        self,
        patches: NDArray[np.float32],
        grid: tuple[int, int],
        watch: Callable[[int, NDArray[np.float32]], object] | None = None,
    ) -> NDArray[np.float32]:
        """Return the embeddings (num_patches / 4, width) of patches (num_patches, 588) in the order of ``patchify``.

        Args:
            patches: as many rows as a loaded bucket has.
            grid: patches from top to bottom and from left to right.
            watch: called with the number of each finished package, from 1, and its output, (1, channels, 1, patches).

        Raises:
            CommandFailedError: Core ML cannot compute it.
        """
        cosines, sines = rotary_inputs(grid, self._build.head_dim)  # each (1, 1, head_dim, num_patches)
        value, name = patches_input(patches), "patches"  # (1, 588, 1, num_patches)
        for number, model in enumerate(self._functions[len(patches)], 1):
            (value,) = predict(model, {name: value, "cos": cosines, "sin": sines}).values()  # (1, channels, 1, patches)
            name = "hidden"
            if watch is not None:
                watch(number, value)
        return embeddings_of(value).astype(np.float32, copy=False)

    def close(self) -> None:
        """Release the functions; input arrays stay, see ``prediction.py``."""
        self._functions.clear()

    def _load(self, bucket: int) -> list[Any]:
        models = []
        for number, chunk in enumerate(self._build.chunks, 1):
            compiled = self.compiled(chunk.file)
            self._report(
                f"loading package {number} of {len(self._build.chunks)} for {bucket} patches on {self.units.name}"
            )
            models.append(load_function(compiled, self.units, function_name(bucket), self._ct))
        return models

    def compiled(self, file: str) -> Path:
        """Return a package of the build as the framework loads it; see :func:`compiled_packages.compiled_package`."""
        return compiled_package(self._folder / file, self._compiled_folder, self._ct, self._report)
