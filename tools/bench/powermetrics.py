"""Reading the property lists of ``powermetrics``, the power meter of macOS. Pure.

It writes one property list for each sample, with a NUL between them. Used of each are ``elapsed_ns`` and, below
``processor``, ``cpu_energy``, ``gpu_energy`` and ``ane_energy`` in millijoules over the sample, or where they lack
``cpu_power`` and so on in milliwatts; newer systems have ``gpu_energy`` below ``gpu``. Source: the keys as open tools
read them, among them https://github.com/tlkh/asitop; the manual page documents the options alone.
"""

import plistlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from dotsctl.protocol.errors import CommandFailedError

UNITS = ("cpu", "gpu", "ane")
SAMPLERS = "cpu_power,gpu_power,ane_power"


@dataclass(frozen=True)
class Sample:
    """The measurements of one interval."""

    seconds: float
    joules: dict[str, float]
    """The energy by unit, in joules."""


def parse(stream: bytes) -> list[Sample]:
    """All samples; one that was cut off at the end is left out.

    Raises:
        CommandFailedError: it is no output of powermetrics, or it lacks a unit.
    """
    parts = [part for part in stream.split(b"\0") if part.strip()]
    samples: list[Sample] = []
    for number, part in enumerate(parts, 1):
        try:
            content = plistlib.loads(part.strip())
        except (ExpatError, plistlib.InvalidFileException, ValueError) as error:
            if number == len(parts) and samples:
                break
            raise CommandFailedError(f"sample {number} of powermetrics is no property list ({error})") from None
        samples.append(_sample(content, number))
    if not samples:
        raise CommandFailedError("powermetrics gave no samples", "run it by hand to see its output")
    return samples


def _sample(content: Any, number: int) -> Sample:
    seconds = _number(content, "elapsed_ns") or 0.0
    if seconds <= 0:
        raise CommandFailedError(f"sample {number} of powermetrics has no elapsed_ns: this version is not known here")
    seconds /= 1e9
    places = [content.get(key) for key in ("processor", "gpu", "ane")]
    return Sample(seconds, {unit: _joules(places, unit, seconds, number) for unit in UNITS})


def _joules(places: Sequence[Any], unit: str, seconds: float, number: int) -> float:
    for place in places:
        millijoules = _number(place, f"{unit}_energy")
        if millijoules is not None:
            return millijoules / 1e3
    for place in places:
        milliwatts = _number(place, f"{unit}_power")
        if milliwatts is not None:
            return milliwatts / 1e3 * seconds
    raise CommandFailedError(
        f"sample {number} of powermetrics tells nothing of {unit}", f"ask for --samplers {SAMPLERS}"
    )


def _number(place: Any, key: str) -> float | None:
    value = place.get(key) if isinstance(place, dict) else None
    return float(value) if isinstance(value, int | float) else None


def mean_watts(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean power of each unit over all samples."""
    seconds = sum(sample.seconds for sample in samples)
    return {unit: sum(sample.joules[unit] for sample in samples) / seconds for unit in UNITS}


def above(watts: dict[str, float], idle: dict[str, float]) -> dict[str, float]:
    """Power above that of the idle machine; noise that would make it negative counts as 0."""
    return {unit: max(0.0, watts[unit] - idle[unit]) for unit in watts}


def watt_hours_per_1000(watts: dict[str, float], page_s: float) -> float:
    """Energy of 1,000 pages that take ``page_s`` seconds each."""
    return sum(watts.values()) * page_s * 1000 / 3600
