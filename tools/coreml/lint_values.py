"""Magnitudes that a package may compute: float16 ends at 65,504, and some Neural Engines end earlier.

The values come from the reference interpreter, which executes the saved packages on the golden page of their build. It
shows one page of the smallest size; other pages may have larger values.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.golden_page import Golden, draw_page
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.manifest import REFERENCE, Build, function_name
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, patches_input, rotary_inputs
from dotsctl.protocol.model.half_precision import LIMIT
from dotsctl.tools.coreml.lint import LintFinding

FLOAT16_LIMIT = 65_504.0
CUT_LIMIT = 4_094.0
"""Values beyond it become infinite on M1 to M3 where the last axis is cut (ANEForge, ROOFLINES.md)."""
RULE = "magnitudes"


def lint_values(programs: Sequence[Interpreter]) -> Iterator[LintFinding]:
    """Broken limits of everything that float16 programs have computed so far."""
    for program in programs:
        ends = {name: shape[-1] for name, (shape, _) in program.inputs.items()}
        for op in program.steps:
            for output in op.outputs:
                ends[output.name] = output.type.tensorType.dimensions[-1].constant.size
                peak, limit = program.magnitudes.get(output.name, 0.0), _limit(op, ends)
                if peak > limit:
                    yield LintFinding(RULE, output.name, f"reaches {peak:,.0f}, the limit of {op.type} is {limit:,.0f}")


def check_golden_page(folder: Path, build: Build) -> tuple[float, list[LintFinding]]:
    """Execute the packages of a build on its golden page.

    Args:
        folder: of the build.
        build: its manifest, which names a golden page.

    Returns:
        The smallest cosine of a token, and what is wrong; limits of float16 do not matter to float32 packages.
    """
    golden = Golden.read(folder)
    page, findings = draw_page(golden.bucket), list[LintFinding]()
    cosines, sines = rotary_inputs(page.grid, build.head_dim)
    value, name = patches_input(page.values), "patches"
    for chunk in build.chunks:  # only the weights of one package are in memory
        program = Interpreter(folder / chunk.file, function_name(golden.bucket))
        (value,) = program.run({name: value, "cos": cosines, "sin": sines}).values()
        name = "hidden"
        if build.precision == "float16":
            findings += lint_values([program])
    embeddings = embeddings_of(value)
    cosine, wrong = golden.check(embeddings, build, REFERENCE)
    return cosine, [*findings, *([LintFinding("golden page", "embeddings", f"differ: {wrong}")] if wrong else [])]


def _limit(op: Any, ends: dict[str, int]) -> float:
    """Limit of the results of an operation; ``ends`` are the lengths of the last axes of all values up to them."""
    if op.type in ("conv", "matmul"):
        return LIMIT
    if op.type in ("split", "slice_by_size"):
        is_cut = ends[op.outputs[0].name] < ends[op.inputs["x"].arguments[0].name]
        return CUT_LIMIT if is_cut else FLOAT16_LIMIT
    return FLOAT16_LIMIT
