"""What was found out about a Core ML build on this machine, remembered as JSON in the user's cache folder.

A build that loads may still hang, kill its process, compute wrong numbers or run on the wrong unit, and only a trial
shows which. The encoder worker tries it once, in child processes, and writes the verdict; the client reads it to decide
what ``--encoder auto`` uses. A verdict holds for one manifest, one choice of compute units, one chip, one build of the
system, and one version of Python and coremltools: everything else is tried again.
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
from dotsctl.protocol.machine import Machine, framework_versions
from dotsctl.protocol.model_directory import derived_directory

FORMAT = 2
NE_SHARE = 0.9
"""Share of a program's operations that are to run on the Neural Engine, unless the user asks for another one."""
NE_UNITS = ("cpu_and_ne", "all")
"""Compute units that include the Neural Engine."""
SLOW = 3.0
"""Times the seconds a floating-point operation of the fastest page size; more is worth a complaint."""
BROKEN = 30.0
"""Times the same: so much slower is a program that left the Neural Engine. One that fell back to the CPU was 38 times
slower (Pummelchen/NVMAI issue 7)."""
FIXED_S = 0.1
"""Seconds of a page that do not depend on its size, at most; they would make small pages look slow."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Trial:
    """The result of all packages of a build for pages of one size."""

    bucket: int
    """Patches of the page."""
    reason: str = ""
    """Why they cannot be used; empty when they can."""
    load_s: float = 0.0
    """Time to load all of them."""
    first_s: float = 0.0
    """Time of the first page."""
    page_s: float = 0.0
    """Time of a later page."""
    golden_cosine: float | None = None
    """Smallest cosine to the embeddings in the build, over tokens; none: those are of another page size."""
    cpu_cosine: float | None = None
    """Smallest cosine to the same packages on ``cpu_only``; none: not compared."""
    mlx_cosine: float | None = None
    """Smallest cosine to the MLX encoder; none: not compared."""
    flops: float = 0.0
    """Floating-point operations of a page."""
    ne_share: float | None = None
    """Share of the operations that Core ML plans for the Neural Engine; none: unknown."""
    ne_cost_share: float | None = None
    """The same, each operation counted with its estimated cost."""
    note: str = ""
    """A problem on the way of a trial that passed in the end."""

    @property
    def is_good(self) -> bool:
        """Whether it loaded and computed the right numbers."""
        return not self.reason


@dataclass(frozen=True)
class Verdict:
    """Everything that is known about one build on one choice of compute units of one machine."""

    fingerprint: str
    """Fingerprint of the model."""
    build: str
    """Name of the build."""
    digest: str
    """Digest of the build, see :func:`build_digest`."""
    units: str
    machine: Machine
    buckets: tuple[int, ...]
    """All page sizes of the build."""
    trials: tuple[Trial, ...] = ()
    """One for each page size that was tried, in ascending order."""
    reason: str = ""
    """Why the build cannot be used here at all: every page size that was tried failed. Empty: there is no such reason.
    A failure is the fault of one page size only where another one works."""
    date: str = ""
    versions: str = ""
    """Those of Python and coremltools, see :func:`dotsctl.protocol.machine.framework_versions`."""
    format: int = FORMAT

    @property
    def untried(self) -> tuple[int, ...]:
        """Page sizes of which nothing is known."""
        return tuple(bucket for bucket in self.buckets if self.trial(bucket) is None)

    @property
    def good_buckets(self) -> tuple[int, ...]:
        """Page sizes that work."""
        return () if self.reason else tuple(trial.bucket for trial in self.trials if trial.is_good)

    @property
    def is_good(self) -> bool:
        """Whether all page sizes were tried and work."""
        return not self.reason and not self.untried and all(trial.is_good for trial in self.trials)

    @property
    def ne_share(self) -> float | None:
        """Smallest share of the operations on the Neural Engine of all page sizes that work; none: unknown for one."""
        shares = [trial.ne_share for trial in self.trials if trial.is_good]
        known = [share for share in shares if share is not None]
        return min(known) if known and len(known) == len(shares) else None

    def trial(self, bucket: int) -> Trial | None:
        """Return the trial of one page size; none: not tried."""
        return next((trial for trial in self.trials if trial.bucket == bucket), None)

    def with_trials(self, trials: Iterable[Trial]) -> "Verdict":
        """Return the verdict with these in place of what was known of the same page sizes."""
        merged = {trial.bucket: trial for trial in (*self.trials, *trials)}
        return replace(self, trials=tuple(merged[bucket] for bucket in sorted(merged)))


def build_digest(folder: Path) -> str | None:
    """sha256 of the manifest, which names the digest of every file of the build; none: there is no build."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


def slowness(trials: Iterable[Trial]) -> dict[int, float]:
    """Return by page size how many times longer an operation takes than in the fastest page size, 1.0 at least.

    A program that left the Neural Engine shows here without any other measurement: all page sizes do the same work.
    """
    timed = [trial for trial in trials if trial.is_good and trial.flops > 0 and trial.page_s > 0]
    best = min((trial.page_s / trial.flops for trial in timed), default=0.0)
    return {trial.bucket: max(1.0, (trial.page_s - FIXED_S) / trial.flops / best) for trial in timed}


def complaints(verdict: Verdict, mlx_s: Mapping[int, float], ne_share: float = NE_SHARE) -> list[str]:
    """Return why a build that works may not be worth using; empty: nothing is known against it.

    Args:
        verdict: that of a build that works.
        mlx_s: seconds of a page by its patches with the MLX encoder on this machine, as far as measured.
        ne_share: share of the operations that is asked for.
    """
    found = []
    if verdict.units in NE_UNITS:
        if verdict.ne_share is None:
            found.append("Core ML does not report how many of its operations are on the Neural Engine")
        elif verdict.ne_share < ne_share:
            found.append(f"only {verdict.ne_share:.0%} of its operations are on the Neural Engine, not {ne_share:.0%}")
    found += [
        f"pages of {bucket} patches take {ratio:.0f} times longer for their work than others"
        for bucket, ratio in slowness(verdict.trials).items()
        if ratio > SLOW
    ]
    found += [f"pages of {trial.bucket} patches: {trial.note}" for trial in verdict.trials if trial.note]
    measured = [trial for trial in verdict.trials if trial.is_good and trial.bucket in mlx_s]
    slower = [trial for trial in measured if trial.page_s > mlx_s[trial.bucket]]
    if slower:
        worst = max(slower, key=lambda trial: trial.page_s / mlx_s[trial.bucket])
        found.append(
            f"it is slower than MLX: {worst.page_s:.2f} s instead of {mlx_s[worst.bucket]:.2f} s for a page of "
            f"{worst.bucket} patches"
        )
    return found


def refusal(verdict: Verdict) -> str:
    """Return why ``--encoder auto`` cannot use a build; empty: a page size works, or was not tried.

    Its speed does not count here. Seconds of a page alone do not decide: a GPU that encodes has less left for the
    decoder, so the runtime measures both encoders with the decoder running (``measured_costs.py``).
    """
    bad = [trial for trial in verdict.trials if not trial.is_good]
    if verdict.reason or verdict.good_buckets or verdict.untried:
        return verdict.reason
    return f"pages of {bad[0].bucket} patches: {bad[0].reason}"


def verdicts_directory() -> Path:
    """Folder of all verdicts; it need not exist."""
    return Path(platformdirs.user_cache_path("dotsctl")) / "coreml"


def remember(verdict: Verdict) -> None:
    """Write a verdict; a cache that cannot be written only makes the next start try the build again."""
    _write(_verdict_file(verdict.fingerprint, verdict.digest, verdict.units, verdict.machine), asdict(verdict))


def recall(fingerprint: str, digest: str, units: str, machine: Machine) -> Verdict | None:
    """Return what is known; none: nothing that holds for this machine and these versions of Python and coremltools."""
    verdict = _read(_verdict_file(fingerprint, digest, units, machine))
    same = verdict and (verdict.digest, verdict.units, verdict.machine) == (digest, units, machine)
    return verdict if verdict and same and verdict.versions == framework_versions() else None


def forget(verdict: Verdict) -> None:
    """Make the next start try the build again."""
    _verdict_file(verdict.fingerprint, verdict.digest, verdict.units, verdict.machine).unlink(missing_ok=True)


def verdicts_of(fingerprint: str, machine: Machine) -> list[Verdict]:
    """Return all that hold for builds of this model as they are now, on this machine and with these versions."""
    found = [_read(path) for path in sorted((verdicts_directory() / fingerprint).glob("verdict-*.json"))]
    builds, here = derived_directory(fingerprint) / "coreml", (machine, framework_versions())
    return [
        verdict
        for verdict in found
        if verdict
        and (verdict.machine, verdict.versions) == here
        and build_digest(builds / verdict.build) == verdict.digest
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
