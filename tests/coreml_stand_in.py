"""A strict stand-in for the Core ML framework: coremltools' own Python classes over a fake ``libcoremlpython``.

The fake follows the rules of ``coremlpython/CoreMLPython.mm`` and ``CoreMLPythonArray.mm`` of coremltools 9.0: element
types, shapes, writability, file endings, and the lifetime of inputs. Core ML keeps a reference to each input array for
a second after a prediction and drops it in a thread of its own. Where it would be the last owner the real process dies;
so does this one (``SIGSEGV``), or it is noted in ``crashes`` in a process that must live. Functions are computed by the
project's interpreter.

Two ways in: :func:`use` makes this process one on a Mac, for the time of a test. With ``COREML_STAND_IN`` in the
environment and ``tests/mac_site`` on ``PYTHONPATH`` every encoder worker and tool that is started believes it too.

Faults are words, separated by commas, each ``FAULT`` or ``FAULT@FUNCTION``; they hit the Neural Engine
(``CPU_AND_NE``, ``ALL``) and leave ``CPU_ONLY`` and ``CPU_AND_GPU`` alone: see ``FAULTS``.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

FAULTS = {
    "raise": "predict raises RuntimeError",
    "kill": "the process is killed at a prediction",
    "abort": "the process aborts at a prediction",
    "hang": "a prediction never ends",
    "load-hang": "a load never ends",
    "load": "a load raises RuntimeError",
    "compiler": "the compiler of the Neural Engine fails, which standard error alone tells",
    "slow": "predictions take 1,000 times longer, by the clock of this process",
    "wrong": "results are finite and wrong",
    "infinite": "results are infinite",
    "compile": "compiling a package raises RuntimeError, on all compute units",
    "full": "the disk is full when a package is compiled",
    "no-ne": "the machine has no Neural Engine",
    "no-gpu": "the machine has no GPU that Core ML can use",
    "half-on-cpu": "half of the operations are planned on the CPU",
    "plan": "the process dies when the plan is asked for",
}
VARIABLE = "COREML_STAND_IN"
LIBRARY = "coremltools.libcoremlpython"
SITE = Path(__file__).parent / "mac_site"
METER = SITE / "powermetrics.py"
LINGER_S = 1.0
"""As long Core ML keeps its inputs after a prediction."""
SLOW = 1000
MACOS = "26.1"
ANSWERS = {
    "sw_vers": MACOS,
    "machdep.cpu.brand_string": "Apple M2",
    "kern.osversion": "25B78",
}
COMPILER_FAILURE = (
    "E5RT encountered an STL exception. msg = MILCompilerForANE error: failed to compile ANE model using ANEF. "
    "Error=_ANECompiler : ANECCompile() FAILED.\n"
)
NE_UNITS = ("CPU_AND_NE", "ALL")
UNITS = ("CPU_ONLY", "CPU_AND_GPU", *NE_UNITS)


@dataclass
class Framework:
    """The state of the fake framework of this process."""

    faults: tuple[str, ...] = ()
    ends_process: bool = True
    """Whether a violated lifetime ends the process."""
    compiled: list[str] = field(default_factory=list)
    loaded: list[tuple[str, str, str]] = field(default_factory=list)
    """Package, compute units and function of each load."""
    records_inputs: bool = True
    """Whether the inputs of predictions are kept, which makes the framework no last owner."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    """Inputs whose last owner the framework was."""
    released: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    """Names of inputs that the framework has let go of."""
    is_held_back: threading.Lock = field(default_factory=threading.Lock)
    """Whoever has this lock keeps the framework from letting go of inputs."""
    _held: "queue.SimpleQueue[tuple[float, str, list[Any]]]" = field(default_factory=queue.SimpleQueue)
    _releaser: threading.Thread | None = None
    slowed_s: float = 0.0

    def has(self, fault: str, function: str = "", units: str = "CPU_AND_NE") -> bool:
        """Whether a fault hits a function on some compute units."""
        return units in NE_UNITS and (fault in self.faults or f"{fault}@{function}" in self.faults)

    def keep(self, inputs: dict[str, Any]) -> None:
        """Own the inputs for a second more, and drop them in another thread."""
        if self._releaser is None:
            self._releaser = threading.Thread(target=self._release, daemon=True, name="resetQueue")
            self._releaser.start()
        for name, array in inputs.items():
            self._held.put((time.monotonic() + LINGER_S, name, [array]))

    def _release(self) -> None:
        pause = threading.Event()
        while True:
            due, name, owner = self._held.get()
            pause.wait(max(0.0, due - time.monotonic()))
            with self.is_held_back:
                array = owner.pop()
            if sys.getrefcount(array) <= 2:  # ours, and that of the call
                self.crashes.append(name)
                if self.ends_process:
                    os.kill(os.getpid(), signal.SIGSEGV)
            del array
            self.released.put(name)


class Model:
    """``_MLModelProxy``: one function on some compute units."""

    framework = Framework()

    def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: Any = None) -> None:
        from dotsctl.encoder_worker.coreml.interpreter import Interpreter

        if not (isinstance(path, str) and units in UNITS and isinstance(function, str) and isinstance(hints, dict)):
            raise TypeError("__init__(): incompatible constructor arguments")
        if not path.rstrip("/").endswith(".mlmodelc"):
            raise RuntimeError(f"Error compiling model: {path} would be compiled again at every load")
        if not Path(path).is_dir():
            raise RuntimeError(f"Failed to open file: {path}/coremldata.bin. It is not a valid .mlmodelc file.")
        framework = self.framework
        if framework.has("load-hang", function, units):
            threading.Event().wait()
        if framework.has("load", function, units):
            raise RuntimeError("Error in declaring network.")
        if framework.has("compiler", function, units):
            os.write(2, COMPILER_FAILURE.encode())
        self._units, self._name = units, function
        package = Path(path)
        self._function = Interpreter(package, function or _default_function(package))
        framework.loaded.append((package.stem, units, function))

    def predict(self, data: dict[str, Any], state: Any) -> dict[str, Any]:
        """As ``Model::predict``."""
        import numpy as np

        framework = self.framework
        started = time.monotonic()
        if type(data) is not dict or state is not None:
            raise TypeError("predict(): incompatible function arguments")
        if data.keys() != self._function.inputs.keys():
            raise RuntimeError(f"Feature {sorted(data.keys() ^ self._function.inputs.keys())} is required")
        for name, array in data.items():
            self._check_input(name, array)
        if framework.records_inputs:
            framework.inputs.append(dict(data))
        framework.keep(data)
        self._break("kill", signal.SIGKILL)
        self._break("abort", signal.SIGABRT)
        if framework.has("hang", self._name, self._units):
            threading.Event().wait()
        if framework.has("raise", self._name, self._units):
            raise RuntimeError(
                'Error Domain=com.apple.CoreML Code=0 "Unable to compute the prediction using ML Program. It can be an '
                'invalid input data or broken/unsupported model. E5RT: ANE inference operation failed"'
            )
        found = self._function.run(data)
        if framework.has("wrong", self._name, self._units):
            found = {name: np.random.default_rng(0).normal(size=value.shape) for name, value in found.items()}
        if framework.has("infinite", self._name, self._units):
            found = {name: np.full_like(value, np.inf) for name, value in found.items()}
        if framework.has("slow", self._name, self._units):
            framework.slowed_s += (SLOW - 1) * (time.monotonic() - started)
        return {name: np.ascontiguousarray(value.astype(np.float32)) for name, value in found.items()}

    def _check_input(self, name: str, array: Any) -> None:
        import numpy as np

        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise TypeError(f"value type not convertible: {type(array).__name__}")
        if not array.flags.writeable:
            raise ValueError("array is not writeable")
        kind, size = array.dtype.kind, array.dtype.itemsize
        if (kind, size) not in (("i", 4), ("i", 1), ("f", 4), ("f", 8)):
            raise RuntimeError(f"Unsupported array type: {ord(kind)} with itemsize = {size}")
        if array.shape != self._function.inputs[name][0]:
            raise RuntimeError(f"MultiArray shape {array.shape} does not match the shape specified in the model")

    def _break(self, fault: str, number: signal.Signals) -> None:
        if self.framework.has(fault, self._name, self._units):
            os.kill(os.getpid(), number)

    @classmethod
    def compileModel(cls, path: str) -> str:
        """Compile into a temporary folder, as the framework does."""
        if cls.framework.has("compile"):
            raise RuntimeError("Error compiling model: compiler error: Encountered an error while compiling a model")
        if cls.framework.has("full"):
            raise OSError(28, "No space left on device")
        folder = Path(tempfile.gettempdir()) / f"{Path(path).stem}_{uuid.uuid4()}.mlmodelc"
        shutil.copytree(path, folder)
        cls.framework.compiled.append(Path(path).name)
        return str(folder)

    @classmethod
    def get_available_compute_devices(cls) -> list[Any]:
        """Devices that Core ML may use."""
        devices = importlib.import_module("coremltools.models.compute_device")
        found = [devices.MLCPUComputeDevice(CpuProxy())]
        found += [] if cls.framework.has("no-gpu") else [devices.MLGPUComputeDevice(GpuProxy())]
        return found if cls.framework.has("no-ne") else [*found, devices.MLNeuralEngineComputeDevice(NeProxy())]

    get_all_compute_devices = get_available_compute_devices

    @classmethod
    def get_compute_plan(cls, path: str, units: str) -> Any:
        """The plan of a compiled package; it tells devices of the default function alone."""
        if not path.rstrip("/").endswith(".mlmodelc"):
            raise RuntimeError(f"{path} is not a compiled model")
        if cls.framework.has("plan", units=units):
            os.kill(os.getpid(), signal.SIGSEGV)
        plans = importlib.import_module("coremltools.models.compute_plan")
        return plans.MLComputePlan(PlanProxy(Path(path), units, cls.framework.has("half-on-cpu", units=units)))


class PlanProxy:
    """``_MLComputePlanProxy``."""

    def __init__(self, path: Path, units: str, is_halved: bool) -> None:
        from dotsctl.encoder_worker.coreml.package import Package

        plans = importlib.import_module("coremltools.models.compute_plan")
        package, default = Package(path), _default_function(path)
        functions, self._usage = {}, {}
        for name in package.function_names:
            operations = []
            for op in package.function(name)[1].operations:
                output = SimpleNamespace(name=op.outputs[0].name, type=None)
                proxy = SimpleNamespace()
                operations.append(plans.MLModelStructureProgramOperation({}, f"ios18.{op.type}", [output], [], proxy))
                if name == default and not op.type.startswith("const"):
                    self._usage[id(proxy)] = self._device(units, is_halved and len(self._usage) % 2 == 0)
            block = plans.MLModelStructureProgramBlock([], operations, [])
            functions[name] = plans.MLModelStructureProgramFunction([], block)
        program = plans.MLModelStructureProgram(functions)
        self.model_structure = plans.MLModelStructure(None, program, None)

    def _device(self, units: str, on_cpu: bool) -> Any:
        devices = importlib.import_module("coremltools.models.compute_device")
        if units in NE_UNITS and not on_cpu:
            return devices.MLNeuralEngineComputeDevice(NeProxy())
        return devices.MLCPUComputeDevice(CpuProxy())

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        """The device of an operation; none: unknown."""
        plans = importlib.import_module("coremltools.models.compute_plan")
        device = self._usage.get(id(operation.__proxy__))
        return None if device is None else plans.MLComputePlanDeviceUsage(device, [device])

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        """The share of an operation in the time of its function."""
        plans = importlib.import_module("coremltools.models.compute_plan")
        return plans.MLComputePlanCost(1.0 / len(self._usage)) if id(operation.__proxy__) in self._usage else None


class CpuProxy:
    pass


class GpuProxy:
    pass


class NeProxy:
    def get_total_core_count(self) -> int:
        return 16


def _default_function(path: Path) -> str:
    from dotsctl.encoder_worker.coreml.package import Package

    package = Package(path)
    return str(package.model.description.defaultFunctionName or package.function_names[0])


def library() -> ModuleType:
    """The module ``libcoremlpython``."""
    module = ModuleType(LIBRARY)
    names = {
        "_MLModelProxy": Model,
        "_MLComputePlanProxy": PlanProxy,
        "_MLCPUComputeDeviceProxy": CpuProxy,
        "_MLGPUComputeDeviceProxy": GpuProxy,
        "_MLNeuralEngineComputeDeviceProxy": NeProxy,
        "_MLModelAssetProxy": type("_MLModelAssetProxy", (), {}),
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets coremltools import the fake library."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self) if name == LIBRARY else None

    def create_module(self, spec: Any) -> ModuleType:
        return library()

    def exec_module(self, module: ModuleType) -> None:
        pass


def become_mac(words: str, set_attribute: Callable[..., None], *, ends_process: bool) -> Framework:
    """Make this process believe that it runs on a Mac with an M2; before it imports coremltools.

    Args:
        words: the faults, separated by commas.
        set_attribute: as ``setattr``.
        ends_process: whether a violated lifetime ends the process.
    """
    importlib.import_module("platformdirs")  # before, so that its folders stay those of this system
    importlib.import_module("sysconfig").get_config_vars()  # of this system's Python; some imports ask for them
    faults = tuple(filter(None, words.split(",")))
    if wrong := [fault for fault in faults if fault.partition("@")[0] not in FAULTS]:
        raise ValueError(f"no such faults: {wrong}")
    framework = Framework(faults, ends_process, records_inputs=not ends_process)
    run, clock = subprocess.run, time.perf_counter

    def answer(command: Sequence[str], *args: Any, **options: Any) -> Any:
        known = ANSWERS.get(command[-1]) or ANSWERS.get(command[0])
        if known is None:
            return run(command, *args, **options)
        is_text = options.get("text", False)
        return subprocess.CompletedProcess(command, 0, f"{known}\n" if is_text else f"{known}\n".encode(), "")

    proxies = ModuleType("_scproxy")  # which urllib imports on a Mac
    vars(proxies).update(_get_proxy_settings=dict, _get_proxies=dict)
    sys.modules.setdefault("_scproxy", proxies)
    set_attribute(sys, "platform", "darwin")
    set_attribute(platform, "mac_ver", lambda *_: (MACOS, ("", "", ""), "arm64"))
    set_attribute(subprocess, "run", answer)
    set_attribute(time, "perf_counter", lambda: clock() + framework.slowed_s)
    set_attribute(Model, "framework", framework)
    power_meter = importlib.import_module("dotsctl.tools.bench.power_meter")
    set_attribute(power_meter, "POWERMETRICS", str(METER))
    set_attribute(power_meter, "SUDO", str(METER))
    return framework


def use(monkeypatch: Any, words: str = "", child: str | None = None) -> Framework:
    """Make this process, and the workers and tools that it starts, run on a Mac until the end of a test.

    Args:
        monkeypatch: pytest's.
        words: faults in this process.
        child: faults in others; none: the same.
    """
    for name in ("model", "_compiled_model", "compute_plan", "compute_device"):
        module = importlib.import_module(f"coremltools.models.{name}")
        for attribute, value in vars(library()).items():
            if attribute.startswith("_ML") and hasattr(module, attribute):
                monkeypatch.setattr(module, attribute, value)
    for name in ("model", "_compiled_model", "utils"):
        module = importlib.import_module(f"coremltools.models.{name}")
        monkeypatch.setattr(module, "_macos_version", lambda: (26, 1))
    monkeypatch.setitem(sys.modules, LIBRARY, library())
    monkeypatch.setenv(VARIABLE, words if child is None else child)
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(dict.fromkeys(paths)))
    return become_mac(words, monkeypatch.setattr, ends_process=False)
