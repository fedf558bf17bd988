"""A quantised decoder on the disk: where it lies, and what must hold before it is loaded. Imports no MLX.

``tools/convert/decoder.py`` writes it, the plugin ``mlx`` reads it. It is a folder of ``.safetensors`` files with the
text half alone and a ``manifest.json``; everything else (configuration, tokenizer, prompts) stays with the model.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.directory import command_name, derived_directory
from dotsctl.protocol.model.files import open_regular, read_file
from dotsctl.protocol.model.quantisation import Quantisation
from dotsctl.protocol.typed_values import WrongValueError, brief, plain_json

FORMAT = 1
"""The version of the folder's format; a later one is refused."""
MANIFEST = "manifest.json"


def decoder_folder(quantisation: Quantisation, digest: str) -> Path:
    """Return the folder of the decoder of the model with this fingerprint."""
    return derived_directory(digest) / f"decoder-{quantisation.kind}-g{quantisation.group_size}"


def conversion_command(quantisation: Quantisation, model: Path) -> str:
    """Return the command line that makes the decoder of a model."""
    grouped = "" if quantisation.has_usual_groups else f" --group-size {quantisation.group_size}"
    return f"dotsctl convert {command_name(model)} --decoder-bits {quantisation.option}{grouped}"


@dataclass(frozen=True)
class QuantisedDecoder:
    """A quantised decoder that is complete and belongs to the model."""

    quantisation: Quantisation
    files: tuple[Path, ...]
    """The files with the text half's tensors by their names in the model, and their ``.scales`` and ``.biases``."""
    manifest: dict[str, Any]
    remedy: str
    """The command line that makes it again."""

    @property
    def size_bytes(self) -> int:
        """The size of all files, in bytes."""
        return sum(file.stat().st_size for file in self.files)


def open_quantised(model: Path, digest: str, quantisation: Quantisation) -> QuantisedDecoder:
    """Find the quantised decoder of a model and read every byte of it once, against its manifest.

    Args:
        model: folder of the model.
        digest: its fingerprint.
        quantisation: which one.

    Raises:
        MissingError: it was never made, is of another model or format, or is damaged; with the line that makes it.
    """
    folder, command = decoder_folder(quantisation, digest), conversion_command(quantisation, model)
    if not folder.is_dir():
        raise MissingError(
            f"the decoder of {model} was not quantised to {quantisation.kind} in groups of "
            f"{quantisation.group_size} yet",
            f"{command}",
        )
    remedy = f"{command} --force"
    manifest = _read_manifest(folder, remedy)
    expected = {
        "format": FORMAT,
        "fingerprint": digest,
        "bits": quantisation.bits,
        "group_size": quantisation.group_size,
        "mode": quantisation.mode,
    }
    for key, value in expected.items():
        if manifest.get(key) != value:
            raise MissingError(
                f"{folder / MANIFEST}: {key} is {brief(manifest.get(key))}, not {value!r}", f"rebuild it: {remedy}"
            )
    return QuantisedDecoder(quantisation, _checked_files(folder, manifest, remedy), manifest, remedy)


def _read_manifest(folder: Path, remedy: str) -> dict[str, Any]:
    try:
        manifest = plain_json(read_file(folder / MANIFEST))
    except (OSError, WrongValueError) as error:
        raise MissingError(f"{folder / MANIFEST} cannot be read ({error})", f"rebuild it: {remedy}") from None
    if not isinstance(manifest, dict):
        raise MissingError(f"{folder / MANIFEST} holds no object", f"rebuild it: {remedy}")
    return manifest


def _checked_files(folder: Path, manifest: dict[str, Any], remedy: str) -> tuple[Path, ...]:
    """The files that the manifest lists. Raises MissingError for one that is absent or has other bytes."""
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not listed:
        raise MissingError(f"{folder / MANIFEST} lists no files", f"rebuild it: {remedy}")
    for name, digest in listed.items():
        if Path(name).name != name or "\0" in name:
            raise MissingError(
                f"{folder / MANIFEST} lists {brief(name)}, which is not a file in it", f"rebuild it: {remedy}"
            )
        try:
            found = file_digest(folder / name)
        except OSError as error:
            raise MissingError(f"{folder / name} cannot be read ({error.strerror})", f"rebuild it: {remedy}") from None
        if found != digest:
            raise MissingError(f"{folder / name} is damaged: it is not what was written", f"rebuild it: {remedy}")
    return tuple(folder / name for name in listed)


def file_digest(file: Path) -> str:
    """sha256 of a file, hexadecimal; 1 to 2 s for the 1.9 GB of dots.ocr with 8 bits."""
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
