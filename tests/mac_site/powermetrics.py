#!/usr/bin/env python3
"""A stand-in for ``powermetrics`` of macOS, and for ``sudo -n powermetrics``: the power follows its parent's load.

It takes the options that the bench gives and ends after as many samples as it is asked for.
"""

import argparse
import os
import plistlib
import sys
import threading
import time
from pathlib import Path

IDLE_W, BUSY_W = 1.0, {"cpu": 4.0, "gpu": 0.5, "ane": 2.0}

parser = argparse.ArgumentParser()
parser.add_argument("--format", choices=["plist"], required=True)
parser.add_argument("--samplers", choices=["cpu_power,gpu_power,ane_power"], required=True)
parser.add_argument("-i", type=int, required=True, help="milliseconds between samples")
parser.add_argument("-n", type=int, required=True, help="samples")
options = parser.parse_args(sys.argv[sys.argv.index("--format") :])
parent = Path(f"/proc/{os.getppid()}/stat")


def busy_s() -> float:
    """Processor time of the parent."""
    user, system = parent.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


began = before = time.monotonic()
worked = busy_s()
for number in range(options.n):
    threading.Event().wait(max(0.0, began + (number + 1) * options.i / 1000 - time.monotonic()))
    (passed, before), (busy, worked) = (
        (now - last, now) for now, last in ((time.monotonic(), before), (busy_s(), worked))
    )
    millijoules = {f"{unit}_energy": (IDLE_W * passed + watts * busy) * 1000 for unit, watts in BUSY_W.items()}
    sys.stdout.buffer.write(plistlib.dumps({"elapsed_ns": int(passed * 1e9), "processor": millijoules}) + b"\0")
    sys.stdout.buffer.flush()
