"""In place of coremltools on a Mac: compiling copies a package, and a compiled model is run by the interpreter.

``python -P tests/coreml_stand_in.py MODE ARGUMENTS...`` is the probe with it; MODE says what goes wrong.
"""

import enum
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml import device_tower, probe, residency
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.package import Package


class Units(enum.Enum):
    CPU_AND_NE = 4
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    ALL = 1


class NeuralEngine:
    pass


class Gpu:
    pass


class Cpu:
    pass


class StandIn:
    """``refuse`` names a call that raises; the mode ``wrong`` makes all results wrong."""

    def __init__(self, mode: str = "", ne_share: float = 1.0) -> None:
        self.ComputeUnit = Units
        self.compiled: list[str] = []
        self.inputs: list[dict[str, np.ndarray]] = []
        self.models = SimpleNamespace(
            utils=SimpleNamespace(compile_model=self._compile), CompiledMLModel=self._load_compiled
        )
        self.mode = mode
        self.ne_share = ne_share
        self.predictions = 0

    def module(self, name: str = "coremltools") -> Any:
        """What ``import_coremltools`` gives."""
        return {
            "coremltools": self,
            "coremltools.models.compute_plan": SimpleNamespace(
                MLComputePlan=SimpleNamespace(load_from_path=self._plan)
            ),
            "coremltools.models.compute_device": SimpleNamespace(
                MLNeuralEngineComputeDevice=NeuralEngine, MLGPUComputeDevice=Gpu, MLCPUComputeDevice=Cpu
            ),
        }[name]

    def _compile(self, package: str, destination: str) -> None:
        if self.mode == "compile":
            raise RuntimeError("ANECCompile failed")
        if self.mode == "full":
            raise OSError(28, "No space left on device")
        self.compiled.append(Path(package).name)
        shutil.copytree(package, destination)

    def _load_compiled(self, path: str, compute_units: Units, function_name: str) -> Any:
        if self.mode == "load":
            raise RuntimeError("no such function")
        if self.mode == "hang":
            threading.Event().wait()
        assert isinstance(compute_units, Units)
        chunk = Interpreter(Path(path), function_name)

        def predict(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert all(values.dtype == np.float32 and values.flags.c_contiguous for values in inputs.values())
            self.inputs.append(inputs)
            self.predictions += 1
            if self.mode == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.mode == f"die at {function_name}":
                os.kill(os.getpid(), signal.SIGKILL)
            results = chunk.run(inputs)
            if self.mode == "wrong":
                return {name: np.random.default_rng(0).normal(size=value.shape) for name, value in results.items()}
            if self.mode == "infinite":
                return {name: np.full_like(value, np.inf) for name, value in results.items()}
            return results

        return SimpleNamespace(predict=predict)

    def _plan(self, path: str, units: Units) -> Any:
        if self.mode == "plan":
            os.kill(os.getpid(), signal.SIGSEGV)
        package = Package(Path(path))
        functions, usage = {}, {}
        for number, name in enumerate(package.function_names):
            operations = []
            for op in package.function(name)[1].operations:
                kind = f"ios18.{op.type}"
                operation = SimpleNamespace(operator_name=kind, outputs=[SimpleNamespace(name=op.outputs[0].name)])
                operations.append(operation)
                if number == 0 and not op.type.startswith(
                    "const"
                ):  # as of the default function alone the plan tells something
                    usage[id(operation)] = SimpleNamespace(preferred_compute_device=NeuralEngine())
            functions[name] = SimpleNamespace(block=SimpleNamespace(operations=operations))
        for planned in list(usage.values())[int(len(usage) * self.ne_share) :]:
            planned.preferred_compute_device = Cpu()
        return SimpleNamespace(
            model_structure=SimpleNamespace(program=SimpleNamespace(functions=functions)),
            get_compute_device_usage_for_mlprogram_operation=lambda operation: usage.get(id(operation)),
            get_estimated_cost_for_mlprogram_operation=lambda operation: SimpleNamespace(weight=0.01),
        )


def main() -> None:
    mode = sys.argv.pop(1)
    stand_in = StandIn(mode)
    for module in (device_tower, residency):
        module.import_coremltools = stand_in.module  # type: ignore[attr-defined]
    device_tower.platform.mac_ver = lambda *_: ("26.1", ("", "", ""), "arm64")  # type: ignore[assignment]
    probe.main()


if __name__ == "__main__":
    main()
