"""Finding a model by name or path, and its fingerprint.

A model is a directory in the Hugging Face snapshot layout of dots.ocr. It is named by its path, by its name under
the user's models folder, or ``demo`` for the small model that ships with dotsctl.
"""

import contextlib
import hashlib
import json
import os
import re
import select
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.locks import try_lock
from dotsctl.protocol.model.files import open_regular, read_file, write_file

DEMO = "demo"
PUBLISHED = "rednote-hilab/dots.ocr"
"""Repository on the Hugging Face Hub where dots.ocr is published."""
SMALL_BUILD = "dots.mocr-4bit"
"""Short name of the smallest build of dots.mocr, which a Mac with 8 GB can load."""
FINGERPRINTED = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "prompts.json")
"""Files besides the tensors that the model's answers depend on."""
HASHING_S = 300.0
"""Longest wait for the fingerprint that another process computes."""
HASHING_CHECK_MS = 20
FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def demo_directory() -> Path:
    """Folder of the model that ships with dotsctl."""
    return Path(__file__).resolve().parents[2] / "client" / "demo_model"


def models_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of installed models: ``DOTSCTL_MODELS``, else ``models`` in the user's data folder."""
    if chosen := environment.get("DOTSCTL_MODELS"):
        return Path(chosen)
    return Path(platformdirs.user_data_path("dotsctl")) / "models"


def derived_directory(digest: str) -> Path:
    """Return the folder of what was derived from the model with this fingerprint: Core ML packages, quantised decoders.

    It lies in the models folder under a hidden name, so that it is on the disk that the user chose for models.
    """
    return models_directory() / ".derived" / digest


def command_name(model: Path) -> str:
    """The name or path by which a command line names the model in a folder, quoted for a shell."""
    if model == demo_directory():
        return DEMO
    return shlex.quote(model.name if model.parent == models_directory().resolve() else str(model))


def installed_models() -> list[str]:
    """Names of the models in the models folder; the demo model is not among them.

    Hidden folders are none: they hold what is still being downloaded, and what was derived.
    """
    folder = models_directory()
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if not entry.name.startswith(".") and (entry / "config.json").is_file()
    )


def find_model(chosen: str | None) -> tuple[str, Path]:
    """Name and directory of the model to use.

    Args:
        chosen: a path, an installed name, ``demo``, or none: then the only installed model is taken.

    Raises:
        UsageError: none was chosen and several are installed.
        MissingError: there is no such model, or none at all.
    """
    installed = installed_models()
    if chosen is None:
        if len(installed) > 1:
            raise UsageError(f"several models are installed: {', '.join(installed)}", "choose one with --model")
        if not installed:
            raise MissingError(
                "no model is installed",
                f"download one with 'dotsctl pull {SMALL_BUILD}' (3.5 GB) or 'dotsctl pull {PUBLISHED}' (6 GB), give "
                "the path of a downloaded checkpoint with --model, or use --model demo, the small model that ships "
                "with dotsctl",
            )
        chosen = installed[0]
    if chosen == DEMO:
        folder = demo_directory()
    elif chosen in installed:
        folder = models_directory() / chosen
    else:
        folder = Path(chosen).expanduser()
    if not (folder / "config.json").is_file():
        known = ", ".join([*installed, DEMO])
        raise MissingError(
            f"there is no model {chosen!r}: {folder} has no config.json. Installed models: {known}",
            "give the path of a dots.ocr snapshot, or --model demo",
        )
    return (chosen if chosen in (*installed, DEMO) else folder.resolve().name), folder.resolve()


def fingerprint(folder: Path) -> str:
    """sha256 over configuration, tokenizer and tensor bytes of a model, hexadecimal.

    Hashing 6 GB takes seconds, so the result is cached by what the system reports of every file: path, size, inode and
    times. A tool that keeps size and modification time, as ``cp -p``, changes the others. Of several processes that
    need it at the same time, as the two workers, one computes it and the others wait for its cache entry.
    """
    files = _fingerprinted_files(folder)
    cached = _cache_entry(files)
    if value := read_fingerprint(cached):
        return value
    with _hashing_alone(files):
        if value := read_fingerprint(cached):
            return value
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.name.encode() + b"\0")
            with open_regular(file) as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        _remember(cached, digest.hexdigest())
    return digest.hexdigest()


@contextlib.contextmanager
def _hashing_alone(files: list[Path]) -> Iterator[None]:
    """Wait while another process hashes these files; where the first one cannot be locked, do not wait.

    The lock lies on a file of the model, so nothing is left behind, and it ends with the process that holds it.
    """
    with contextlib.ExitStack() as stack:
        if files:
            stream, pause = stack.enter_context(open_regular(files[0])), select.poll()
            deadline = time.monotonic() + HASHING_S
            with contextlib.suppress(OSError):
                while not try_lock(stream.fileno()) and time.monotonic() < deadline:
                    pause.poll(HASHING_CHECK_MS)
        yield


def cached_fingerprint(folder: Path) -> str | None:
    """The fingerprint where it is known without reading the tensors; none: :func:`fingerprint` has to compute it."""
    return read_fingerprint(_cache_entry(_fingerprinted_files(folder)))


def _fingerprinted_files(folder: Path) -> list[Path]:
    files = [folder / name for name in FINGERPRINTED if (folder / name).is_file()]
    return files + sorted(folder.glob("*.safetensors"))


def _cache_entry(files: list[Path]) -> Path:
    """Return where the fingerprint of these files, as they are now, is kept."""
    found = [(file, file.stat()) for file in files]
    stamps = [[str(f), s.st_size, s.st_mtime_ns, s.st_dev, s.st_ino, s.st_ctime_ns] for f, s in found]
    key = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    return Path(platformdirs.user_cache_path("dotsctl")) / "fingerprints" / key


def read_fingerprint(cached: Path) -> str | None:
    """The cache entry; none when it is missing or damaged, then the fingerprint is computed."""
    try:
        value = read_file(cached).decode("latin-1")
    except OSError:
        return None
    return value if FINGERPRINT.fullmatch(value) else None


def _remember(cached: Path, value: str) -> None:
    """Write the cache entry; a cache that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        write_file(cached, value.encode(), is_flushed=False)
