"""The Core ML packages of a model that ``--encoder auto`` may use here. Reads manifests and verdicts, loads nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dotsctl.encoder_worker.coreml.manifest import MANIFEST, builds_directory
from dotsctl.encoder_worker.coreml.options import SIZE_OPTION
from dotsctl.protocol.machine.identity import Machine, framework_versions
from dotsctl.protocol.machine.verdicts import NE_UNITS, Verdict, build_digest, refusal, verdicts_of
from dotsctl.protocol.model.files import read_file
from dotsctl.protocol.parts import Device
from dotsctl.protocol.typed_values import WrongValueError, from_json
from dotsctl.protocol.worker.plugins import EncoderOffer, EncoderOffers


@dataclass(frozen=True)
class _Manifest:
    """The fields of a build's manifest that matter here."""

    compute_units: str
    buckets: tuple[int, ...]


def offers(model: Path, fingerprint: str, machine: Machine) -> EncoderOffers:
    """Return all packages of a model for the Neural Engine; without it MLX does the same work at least as well.

    Args:
        model: its directory, for the remedy.
        fingerprint: of the model; empty where it was never computed: then nothing was converted either.
        machine: this one.
    """
    if not machine.is_apple_silicon:
        return EncoderOffers()
    return EncoderOffers(
        tuple(_offers(fingerprint, machine)) if fingerprint else (),
        missing=f"{model.name} has no Core ML packages: dotsctl convert {model}",
        failing="the Core ML packages do not work here",
        size_option=SIZE_OPTION,
        device=Device.NE,
    )


def _offers(fingerprint: str, machine: Machine) -> Iterator[EncoderOffer]:
    verdicts = [verdict for verdict in verdicts_of(fingerprint, machine) if verdict.units in NE_UNITS]
    for manifest in sorted(builds_directory(fingerprint).glob(f"[!.]*/{MANIFEST}")):
        name = manifest.parent.name
        basis = f"{build_digest(manifest.parent)}, {framework_versions()}"
        tried = [verdict for verdict in verdicts if verdict.build == name]
        for verdict in tried:
            bad = {trial.bucket for trial in verdict.trials if not trial.is_good}
            good = tuple(bucket for bucket in verdict.buckets if bucket not in bad)
            yield EncoderOffer(name, _options(name, verdict.units), good, basis, _rank(verdict), refusal(verdict))
        units, buckets = described_build(manifest)
        if not tried and units in NE_UNITS:  # those that were not tried come last, the newest of them first
            newest = (float("inf"), -manifest.stat().st_mtime)
            yield EncoderOffer(name, _options(name, units), buckets, basis, newest)


def _options(build: str, units: str) -> dict[str, str]:
    return {"build": build, "compute_units": units}


def _rank(verdict: Verdict) -> tuple[float, float]:
    """Sort the build first that read its smallest page fastest."""
    good = [trial for trial in verdict.trials if trial.is_good]
    return (good[0].page_s / good[0].bucket if good else float("inf"), 0.0)


def described_build(manifest: Path) -> tuple[str, tuple[int, ...]]:
    """Return compute units and page sizes of a build; empty: the manifest is damaged, and the packages are unusable."""
    try:
        found = from_json(_Manifest, read_file(manifest), ignore_unknown=True)
    except (OSError, WrongValueError):
        return "", ()
    return found.compute_units, found.buckets
