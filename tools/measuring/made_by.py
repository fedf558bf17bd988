"""The machine, the versions and the date of a measurement: the "made by" block of every report."""

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dotsctl.protocol.machine.identity import Machine, this_machine
from dotsctl.protocol.machine.libraries import COREMLTOOLS, MLX, MLX_LM
from dotsctl.protocol.model.files import read_file
from dotsctl.protocol.worker.blas import CPU_INFO
from dotsctl.tools.measuring.versions import versions

NAMES = {"dotsctl": "dotsctl", "python": "Python", MLX: "MLX", MLX_LM: MLX_LM, COREMLTOOLS: COREMLTOOLS}
"""The versions that a reader sees, by the names in ``versions()``; JSON has all of them."""


@dataclass(frozen=True)
class MadeBy:
    """The origin of a report."""

    date: str
    """UTC, as in ``2026-01-31T12:00:00+00:00``."""
    machine: Machine
    processor: str
    cores: int
    versions: dict[str, str]

    @classmethod
    def now(cls) -> "MadeBy":
        """Return the origin of a report that this process writes now."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(date, machine := this_machine(), processor_name(machine), os.cpu_count() or 1, versions())

    def record(self) -> dict[str, Any]:
        """Return the fields of the JSON output: ``date``, ``machine`` and ``versions``."""
        machine = {**asdict(self.machine), "processor": self.processor, "cores": self.cores}
        return {"date": self.date, "machine": machine, "versions": self.versions}

    def facts(self, *, uses_coreml: bool = False) -> dict[str, str]:
        """Return the block as readable text, by label.

        Args:
            uses_coreml: whether the version of coremltools belongs to the measurement.
        """
        shown = {name: label for name, label in NAMES.items() if uses_coreml or name != COREMLTOOLS}
        is_mac = self.machine.macos_version > 0
        system = f"{self.machine.system} ({self.machine.build})" if is_mac else self.machine.system
        found = [f"{label} {self.versions[name]}" for name, label in shown.items() if name in self.versions]
        return {
            "machine": f"{self.processor}, {self.cores} cores",
            "system": system,
            "versions": ", ".join(found),
            "date": datetime.fromisoformat(self.date).strftime("%Y-%m-%d %H:%M UTC"),
        }

    def text(self, *, uses_coreml: bool = False) -> str:
        """Return the block as one line of text."""
        return "; ".join(self.facts(uses_coreml=uses_coreml).values())


def processor_name(machine: Machine, cpu_info: Path = CPU_INFO) -> str:
    """Return the model of the processor, or its architecture where the system does not name the model."""
    if machine.macos_version:
        return machine.chip
    try:
        lines = read_file(cpu_info).decode("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
