"""The findings about a Core ML build on this machine, stored as JSON in the user's cache folder.

A build that loads may still hang, kill its process, compute wrong numbers or run on the wrong unit, and only a trial
shows which. The encoder worker tries it once, in child processes, and writes the verdict; the client reads it to decide
what ``--encoder auto`` uses. A verdict holds for one manifest, one choice of compute units, one chip, one build of the
system, and one version of Python and coremltools: everything else is tried again.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import platformdirs
from dotsctl.protocol.machine.identity import Machine, framework_versions
from dotsctl.protocol.model.directory import derived_directory
from dotsctl.protocol.model.files import read_cache, read_file, write_cache

FORMAT = 2
NE_SHARE = 0.9
"""Share of a program's operations that are to run on the Neural Engine, unless the user sets another one."""
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
FOLDER = "coreml"
"""The name of the folder of builds among the derived forms of a model, and of verdicts in the cache."""
PATCHES = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Trial:
    """The result of all packages of a build for pages of one size."""

    bucket: int
    """Patches of the page."""
    reason: str = ""
    """The reason why they cannot be used; empty when they can."""
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

    def __post_init__(self) -> None:
        if self.bucket < 1:
            raise ValueError(f"a page of {self.bucket} patches cannot be tried")

    @property
    def is_good(self) -> bool:
        """Return whether it loaded and computed the right numbers."""
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
    """The reason why the build cannot be used here at all: every page size that was tried failed. Empty: there is none.
    A failure is the fault of one page size only where another one works."""
    date: str = ""
    versions: str = ""
    """Those of Python and coremltools, see :func:`dotsctl.protocol.machine.identity.framework_versions`."""
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
        """Return whether all page sizes were tried and work."""
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
        return hashlib.sha256(read_file(folder / MANIFEST)).hexdigest()
    except (OSError, ValueError):  # the latter of a name with a null character, out of a damaged verdict
        return None


def slowness(trials: Iterable[Trial]) -> dict[int, float]:
    """Return by page size how many times longer an operation takes than in the fastest page size, 1.0 at least.

    A program that left the Neural Engine shows here without any other measurement: all page sizes do the same work.
    """
    timed = [trial for trial in trials if trial.is_good and trial.flops > 0 and trial.page_s > 0]
    best = max(sys.float_info.min, min((trial.page_s / trial.flops for trial in timed), default=0.0))
    return {trial.bucket: max(1.0, (trial.page_s - FIXED_S) / trial.flops / best) for trial in timed}


def complaints(verdict: Verdict, mlx_s: Mapping[int, float], ne_share: float = NE_SHARE) -> list[str]:
    """Return why a build that works may not be worth using; empty: nothing is known against it.

    Args:
        verdict: that of a build that works.
        mlx_s: seconds of a page by its patches with the MLX encoder on this machine, as far as measured.
        ne_share: required share of the operations.
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
    return Path(platformdirs.user_cache_path("dotsctl")) / FOLDER


def remember(verdict: Verdict) -> None:
    """Write a verdict; a cache that cannot be written only makes the next start try the build again."""
    write_cache(_verdict_file(verdict.fingerprint, verdict.digest, verdict.units, verdict.machine), verdict)


def recall(fingerprint: str, digest: str, units: str, machine: Machine) -> Verdict | None:
    """Return what is known; none: nothing that holds for this machine and these versions of Python and coremltools."""
    verdict = read_verdict(_verdict_file(fingerprint, digest, units, machine))
    same = verdict and (verdict.digest, verdict.units, verdict.machine) == (digest, units, machine)
    return verdict if verdict and same and verdict.versions == framework_versions() else None


def forget(verdict: Verdict) -> None:
    """Make the next start try the build again."""
    _verdict_file(verdict.fingerprint, verdict.digest, verdict.units, verdict.machine).unlink(missing_ok=True)


def verdicts_of(fingerprint: str, machine: Machine) -> list[Verdict]:
    """Return all that hold for builds of this model as they are now, on this machine and with these versions."""
    found = [read_verdict(path) for path in sorted((verdicts_directory() / fingerprint).glob("verdict-*.json"))]
    builds, here = derived_directory(fingerprint) / FOLDER, (machine, framework_versions())
    return [
        verdict
        for verdict in found
        if verdict
        and (verdict.machine, verdict.versions) == here
        and build_digest(builds / verdict.build) == verdict.digest
    ]


def remember_mlx(fingerprint: str, machine: Machine, page_s: Mapping[int, float]) -> None:
    """Keep seconds of a page by its patches with the MLX encoder, in addition to the known ones."""
    known = recall_mlx(fingerprint, machine) | dict(page_s)
    write_cache(_mlx_file(fingerprint, machine), {str(bucket): seconds for bucket, seconds in sorted(known.items())})


def recall_mlx(fingerprint: str, machine: Machine) -> dict[int, float]:
    """Seconds of a page by its patches; empty: never measured here."""
    return read_mlx(_mlx_file(fingerprint, machine))


def read_mlx(path: Path) -> dict[int, float]:
    """Stored seconds of a page by its patches; empty: no such file, or it is damaged."""
    stored = read_cache(dict[str, float], path) or {}
    return {int(bucket): seconds for bucket, seconds in stored.items() if PATCHES.fullmatch(bucket)}


def _verdict_file(fingerprint: str, digest: str, units: str, machine: Machine) -> Path:
    return verdicts_directory() / fingerprint / f"verdict-{_key(digest, units, *asdict(machine).values())}.json"


def _mlx_file(fingerprint: str, machine: Machine) -> Path:
    return verdicts_directory() / fingerprint / f"mlx-{_key(*asdict(machine).values())}.json"


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def read_verdict(path: Path) -> Verdict | None:
    """A stored verdict; none: no such file, or it is damaged or of another version, and the build is tried again."""
    verdict = read_cache(Verdict, path)
    return verdict if verdict and verdict.format == FORMAT and verdict.buckets else None
