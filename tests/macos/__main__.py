"""Runs a command whose Python processes believe that they run on macOS: ``python -m tests.macos pytest ...``."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.macos import environment

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="dotsctl-macos-") as folder:
        sys.exit(subprocess.call(sys.argv[1:], env={**os.environ, **environment(Path(folder))}))
