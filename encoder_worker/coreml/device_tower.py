"""All packages of a build, one after the other, by the Core ML framework of macOS.

Packages are compiled once, to a stable place beside them: the Neural Engine's own cache is kept by path, and compiling
into a temporary folder would make every start as slow as the first one. Source of the facts about the framework's
Python bindings: ``coremlpython/CoreMLPython.mm`` of https://github.com/apple/coremltools, version 9.0.
"""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk, function_name
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, patches_input, rotary_inputs
from dotsctl.protocol.errors import CommandFailedError
from numpy.typing import NDArray

COMPILED = "compiled-macos-"
"""Begin of the name of the folder of compiled packages, in the folder of the build; the version of macOS follows."""
INSTEAD = "try --encoder coreml:compute_units=cpu_and_gpu, or --encoder mlx"


@dataclass
class _Function:
    """One function of one package, with the arrays that it is called with."""

    model: Any
    buffers: dict[str, NDArray[np.float32]]
    """By input name. They live as long as the process: the framework may let go of them a second after a call."""


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
        compute units; ``report`` is told before each.

        Args:
            folder: of the build.
            build: its manifest.
            units: compute units by their name in coremltools, in lower case.
            buckets: page sizes to load.
            report: told what goes on.
            compiled: folder of the compiled packages, where it is not the usual one.

        Raises:
            CommandFailedError: the framework refuses a package, or there is no room to compile it.
        """
        self._folder, self._build, self._report = folder, build, report
        self._compiled_folder = compiled or folder / f"{COMPILED}{platform.mac_ver()[0]}"
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
        """Embeddings (num_patches / 4, width) of patches (num_patches, 588) in the order of ``image.patchify``.

        Args:
            patches: as many rows as a loaded bucket has.
            grid: patches from top to bottom and from left to right.
            watch: called with the number of each finished package, from 1, and what it gave, (1, channels, 1, patches).
        """
        cosines, sines = rotary_inputs(grid, self._build.head_dim)
        value = patches_input(patches)
        for number, function in enumerate(self._functions[len(patches)], 1):
            for name, buffer in function.buffers.items():
                np.copyto(buffer, {"cos": cosines, "sin": sines}.get(name, value))
            (value,) = function.model.predict(dict(function.buffers)).values()
            if watch is not None:
                watch(number, value)
        return embeddings_of(value).astype(np.float32, copy=False)

    def close(self) -> None:
        """Let go of the functions; their arrays stay, see :class:`_Function`."""
        for functions in self._functions.values():
            for function in functions:
                function.model = None

    def _load(self, bucket: int) -> list[_Function]:
        functions = []
        for number, chunk in enumerate(self._build.chunks, 1):
            compiled = self.compiled(chunk)
            self._report(
                f"loading package {number} of {len(self._build.chunks)} for {bucket} patches on {self.units.name}"
            )
            try:
                model = self._ct.models.CompiledMLModel(
                    str(compiled), compute_units=self.units, function_name=function_name(bucket)
                )
            except Exception as error:  # the bindings raise RuntimeError and others, with the framework's own text
                raise CommandFailedError(
                    f"Core ML cannot load {compiled} for {bucket} patches on {self.units.name} ({error}): {INSTEAD}"
                ) from error
            functions.append(_Function(model, self._buffers(bucket, first=number == 1)))
        return functions

    def _buffers(self, bucket: int, *, first: bool) -> dict[str, NDArray[np.float32]]:
        """Float32, as the bindings would otherwise convert float16 to it at each call."""
        build = self._build
        table = (1, 1, build.head_dim, bucket)
        name, channels = ("patches", 588) if first else ("hidden", build.embed_dim)
        shapes = {name: (1, channels, 1, bucket), "cos": table, "sin": table}
        return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}

    def compiled(self, chunk: Chunk) -> Path:
        """A package as the framework loads it, made when it is not there; one for each version of the system.

        Raises:
            CommandFailedError: the framework refuses the package, or there is no room for what it makes of it.
        """
        package = self._folder / chunk.file
        folder = self._compiled_folder
        path = folder / f"{package.stem}.mlmodelc"
        if path.is_dir():
            return path
        self._report(f"compiling {package.name}")
        self._make_room(chunk)
        partial = folder / f".{package.stem}.{os.getpid()}.mlmodelc"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._ct.models.utils.compile_model(str(package), str(partial))
            if not path.is_dir():  # another process may have been faster
                partial.rename(path)
        except OSError as error:
            raise CommandFailedError(f"cannot write {path}: {error.strerror or error}") from error
        except Exception as error:  # as in _load
            raise CommandFailedError(f"Core ML cannot compile {package} ({error}): convert the model again") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return path

    def _make_room(self, chunk: Chunk) -> None:
        """Remove what was compiled under another version of the system, and see that there is room."""
        for old in self._folder.glob(f"{COMPILED}*"):
            if old != self._compiled_folder:
                shutil.rmtree(old, ignore_errors=True)
        needed = sum(size for size, _ in chunk.files.values())
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise CommandFailedError(
                f"compiling {chunk.file} takes about {needed / 1e6:,.0f} MB, and {self._folder} has "
                f"{free / 1e6:,.0f} MB free: free some, or move the models to another disk with DOTSCTL_MODELS"
            )
