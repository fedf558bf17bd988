"""The environment of its own in which mlx-vlm runs: its newer transformers and ours would be one another's version."""

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import platformdirs
from dotsctl.protocol.errors import CommandFailedError, MissingError
from dotsctl.protocol.machine.libraries import MLX

MLX_VLM = "0.7.10"
"""The version that layouts and answers are compared with."""


def peer_python() -> Path:
    """Return the Python of the environment, which is made in the user's cache at the first call.

    Raises:
        MissingError: the packages cannot be installed.
    """
    folder = platformdirs.user_cache_path("dotsctl") / f"mlx-vlm-{MLX_VLM}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.is_file():
        venv.create(folder, clear=True, with_pip=True)
        extra = "" if sys.platform == "darwin" else "[cpu]"
        packages = [f"mlx-vlm=={MLX_VLM}", f"{MLX}{extra}=={version(MLX)}"]
        if subprocess.run([python, "-m", "pip", "install", "-q", *packages]).returncode:
            raise MissingError(f"{' '.join(packages)} cannot be installed into {folder}", "check the network")
        complete.touch()
    return python


def peer_variables() -> dict[str, str]:
    """Return the environment variables of mlx-vlm's processes: no network and no path to this project."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
    variables.pop("PYTHONPATH", None)
    return variables


def run_peer(python: Path, program: Path, folder: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run a program in the environment.

    Args:
        python: of the environment.
        program: the file.
        folder: its argument, which holds its job and takes its results.
        variables: additional environment variables.

    Raises:
        CommandFailedError: it ended with an error.
    """
    command = [str(python), "-P", str(program), str(folder)]
    if code := subprocess.run(
        command, env={**peer_variables(), **(variables or {})}, stdout=subprocess.DEVNULL
    ).returncode:
        raise CommandFailedError(f"mlx-vlm ended with exit code {code}", "read its messages above")
