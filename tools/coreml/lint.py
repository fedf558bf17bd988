"""Rules that a saved package must keep so that Core ML takes it and the Neural Engine can compute it.

``lint_package`` reads the program alone (seconds, any size). What a program computes is measured by ``lint_values.py``.
Packages are written without coremltools' own passes, so what these guarantee is checked here too.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.package import Package
from dotsctl.tools.coreml.chunk_plan import DENSE_LIMIT_BYTES

OPERATIONS = {
    "products": {"conv", "matmul"},
    "elements": {"add", "mul", "silu", "gelu"},
    "norms": {"layer_norm", "softmax"},
    "layout": {"concat", "split", "slice_by_size", "reshape", "transpose"},
    "constants": {"const", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"},
}
"""Everything that a package may hold."""
IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")
RESERVED = frozenset(
    (
        "any",
        "bool",
        "program",
        "func",
        "tensor",
        "list",
        "dict",
        "tuple",
        "true",
        "false",
        "string",
        "bf16",
        "fp16",
        "fp32",
        "fp64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "state",
    )
)
"""Words of the MIL language. Source: ``NameSanitizer`` of coremltools 9.0."""
MAX_AXIS = 16_384
"""The limit of the Neural Engines up to M3 (ANEForge, ROOFLINES.md)."""
MAX_RANK = 5
"""The largest number of axes of a value; only tables of compressed constants may have more."""
MAX_TRANSPOSED_BYTES = 16_000_000
"""The limit of an operand that a product transposes. With transposed scores Core ML aborts on the GPU (ultralytics pull
25860), and the Neural Engine copies what does not fit into its memory."""
MAX_SCALED_NORM = 1_024
"""Channels of a norm with scales; wider ones fail to compile on M1 and M2 (ANEForge issue 162)."""
MAX_OPERATIONS = 1_000
"""The limit of a function, constants aside. Eight layers have 704 for 8,640 patches and 824 for the largest bucket;
only smaller query tiles have more. The compiler's memory grows with the number (lightvector/KataGo pull 1202), and
encoders with thousands of operations took many minutes to compile."""
FLOAT16, FLOAT32 = 10, 11
"""Data types of MIL.proto."""
ARRAY_FLOAT32 = 65_568
"""Data type of the inputs and outputs of a model, of FeatureTypes.proto."""


@dataclass(frozen=True)
class LintFinding:
    """A rule that is broken."""

    rule: str
    """The rule, as in ``names``."""
    where: str
    """The function, and the value."""
    problem: str
    """The problem, with the numbers."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.where} {self.problem}"


@dataclass(frozen=True)
class _Program:
    """One function, as the rules check it."""

    package: Package
    name: str
    may_have_subnormal_epsilons: bool

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Types of the inputs by name."""
        return {one.name: one.type for one in self.package.function(self.name)[0].inputs}

    @cached_property
    def block(self) -> Any:
        """The block of operations."""
        return self.package.function(self.name)[1]

    @cached_property
    def types(self) -> dict[str, Any]:
        """Types of all values by name."""
        return self.inputs | {out.name: out.type for op in self.block.operations for out in op.outputs}

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Operations ``const`` by name of their value."""
        return {op.outputs[0].name: op for op in self.block.operations if op.type == "const"}

    @cached_property
    def computed(self) -> list[Any]:
        """Operations that run with each page."""
        return [op for op in self.block.operations if not op.type.startswith("const")]

    def argument(self, op: Any, key: str) -> Any:
        """The constant that an operation takes as ``key``; none: it has no such argument."""
        if key not in op.inputs:
            return None
        binding = op.inputs[key].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return self.package.value(binding.value)
        return self.package.value(self.constants[binding.name].attributes["val"])


Problems = Iterator[tuple[str, str]]
"""Names of values, and what is wrong with them."""


def _names(program: _Program) -> Problems:
    values = [*program.inputs, *(out.name for op in program.block.operations for out in op.outputs)]
    attributes = [program.package.value(op.attributes["name"]) for op in program.block.operations]
    for kind, bound in (("value", values), ("operation", attributes)):
        seen: set[str] = set()
        for name in bound:
            if name in seen:
                yield name, f"is the name of a second {kind}"
            if not IDENTIFIER.fullmatch(name) or name in RESERVED:
                yield name, f"is no name that MIL allows for a {kind}"
            seen.add(name)


def _structure(program: _Program) -> Problems:
    known, used = set(program.inputs), set(program.block.outputs)
    allowed = set().union(*OPERATIONS.values())
    for op in program.block.operations:
        name = op.outputs[0].name
        if op.type not in allowed:
            yield name, f"is an operation {op.type}, which the converter does not use"
        for operand in _operands(op):
            used.add(operand)
            if operand not in known:
                yield name, f"takes {operand}, which is not computed before it"
        known |= {out.name for out in op.outputs}
    yield from ((name, "is not used") for name in sorted(known - used))
    yield from ((name, "is an output that is not computed") for name in sorted(used - known))


def _sizes(program: _Program) -> Problems:
    constexpr = (op for op in program.block.operations if op.type.startswith("constexpr_"))
    tables = {operand for op in constexpr for operand in _operands(op)}
    for name, kind in program.types.items():
        shape = _shape(kind)
        if any(axis > MAX_AXIS for axis in shape):
            yield name, f"has the shape {shape}, and the Neural Engine takes at most {MAX_AXIS:,} along an axis"
        if len(shape) > MAX_RANK and name not in tables:
            yield name, f"has {len(shape)} axes, and the Neural Engine takes at most {MAX_RANK}"


def _precision(program: _Program) -> Problems:
    for name, kind in program.types.items():
        if kind.tensorType.dataType == FLOAT32:
            yield name, "is float32 in a float16 package"
    for op in program.block.operations:
        for key, argument in op.inputs.items():
            for binding in argument.arguments:
                if binding.value.type.tensorType.dataType == FLOAT32:
                    yield op.outputs[0].name, f"has the argument {key} in float32 in a float16 package"
    for function in program.package.model.description.functions:
        for feature in (*function.input, *function.output):
            if function.name == program.name and feature.type.multiArrayType.dataType == ARRAY_FLOAT32:
                yield feature.name, "is an input or output in float32 of a float16 package"


def _transposed(program: _Program) -> Problems:
    for op in program.computed:
        for side in ("x", "y"):
            if op.type == "matmul" and program.argument(op, f"transpose_{side}"):
                name = op.inputs[side].arguments[0].name
                size = _nbytes(program.types[name])
                if size > MAX_TRANSPOSED_BYTES:
                    yield op.outputs[0].name, f"transposes {size:,} bytes, at most {MAX_TRANSPOSED_BYTES:,} are safe"


def _scaled_norms(program: _Program) -> Problems:
    for op in program.computed:
        if op.type == "layer_norm" and {"gamma", "beta"} & set(op.inputs):
            channels = math.prod(_shape(program.types[op.inputs["x"].arguments[0].name])[1:2])
            if channels >= MAX_SCALED_NORM:
                yield op.outputs[0].name, f"is a norm with scales over {channels:,} channels"


def _epsilons(program: _Program) -> Problems:
    smallest = float(np.finfo(np.float16).smallest_normal)
    for op in program.computed:
        if op.type != "layer_norm" or program.may_have_subnormal_epsilons:
            continue
        epsilon = float(program.argument(op, "epsilon"))
        if epsilon < smallest and program.types[op.outputs[0].name].tensorType.dataType == FLOAT16:
            yield op.outputs[0].name, f"has the epsilon {epsilon:g}, in float16 normal numbers begin at {smallest:g}"


def _operations(program: _Program) -> Problems:
    number = len(program.computed)
    if number > MAX_OPERATIONS:
        yield "", f"has {number:,} operations, at most {MAX_OPERATIONS:,} compile in reasonable time"


def _dense(program: _Program) -> Problems:
    size = _dense_bytes(program)
    if size >= DENSE_LIMIT_BYTES:
        yield "", f"has {size:,} bytes of expanded weights, the limit is {DENSE_LIMIT_BYTES:,}"


RULES: dict[str, Callable[[_Program], Problems]] = {
    "names": _names,
    "structure": _structure,
    "sizes": _sizes,
    "precision": _precision,
    "transposed operands": _transposed,
    "scaled norms": _scaled_norms,
    "epsilons": _epsilons,
    "operations": _operations,
    "weights": _dense,
}
"""All of them by name."""
FLOAT16_RULES = ("precision", "epsilons")
"""Those that a float32 package, which is made for comparisons, need not keep."""


def lint_package(path: Path, precision: str, *, may_have_subnormal_epsilons: bool = False) -> list[LintFinding]:
    """Find broken rules in a saved package.

    Args:
        path: the ``.mlpackage``.
        precision: ``float16`` or ``float32``.
        may_have_subnormal_epsilons: true for a tower whose residual stream had to be scaled down, which takes the
            epsilons of its norms below the normal numbers of float16; larger ones would change what it computes.

    Raises:
        MissingError: the package is damaged.
    """
    package, findings = Package(path), []
    for function in package.function_names:
        program = _Program(package, function, may_have_subnormal_epsilons)
        for rule, check in RULES.items():
            if precision == "float16" or rule not in FLOAT16_RULES:
                findings += [
                    LintFinding(rule, f"{function} {name}".rstrip(), problem) for name, problem in check(program)
                ]
    return findings


def operation_counts(path: Path) -> dict[str, int]:
    """Operations of each function of a package that run with each page. Raises MissingError when it is damaged."""
    package = Package(path)
    return {name: len(_Program(package, name, False).computed) for name in package.function_names}


def _operands(op: Any) -> list[str]:
    bindings = (binding for argument in op.inputs.values() for binding in argument.arguments)
    return [binding.name for binding in bindings if binding.WhichOneof("binding") == "name"]


def _shape(kind: Any) -> tuple[int, ...]:
    return tuple(axis.constant.size for axis in kind.tensorType.dimensions)


def _nbytes(kind: Any) -> int:
    """Bytes of a value of floating point."""
    return math.prod(_shape(kind)) * (4 if kind.tensorType.dataType == FLOAT32 else 2)


def _dense_bytes(program: _Program) -> int:
    """Bytes of the weights as they are computed with: constants from the weight file, compressed ones expanded."""
    expanded = [op for op in program.block.operations if op.type.startswith("constexpr_")]
    packed = {operand for op in expanded for operand in _operands(op)}
    plain = [
        op
        for name, op in program.constants.items()
        if name not in packed and op.attributes["val"].WhichOneof("value") == "blobFileValue"
    ]
    return sum(_nbytes(op.outputs[0].type) for op in (*expanded, *plain))
