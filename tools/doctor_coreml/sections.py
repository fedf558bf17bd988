"""The work of the sections of ``doctor --coreml``, each in a process of its own.

A section gets an :class:`SectionRequest` and returns its result for JSON and as readable text.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.devices import available_devices
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import REFERENCE, Build, find_build
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.doctor_coreml.order import Say, SectionFailedError, SectionRequest

ENERGY_S = 20.0
Found = tuple[dict[str, Any], list[str]]


def _system(order: SectionRequest, say: Say) -> Found:
    """Machine, versions and devices."""
    from dotsctl.tools.measuring.made_by import MadeBy

    import_coremltools()  # without it there is nothing to examine
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    devices = available_devices()
    made_by = MadeBy.now()
    facts = {"model": order.model, **asdict(made_by.machine), "memory_gib": round(memory_gib, 1), "date": made_by.date}
    result = {**facts, "devices": list(devices), "versions": made_by.versions}
    text = [f"{key:<12} {value}" for key, value in {**facts, **made_by.versions}.items()]
    return result, [*text, f"devices      {', '.join(devices)}"]


def _conversion(order: SectionRequest, say: Say) -> Found:
    """The build, made where there is none."""
    model, started = Path(order.model), time.monotonic()
    digest = fingerprint(model)
    result: dict[str, Any] = {"made": False}
    try:
        folder, build = find_build(model, digest, order.build)
    except MissingError as error:
        if order.build is not None:
            raise
        say(f"{error}; converting now")
        preload_blas()
        convert_encoder(model, ConversionOptions(), say)
        folder, build = find_build(model, digest, None)
        result = {"made": True, "seconds": time.monotonic() - started}
    result |= {"build": folder.name, "bytes": build.nbytes, "buckets": build.buckets, "versions": build.versions}
    took = f", converted in {result['seconds']:.0f} s" if result["made"] else ""
    return result, [f"build {folder.name}, {build.nbytes / 1e6:,.0f} MB, pages of {_listed(build)} patches{took}"]


def _trial(order: SectionRequest, say: Say) -> Found:
    """The trial on some compute units: loads, times, numbers and plan."""
    from dotsctl.tools.verify_coreml.device import measure
    from dotsctl.tools.verify_coreml.report import device_lines

    folder, build = _build(order)
    references = Path(order.work) / "references"
    probe = Probe(folder, build, order.subject, Path(order.model), references=references)
    found = measure(probe, this_machine(), say)
    result = {**found.summary(), "operations": found.operations}
    text = list(device_lines(found))
    verdict = found.verdict
    if not verdict.is_good:
        bad = [f"{trial.bucket} patches: {trial.reason}" for trial in verdict.trials if not trial.is_good]
        raise SectionFailedError(verdict.reason or "; ".join(bad), result, text)
    return result, text


def _verification(order: SectionRequest, say: Say) -> Found:
    """The smallest page against float64 and MLX, component by component."""
    from dotsctl.tools.verify_coreml.comparison import BuildRequest, compare
    from dotsctl.tools.verify_coreml.report import content, table

    preload_blas()
    _, build = _build(order)
    units = () if order.subject == REFERENCE else (order.subject,)
    comparison = BuildRequest(order.model, order.build, (min(build.buckets),), (), units)
    _, found = compare(comparison, say)
    result, text = content(found, build), table(found).splitlines()
    wrong = sum(not row.match for row in found.rows)
    if wrong:
        raise SectionFailedError(f"{wrong} of {len(found.rows)} components do not match", result, text)
    return result, text


def _laboratory(order: SectionRequest, say: Say) -> Found:
    """The packages of one layer, written."""
    from dotsctl.tools.doctor_coreml.laboratory import build_packages

    return build_packages(order, _build(order)[1], say)


def _package(order: SectionRequest, say: Say) -> Found:
    """One package of one layer, run."""
    from dotsctl.tools.doctor_coreml.laboratory import run_package

    return run_package(order, say)


def _energy(order: SectionRequest, say: Say) -> Found:
    """The energy of one encoder, where powermetrics may be read."""
    from dotsctl.tools.bench import energy

    preload_blas()
    measured = energy.measure(order.model, (order.subject,), None, ENERGY_S, say)
    return {"encoders": [asdict(each) for each in measured]}, [energy.HEAD, *(each.row() for each in measured)]


def _auto(order: SectionRequest, say: Say) -> Found:
    """The encoders that ``--encoder auto`` uses after this."""
    from dotsctl.client.settings.auto_encoder import choose_encoder

    choice = str(choose_encoder(Path(order.model), {}, this_machine()))
    return {"choice": choice}, [choice]


def _build(order: SectionRequest) -> tuple[Path, Build]:
    model = Path(order.model)
    return find_build(model, fingerprint(model), order.build)


def _listed(build: Build) -> str:
    return ", ".join(map(str, build.buckets))


SECTIONS: dict[str, Callable[[SectionRequest, Say], Found]] = {
    "system": _system,
    "conversion": _conversion,
    "trial": _trial,
    "verification": _verification,
    "laboratory": _laboratory,
    "package": _package,
    "energy": _energy,
    "auto": _auto,
}
"""The sections by kind."""
