"""Makes the Core ML packages of a model's vision tower, on macOS or Linux, without torch.

The tower is cut into chunks (``chunk_plan.py``). Each becomes one package with one function for each bucket, built by
``tower.py`` with the weights of ``stored_weights.py`` and written by ``package.py``.
"""

import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from dotsctl import __version__
from dotsctl.client.files.folders import staged
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk, builds_directory, function_name
from dotsctl.encoder_worker.opening import read_limits
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.model.buckets import standard_buckets
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.tools.coreml.chunk_plan import PlannedChunk, plan_chunks
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.coreml.scaling import package_exponents, stream_exponent
from dotsctl.tools.derived import require_space
from dotsctl.tools.half_precision.command import encoder_plan
from dotsctl.tools.reference.golden import write_golden

Report = Callable[[str], None]
MAX_SHOWN = 5
"""Findings that an error lists."""
REMEDY = (
    "use more --chunks for operations and weights, other --weights for the golden page; 'dotsctl convert MODEL "
    "--float16' names the layer that float16 rounds most; else use --encoder mlx"
)


def convert_encoder(model: Path, options: ConversionOptions, report: Report) -> Path:
    """Make a build; one of the same name is replaced when the new one is complete.

    Args:
        model: directory of the model.
        options: what to make.
        report: receives the progress, a line at a time.

    Returns:
        The folder of the build.

    Raises:
        UsageError: options that do not fit the model.
        MissingError: coremltools is not installed, or a file of the model is missing or damaged.
        CommandFailedError: the disk is full, or cannot be written; what was begun is removed.
    """
    config = VisionConfig.from_json(read_json(model, "config.json").get("vision_config", {}))
    buckets = options.buckets or standard_buckets(read_limits(model))
    parts = plan_chunks(config, options)
    report("computing the model's fingerprint")
    digest = fingerprint(model)
    folder = builds_directory(digest) / options.build_name
    residual_exponent, exponents = 0, dict[str, int]()
    if options.precision == "float16":
        residual_exponent, exponents = _scaling(model, config, digest, report)
    sizes = [part.stored_bytes for part in parts]
    # ``package.py`` stages the weights of the package that is written.
    require_space(folder, sum(sizes) + max(sizes), f"the Core ML build {options.build_name}")
    with staged(folder) as partial:
        chunks = _write_chunks(model, config, options, buckets, parts, (residual_exponent, exponents), partial, report)
        golden = write_golden(model, config, digest, buckets, partial, report)
        versions = {name: metadata.version(name) for name in ("coremltools", "numpy", "protobuf")}
        build = Build(
            fingerprint=digest,
            precision=options.precision,
            weights=options.weights,
            buckets=buckets,
            query_tile=options.query_tile,
            compute_units=options.compute_units,
            embed_dim=config.embed_dim,
            head_dim=config.head_dim,
            width=config.hidden_size,
            chunks=chunks,
            versions={"dotsctl": __version__, "python": platform.python_version(), **versions},
            residual_exponent=residual_exponent,
            golden=golden,
        )
        build.write(partial)
        _check_values(partial, build, report)
    report(f"{folder}: {Build.read(folder).nbytes / 1e6:,.1f} MB in {len(parts)} packages")
    return folder


def _scaling(model: Path, config: VisionConfig, digest: str, report: Report) -> tuple[int, dict[str, int]]:
    """Exponents of the residual stream and of tensors, from the magnitudes of the tower, which are measured if needed.

    Raises:
        MissingError: a file of the model, or MLX, is missing.
        UsageError: float16 cannot compute a layer.
    """
    plan = encoder_plan(model, digest, report, is_tried=False)
    plan.require_possible("use --precision float32, or --encoder mlx:dtype=bfloat16 for reading")
    if plan.imprecise:
        report(f"WARNING: {plan.imprecise}; the Neural Engine has no other precision")
    residual_exponent, exponents = package_exponents(config, plan)
    report(f"float16: {len(plan.exponents)} tensors scaled for their magnitudes, stream by 2^{residual_exponent}")
    return residual_exponent, exponents


def _write_chunks(
    model: Path,
    config: VisionConfig,
    options: ConversionOptions,
    buckets: Sequence[int],
    parts: Sequence[PlannedChunk],
    scaling: tuple[int, dict[str, int]],
    folder: Path,
    report: Report,
) -> tuple[Chunk, ...]:
    """Write the packages one after the other; only the weights of one are in memory."""
    from dotsctl.tools.coreml.attention import AttentionOptions  # imports coremltools, a second
    from dotsctl.tools.coreml.package import TARGET, file_digests, write_package
    from dotsctl.tools.coreml.plan_package import write_plan_packages
    from dotsctl.tools.coreml.stored_weights import StoredWeights
    from dotsctl.tools.coreml.tower import TowerBuilder, TowerPart
    from dotsctl.tools.reference.tower_tensors import TowerTensors

    residual_exponent, exponents = scaling
    subnormal = residual_exponent < stream_exponent(config)
    tensors, chunks = TowerTensors(model), []
    for number, part in enumerate(parts, 1):
        first, end, title = part.first_layer, part.end_layer, f"package {number} of {len(parts)}"
        report(f"{title}: layers {first + 1} to {end}, {part.stored_bytes / 1e6:,.0f} MB of weights")
        path = folder / f"tower-{number}.mlpackage"
        weights = StoredWeights(tensors, options.precision, options.weights, exponents)
        builder = TowerBuilder(config, weights, AttentionOptions(options.query_tile), residual_exponent)
        functions = {}
        for bucket in buckets:
            functions[function_name(bucket)] = builder.function(
                TowerPart(first, end, config.num_hidden_layers), bucket, TARGET
            )
            report(f"{title}: function for {bucket} patches")
        write_package(functions, path)
        files = file_digests(path)
        written = max((size for name, (size, _) in files.items() if name.endswith(".bin")), default=0)
        _check_program(path, options.precision, subnormal, report)
        plans = write_plan_packages(path, buckets)
        chunks.append(Chunk(path.name, first, end, written, files, plans))
        report(f"{title}: {written / 1e6:,.1f} MB of weights written")
    if not all(chunk.plans for chunk in chunks):
        report("this disk has no hard links: where operations run will be known for one page size alone")
    return tuple(chunks)


def _check_program(package: Path, precision: str, may_have_subnormal_epsilons: bool, report: Report) -> None:
    """Refuse a package that breaks a rule, whatever it computes. Raises CommandFailedError."""
    from dotsctl.tools.coreml.lint import RULES, lint_package, operation_counts

    _refuse(package.name, lint_package(package, precision, may_have_subnormal_epsilons=may_have_subnormal_epsilons))
    counts = ", ".join(f"{count} for {name}" for name, count in operation_counts(package).items())
    report(f"{package.name}: {len(RULES)} rules kept; operations: {counts}")


def _check_values(folder: Path, build: Build, report: Report) -> None:
    """Refuse a build that computes the golden page wrong, or beyond the limits. Raises CommandFailedError."""
    from dotsctl.tools.coreml.lint_values import check_golden_page

    bucket = min(build.buckets)
    report(f"executing the packages on the golden page of {bucket} patches")
    cosine, findings = check_golden_page(folder, build)
    _refuse(f"the build, executed on its golden page of {bucket} patches,", findings)
    limits = "no value beyond its limit" if build.precision == "float16" else "limits of float16 were not checked"
    report(f"golden page: smallest cosine {cosine:.6f}, {limits}; other page sizes were not executed")


def _refuse(what: str, findings: Sequence[Any]) -> None:
    if findings:
        shown = "; ".join(map(str, findings[:MAX_SHOWN]))
        more = f"; and {len(findings) - MAX_SHOWN} more" if len(findings) > MAX_SHOWN else ""
        raise CommandFailedError(f"{what} cannot be used: {shown}{more}", f"{REMEDY}")
