"""What was found out about a Core ML build on this machine, remembered as JSON in the user's cache folder.

A build that loads may still hang, kill its process or run on the wrong unit, and only trying it shows which. The
encoder worker tries it once, in a process of its own, and writes the verdict; the client reads it to know what
``--encoder auto`` stands for. A verdict holds for one manifest, one choice of compute units, one chip and one build of
the system: whatever else comes is tried anew.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs
from dotsctl.protocol.machine import Machine
from dotsctl.protocol.model_directory import derived_directory

FORMAT = 1
NE_SHARE = 0.9
"""Share of a program's operations that are to run on the Neural Engine, unless the user asks for another one."""
NE_UNITS = ("cpu_and_ne", "all")
"""Compute units that include the Neural Engine."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Trial:
    """How all packages of a build did for pages of one size."""

    bucket: int
    """Patches of the page."""
    reason: str = ""
    """Why they cannot be used; empty when they can."""
    load_s: float = 0.0
    """To load them, all together."""
    first_s: float = 0.0
    """Of the first page."""
    page_s: float = 0.0
    """Of a later page."""
    golden_cosine: float | None = None
    """Smallest cosine to the embeddings in the build, over tokens; none: they are for another page size."""

    @property
    def is_good(self) -> bool:
        """Whether it loaded, computed finite numbers and the right ones."""
        return not self.reason


@dataclass(frozen=True)
class Verdict:
    """Everything that is known about one build on one choice of compute units of one machine."""

    fingerprint: str
    """Of the model."""
    build: str
    """Name of the build."""
    digest: str
    """Of the build, see :func:`build_digest`."""
    units: str
    machine: Machine
    buckets: tuple[int, ...]
    """All page sizes of the build."""
    trials: tuple[Trial, ...] = ()
    """One for each page size that was tried, in ascending order."""
    ne_share: float | None = None
    """Share of the operations that Core ML plans for the Neural Engine; none: it did not tell."""
    ne_cost_share: float | None = None
    """The same, each operation counted with its estimated cost."""
    date: str = ""
    format: int = FORMAT

    @property
    def untried(self) -> tuple[int, ...]:
        """Page sizes of which nothing is known."""
        return tuple(bucket for bucket in self.buckets if self.trial(bucket) is None)

    @property
    def is_good(self) -> bool:
        """Whether all page sizes were tried and work."""
        return not self.untried and all(trial.is_good for trial in self.trials)

    def trial(self, bucket: int) -> Trial | None:
        """Of one page size; none: not tried."""
        return next((trial for trial in self.trials if trial.bucket == bucket), None)

    def with_trials(self, trials: Iterable[Trial]) -> "Verdict":
        """With these in place of what was known of the same page sizes."""
        merged = {trial.bucket: trial for trial in (*self.trials, *trials)}
        return replace(self, trials=tuple(merged[bucket] for bucket in sorted(merged)))


def build_digest(folder: Path) -> str | None:
    """sha256 of the manifest, which names the digest of every file of the build; none: there is no build."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


def complaints(verdict: Verdict, mlx_s: Mapping[int, float], ne_share: float = NE_SHARE) -> list[str]:
    """Why a build that works is still not worth using, in words; empty: it is.

    Args:
        verdict: of a build that works.
        mlx_s: seconds of a page by its patches with the MLX encoder on this machine, where that was measured.
        ne_share: share of the operations that is asked for.
    """
    found = []
    share = verdict.ne_share
    if verdict.units in NE_UNITS and share is not None and share < ne_share:
        found.append(f"only {share:.0%} of its operations are on the Neural Engine, asked are {ne_share:.0%}")
    measured = [trial for trial in verdict.trials if trial.is_good and trial.bucket in mlx_s]
    slower = [trial for trial in measured if trial.page_s > mlx_s[trial.bucket]]
    if slower:
        worst = max(slower, key=lambda trial: trial.page_s / mlx_s[trial.bucket])
        found.append(
            f"it is slower than MLX: {worst.page_s:.2f} s instead of {mlx_s[worst.bucket]:.2f} s for a page of "
            f"{worst.bucket} patches"
        )
    return found


def verdicts_directory() -> Path:
    """Folder of all verdicts; it need not exist."""
    return Path(platformdirs.user_cache_path("dotsctl")) / "coreml"


def remember(verdict: Verdict) -> None:
    """Write a verdict; a cache that cannot be written only makes the next start try the build again."""
    _write(_verdict_file(verdict.fingerprint, verdict.digest, verdict.units, verdict.machine), asdict(verdict))


def recall(fingerprint: str, digest: str, units: str, machine: Machine) -> Verdict | None:
    """What is known; none: nothing."""
    verdict = _read(_verdict_file(fingerprint, digest, units, machine))
    same = verdict and (verdict.digest, verdict.units, verdict.machine) == (digest, units, machine)
    return verdict if same else None


def forget(verdict: Verdict) -> None:
    """Make the next start try the build again."""
    _verdict_file(verdict.fingerprint, verdict.digest, verdict.units, verdict.machine).unlink(missing_ok=True)


def verdicts_of(fingerprint: str, machine: Machine) -> list[Verdict]:
    """All that hold for builds of this model as they are there now, on this machine."""
    found = [_read(path) for path in sorted((verdicts_directory() / fingerprint).glob("verdict-*.json"))]
    builds = derived_directory(fingerprint) / "coreml"
    return [
        verdict
        for verdict in found
        if verdict and verdict.machine == machine and build_digest(builds / verdict.build) == verdict.digest
    ]


def remember_mlx(fingerprint: str, machine: Machine, page_s: Mapping[int, float]) -> None:
    """Keep seconds of a page by its patches with the MLX encoder, beside those that are known."""
    known = recall_mlx(fingerprint, machine) | dict(page_s)
    _write(_mlx_file(fingerprint, machine), {str(bucket): seconds for bucket, seconds in sorted(known.items())})


def recall_mlx(fingerprint: str, machine: Machine) -> dict[int, float]:
    """Seconds of a page by its patches; empty: never measured here."""
    try:
        content = json.loads(_mlx_file(fingerprint, machine).read_text(encoding="utf-8"))
        return {int(bucket): float(seconds) for bucket, seconds in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _verdict_file(fingerprint: str, digest: str, units: str, machine: Machine) -> Path:
    return verdicts_directory() / fingerprint / f"verdict-{_key(digest, units, *asdict(machine).values())}.json"


def _mlx_file(fingerprint: str, machine: Machine) -> Path:
    return verdicts_directory() / fingerprint / f"mlx-{_key(*asdict(machine).values())}.json"


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # as its folder may not be a folder
            partial.unlink(missing_ok=True)


def _read(path: Path) -> Verdict | None:
    """A verdict; none when there is no such file, or one of another version: then the build is tried again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return None
        trials = tuple(Trial(**trial) for trial in content.pop("trials"))
        machine, buckets = Machine(**content["machine"]), tuple(content["buckets"])
        return Verdict(**{**content, "machine": machine, "buckets": buckets, "trials": trials})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
