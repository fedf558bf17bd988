"""Writing built functions into an ``.mlpackage``. Starts no compiler, so it works on Linux too."""

import contextlib
import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.library import import_coremltools

ct = import_coremltools()
converter = import_coremltools("coremltools.converters.mil.converter")
mil = import_coremltools("coremltools.converters.mil.mil")
passes = import_coremltools("coremltools.converters.mil.mil.passes.pass_registry")
preprocess = import_coremltools("coremltools.converters.mil.mil.passes.defs.preprocess")
TARGET = ct.target.macOS15
"""The first one whose packages can hold several functions."""


def write_package(functions: Mapping[str, Any], path: Path) -> None:
    """Write one package; its weights are staged in the same folder, so the disk of ``path`` needs room for them twice.

    Args:
        functions: MIL functions by name; the first one is the default.
        path: a new folder whose name ends with ``.mlpackage``.
    """
    program = mil.Program()
    for name, function in functions.items():
        program.add_function(name, function)
    program.default_function_name = next(iter(functions))
    program.export_as_multifunction = True
    _finish_names(program)
    # Precision and form of every operation are chosen by the builder; an optimiser would only change them.
    program.skip_all_passes = True
    with _staging(path.parent), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coremltools leaves its temporary folder to the garbage collector
        converter.mil_convert(
            program,
            convert_from="milinternal",
            convert_to="mlprogram",
            compute_units=ct.ComputeUnit.CPU_ONLY,
            specification_version=TARGET,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
            package_dir=str(path),
            export_multi_functions=True,
        )
    for file in path.rglob("*"):
        file.chmod(0o644 if file.is_file() else 0o755)  # coremltools leaves some for the owner alone


def _finish_names(program: Any) -> None:
    """Make names valid and unique in each function, as the last passes of coremltools' own backend do.

    MIL.proto requires it, and Core ML refuses a program that binds a name twice. The pass
    ``mil_backend::sanitize_name_strings`` itself skips programs without a function ``main``, so its sanitizer is
    called directly. Source: ``_BACKEND_MIL_PASSES`` in ``pass_pipeline.py`` of coremltools 9.0. Its other passes have
    nothing to do here: the builder writes no constant expression, no cast, no unused value and no unused input, which
    the tests hold, and stored weights are shared already.
    """
    sanitizer = preprocess.NameSanitizer
    for function in program.functions.values():
        sanitizer.sanitize_block(function, sanitizer(prefix="var_"), sanitizer(prefix="op_"))
    passes.PASS_REGISTRY["common::dedup_op_and_var_names"].apply(program)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """Let temporary files of coremltools be made in ``folder``, where an interrupted conversion cleans up."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def file_digests(package: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file of a package, by its path inside; flushes them to the disk."""
    found = {}
    for file in sorted(path for path in package.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        found[file.relative_to(package).as_posix()] = (file.stat().st_size, digest)
    return found
