"""The plan behind ``--encoder auto``: MLX, and Core ML packages for the pages that these read sooner.

Nothing is loaded or tried here. The encoder worker tries packages and writes verdicts (``protocol/verdicts.py``), the
runtime compares both encoders with the decoder running (``protocol/measured_costs.py``); this module reads what they
wrote, so that the runtime begins with the encoder that proved itself. Without any figures it begins with MLX.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.config import AutoEncoders, PluginChoice
from dotsctl.protocol import measured_costs
from dotsctl.protocol.checkpoint_validation import read_limits
from dotsctl.protocol.machine import Machine, framework_versions, this_machine
from dotsctl.protocol.model_directory import cached_fingerprint, derived_directory
from dotsctl.protocol.parts import Device
from dotsctl.protocol.verdicts import MANIFEST, NE_UNITS, Verdict, build_digest, refusal, verdicts_of

AUTO = "auto"
SIZE_OPTION = "buckets"
"""The option of the encoder ``coreml`` for the page sizes to load."""


@dataclass(frozen=True)
class AutoPlan:
    """The encoders that ``--encoder auto`` stands for with a model on this machine."""

    encoder: PluginChoice
    """The one that takes pages of any size."""
    alternative: PluginChoice | None = None
    """The second encoder; none: there is only the first one."""
    auto: AutoEncoders | None = None
    """Facts for the runtime before it compares them; none: this machine never has a choice."""

    def __str__(self) -> str:
        others = [self.alternative] if self.alternative else []
        return self.auto.line(self.encoder, *others) if self.auto else str(self.encoder)


@dataclass(frozen=True)
class _Build:
    """Core ML packages that may be used."""

    choice: PluginChoice
    buckets: tuple[int, ...]
    """Page sizes that are not known to fail, in patches."""
    basis: str
    """Digest of the packages, and versions of what loads them."""
    verdict: Verdict | None = None
    """The result of their trial with the present system and versions; none: not tried."""
    refused: str = ""
    made_at: float = 0.0


def choose_encoder(model: Path | None, options: dict[str, str], machine: Machine | None = None) -> AutoPlan:
    """Return the encoders for a model on this machine.

    Args:
        model: its directory; none: there is no model.
        options: what the user wrote behind ``auto``. They are those of the MLX encoder, so with any of them that one is
            taken.
        machine: another one than this, for tests.
    """
    mlx = PluginChoice("mlx", options)
    machine = machine or this_machine()
    if model is None or options or not machine.is_apple_silicon:
        return AutoPlan(mlx)
    fingerprint = cached_fingerprint(model)
    builds = list(_builds(fingerprint, machine)) if fingerprint else []
    if not builds:
        return AutoPlan(
            mlx, auto=AutoEncoders(refused=f"{model.name} has no Core ML packages: dotsctl convert {model}")
        )
    usable = [build for build in builds if not build.refused]
    if not usable:
        reasons = "; ".join(f"{build.choice.options['build']}: {build.refused}" for build in builds)
        return AutoPlan(mlx, auto=AutoEncoders(refused=f"the Core ML packages do not work here ({reasons})"))
    best = min(usable, key=_rank)
    known = measured_costs.recall(fingerprint or "", machine).preferences
    compared = (str(best.choice), str(mlx), best.basis)
    auto = AutoEncoders(
        limits=read_limits(model),
        buckets=best.buckets,
        devices=(Device.GPU, Device.NE),
        preferences=tuple(each for each in known if (each.encoder, each.instead_of, each.basis) == compared),
        basis=best.basis,
        size_option=SIZE_OPTION,
    )
    return AutoPlan(mlx, best.choice, auto)


def _builds(fingerprint: str, machine: Machine) -> Iterator[_Build]:
    """All Core ML packages of a model. Without the Neural Engine MLX does the same work at least as well."""
    verdicts = [verdict for verdict in verdicts_of(fingerprint, machine) if verdict.units in NE_UNITS]
    for manifest in sorted((derived_directory(fingerprint) / "coreml").glob(f"[!.]*/{MANIFEST}")):
        name = manifest.parent.name
        basis = f"{build_digest(manifest.parent)}, {framework_versions()}"
        tried = [verdict for verdict in verdicts if verdict.build == name]
        for verdict in tried:
            bad = {trial.bucket for trial in verdict.trials if not trial.is_good}
            good = tuple(bucket for bucket in verdict.buckets if bucket not in bad)
            yield _Build(_choice(name, verdict.units), good, basis, verdict, refusal(verdict))
        units, buckets = _described(manifest)
        if not tried and units in NE_UNITS:
            yield _Build(_choice(name, units), buckets, basis, made_at=manifest.stat().st_mtime)


def _choice(build: str, units: str) -> PluginChoice:
    return PluginChoice("coreml", {"build": build, "compute_units": units})


def _described(manifest: Path) -> tuple[str, tuple[int, ...]]:
    """Compute units and page sizes of a build; empty: the manifest is damaged, and the packages cannot be used."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return str(content["compute_units"]), tuple(map(int, content["buckets"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", ()


def _rank(build: _Build) -> tuple[float, float]:
    """Sort the build first that read its smallest page fastest; then those that were not tried, the newest first."""
    good = [trial for trial in build.verdict.trials if trial.is_good] if build.verdict else []
    return (good[0].page_s / good[0].bucket, 0.0) if good else (float("inf"), -build.made_at)
