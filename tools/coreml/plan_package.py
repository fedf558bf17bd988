"""Packages with one function of a saved package alone, for compute plans: a new program file, hard-linked weights."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import PlanPackage, function_name
from dotsctl.tools.coreml.package import file_digests

PROGRAM = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MANIFEST = "Manifest.json"


def write_plan_packages(package: Path, buckets: Sequence[int]) -> tuple[PlanPackage, ...]:
    """Write one package for each bucket next to a saved package; none where the file system has no hard links.

    Args:
        package: the ``.mlpackage`` with one function for each bucket.
        buckets: numbers of patches.
    """
    model = import_coremltools("coremltools.proto.Model_pb2").Model.FromString((package / PROGRAM).read_bytes())
    made: list[PlanPackage] = []
    for bucket in buckets:
        path = package.with_name(f"plan-{bucket}-{package.name}")
        (path / WEIGHTS).parent.mkdir(parents=True)
        try:
            os.link(package / WEIGHTS, path / WEIGHTS)
        except OSError:  # exFAT and some network disks have no hard links; a copy would take the space again
            for written in (path, *(package.with_name(plan.file) for plan in made)):
                shutil.rmtree(written)
            return ()
        shutil.copyfile(package / MANIFEST, path / MANIFEST)
        (path / PROGRAM).write_bytes(_with_one_function(model, function_name(bucket)).SerializeToString())
        files = {name: entry for name, entry in file_digests(path).items() if name != WEIGHTS}
        made.append(PlanPackage(path.name, bucket, files))
    return tuple(made)


def _with_one_function(model: Any, name: str) -> Any:
    """A copy of a Model message that keeps one of its functions, as the default one."""
    single = type(model)()
    single.CopyFrom(model)
    functions = single.mlProgram.functions
    for other in [key for key in functions if key != name]:
        del functions[other]
    described = [function for function in single.description.functions if function.name == name]
    del single.description.functions[:]
    single.description.functions.extend(described)
    single.description.defaultFunctionName = name
    return single
