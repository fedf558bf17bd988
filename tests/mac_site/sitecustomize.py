"""Makes encoder workers and tools believe that they run on a Mac: see ``tests/coreml_stand_in.py``.

Python imports it at its start when this folder is on ``PYTHONPATH``. Runtimes and decoder workers stay what they are.
"""

import importlib.util
import os
import sys
from pathlib import Path

PROGRAMS = ("dotsctl.encoder_worker", "dotsctl.tools.doctor_coreml", "dotsctl.tools.dev.verify", "--coreml", "energy")
FAULTS = os.environ.get("COREML_STAND_IN")

if FAULTS is not None and any(program in word for word in sys.orig_argv for program in PROGRAMS):
    path = Path(__file__).parents[1] / "coreml_stand_in.py"
    spec = importlib.util.spec_from_file_location("coreml_stand_in", path)
    assert spec is not None and spec.loader is not None
    stand_in = importlib.util.module_from_spec(spec)
    sys.modules["coreml_stand_in"] = stand_in
    spec.loader.exec_module(stand_in)
    stand_in.become_mac(FAULTS, setattr, ends_process=True)
    sys.meta_path.insert(0, stand_in.Finder())
