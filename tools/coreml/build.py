"""Makes the Core ML packages of a model's vision tower, on macOS or Linux, without torch.

The tower is cut into chunks (``chunk_plan.py``). Each becomes one package with one function for each bucket, built by
``tower.py`` with the weights of ``stored_weights.py`` and written by ``package.py``.
"""

import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from dotsctl import __version__
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk, builds_directory, function_name
from dotsctl.encoder_worker.opening import read_limits
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.buckets import standard_buckets
from dotsctl.protocol.checkpoint import read_json
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.model_directory import fingerprint
from dotsctl.tools.coreml.chunk_plan import WEIGHT_LIMIT_BYTES, plan_chunks
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.derived import require_space, staged
from dotsctl.tools.reference.golden import write_golden

Report = Callable[[str], None]


def convert_encoder(model: Path, options: ConversionOptions, report: Report) -> Path:
    """Make a build; one of the same name is replaced when the new one is complete.

    Args:
        model: directory of the model.
        options: what to make.
        report: is told what happens, a line at a time.

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
    sizes = [size for _, _, size in parts]
    # ``package.py`` stages the weights of the package that is written.
    require_space(folder, sum(sizes) + max(sizes), f"the Core ML build {options.build_name}")
    with staged(folder) as partial:
        chunks = _write_chunks(model, config, options, buckets, parts, partial, report)
        golden = write_golden(model, config, digest, buckets, partial, report)
        versions = {name: metadata.version(name) for name in ("coremltools", "numpy", "protobuf")}
        Build(
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
            golden=golden,
        ).write(partial)
    report(f"{folder}: {Build.read(folder).nbytes / 1e6:,.1f} MB in {len(parts)} packages")
    return folder


def _write_chunks(
    model: Path,
    config: VisionConfig,
    options: ConversionOptions,
    buckets: Sequence[int],
    parts: Sequence[tuple[int, int, int]],
    folder: Path,
    report: Report,
) -> tuple[Chunk, ...]:
    """Write the packages one after the other; only the weights of one are in memory."""
    from dotsctl.tools.coreml.package import TARGET, file_digests, write_package  # imports coremltools, a second
    from dotsctl.tools.coreml.stored_weights import StoredWeights
    from dotsctl.tools.coreml.tower import Part, TowerBuilder
    from dotsctl.tools.reference.tower_tensors import TowerTensors

    tensors, chunks = TowerTensors(model), []
    for number, (first, end, size) in enumerate(parts, 1):
        report(f"package {number} of {len(parts)}: layers {first + 1} to {end}, {size / 1e6:,.0f} MB of weights")
        part, path = Part(first, end, config.num_hidden_layers), folder / f"tower-{number}.mlpackage"
        builder = TowerBuilder(config, StoredWeights(tensors, options.precision, options.weights), options.query_tile)
        functions = {}
        for bucket in buckets:
            functions[function_name(bucket)] = builder.function(part, bucket, TARGET)
            report(f"package {number} of {len(parts)}: function for {bucket} patches")
        write_package(functions, path)
        files = file_digests(path)
        written = max((size for name, (size, _) in files.items() if name.endswith(".bin")), default=0)
        if written >= WEIGHT_LIMIT_BYTES:
            raise CommandFailedError(
                f"package {number} has {written:,} bytes of weights, the Neural Engine takes less than "
                f"{WEIGHT_LIMIT_BYTES:,}: convert with more chunks than {len(parts)}"
            )
        chunks.append(Chunk(path.name, first, end, written, files))
        report(f"package {number} of {len(parts)}: {written / 1e6:,.1f} MB of weights written")
    return tuple(chunks)
