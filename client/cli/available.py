"""``dotsctl ls --available``: the builds that can be downloaded, and which of them fit this machine."""

import json

from dotsctl.client.files.sizes import memory_text, size_text
from dotsctl.client.models.builds import best, builds, fit
from dotsctl.protocol.machine.memory import MemoryLimit, memory_limit
from dotsctl.protocol.worker.mlx import item_bytes


def available(as_json: bool, machine: MemoryLimit | None = None, number_bytes: int | None = None) -> str:
    """Return the builds as a table with a star at the best one, or as JSON.

    Args:
        as_json: for programs.
        machine: another one than this.
        number_bytes: of a number that MLX computes with there; none: here.
    """
    machine, size = machine or memory_limit(), number_bytes or item_bytes(None)
    found = builds()
    chosen = best(found, machine, size)
    if as_json:
        rows = [
            {
                "name": each.name,
                "download_bytes": each.download_bytes,
                "least_bytes": each.least_bytes(size),
                "fit": str(fit(each, machine, size)),
                "best": each is chosen,
            }
            for each in found
        ]
        limits = {"physical_bytes": machine.physical_bytes, "usable_bytes": machine.usable_bytes}
        return json.dumps({**limits, "builds": rows}, indent=2) + "\n"
    table = [("", "NAME", "DOWNLOAD", "MEMORY", "ON THIS MACHINE")]
    for each in found:
        sizes = (size_text(each.download_bytes), memory_text(each.least_bytes(size)))
        table.append(("*" if each is chosen else "", each.name, *sizes, str(fit(each, machine, size))))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    usable = f"of {memory_text(machine.physical_bytes)} a model may use {memory_text(machine.usable_bytes)}"
    advice = f"dotsctl pull {chosen.name}" if chosen else "no build fits this machine"
    return "\n".join([*lines, "", f"this machine: {usable}; {advice}", "dots.ocr has the same builds and sizes", ""])
