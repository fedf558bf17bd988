"""``dotsctl convert MODEL --encoder coreml``: what the command does around ``build.py``."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from dotsctl.client.files.sizes import size_text
from dotsctl.encoder_worker.coreml.manifest import MANIFEST, Build, builds_directory
from dotsctl.encoder_worker.opening import read_limits
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.buckets import standard_buckets
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.chunk_plan import plan_chunks
from dotsctl.tools.coreml.options import ConversionOptions


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def run(model: str, options: ConversionOptions, *, force: bool, as_json: bool) -> None:
    """Make a build, unless the same one exists, and describe it on standard output.

    Args:
        model: name or path of the model.
        options: what to make.
        force: make it again where it exists.
        as_json: print the manifest instead of lines.

    Raises:
        UsageError: options that do not fit the model.
        MissingError: the model, a file of it, or coremltools is missing.
        CommandFailedError: the disk does not take it.
    """
    name, folder = find_model(model)
    validate_checkpoint(folder)
    chosen = replace(options, buckets=options.buckets or standard_buckets(read_limits(folder)))
    path = None if force else existing_build(folder, chosen)
    if path is not None:
        say(f"{path} exists already; --force makes it again")
    else:
        path = convert_encoder(folder, chosen, say)
    build = Build.read(path)
    if as_json:
        print(json.dumps({"folder": str(path), "bytes": build.nbytes, **asdict(build)}, indent=2))
        return
    print(f"{path}: {size_text(build.nbytes)} for pages of {', '.join(map(str, build.buckets))} patches")
    for chunk in build.chunks:
        print(f"  {chunk.file}  layers {chunk.first_layer + 1} to {chunk.end_layer}  {size_text(chunk.weight_bytes)}")
    print(f"dotsctl ocr --model {name} --encoder coreml:build={path.name} ...  reads with it")


def parse_buckets(text: str | None) -> tuple[int, ...] | None:
    """Numbers of patches as in ``960,2016``. Raises UsageError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"--buckets {text!r} is no list of page sizes",
            "give numbers of patches with commas between them, as in 960,2016,4032",
        )
    return tuple(map(int, parts))


def existing_build(model: Path, options: ConversionOptions) -> Path | None:
    """The folder of a sound build that was made with these options, buckets included, if there is one."""
    folder = builds_directory(fingerprint(model)) / options.build_name
    if not (folder / MANIFEST).is_file():
        return None
    try:
        build = Build.read(folder)
        build.check_files(folder)
    except MissingError as error:
        say(str(error))
        return None
    config = VisionConfig.from_json(read_json(model, "config.json")["vision_config"])
    ends = [part.end_layer for part in plan_chunks(config, options)]
    same = [chunk.end_layer for chunk in build.chunks] == ends and all(
        getattr(build, field) == getattr(options, field)
        for field in ("precision", "weights", "buckets", "query_tile", "compute_units")
    )
    return folder if same else None
