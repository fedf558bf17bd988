"""Tries a build on one choice of compute units, each step in a child process, and judges it.

For each page size the drawn page is encoded on the compute units, by the same packages on ``cpu_only``, and by the MLX
encoder, and the embeddings are compared: wrong numbers of a Neural Engine depend on the length of a page. A child that
hangs, dies or errs is a result too, with its reason. A failure counts as the fault of one page size only where another
one works; until then it is one of the complete build.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.golden import judge
from dotsctl.encoder_worker.coreml.golden_page import QUANTISED_COSINES, Golden, not_finite
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.encoder_worker.coreml.probe_process import STEP_LIMIT_S, Findings, Report, run_probe
from dotsctl.encoder_worker.coreml.tower_work import page_flops
from dotsctl.encoder_worker.plugins import MLX
from dotsctl.protocol.errors import DotsctlError, MissingError
from dotsctl.protocol.machine.identity import Machine, framework_versions
from dotsctl.protocol.machine.verdicts import BROKEN, NE_UNITS, Trial, Verdict, build_digest, remember_mlx, slowness
from numpy.typing import NDArray

CPU_ONLY = "cpu_only"
ENOUGH_FAILURES = 2
"""Page sizes that fail before any works; then the fault is not one of page sizes, and no more are tried."""
Embeddings = NDArray[np.floating]


@dataclass
class Probe:
    """The build to try, and where the embeddings are kept meanwhile."""

    folder: Path
    """Folder of the build."""
    build: Build
    units: str
    model: Path
    """Directory of the model, for the MLX encoder."""
    step_limit_s: float = STEP_LIMIT_S
    compiled: Path | None = None
    """Folder of the compiled packages, where it is not the usual one."""
    command: Sequence[str] = ()
    """The command of a child, before its arguments; none: the probe of this package."""
    references: Path | None = None
    """Folder where embeddings of ``cpu_only`` and MLX are kept for other compute units; none: they are not kept."""
    plans: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The operations with their devices and the counts, by page size, as the trial found them."""

    def verdict(self, buckets: Sequence[int], machine: Machine, report: Report, before: Verdict | None) -> Verdict:
        """Try page sizes in this order and judge, keeping what is known of others.

        Args:
            buckets: numbers of patches.
            machine: this one.
            report: called with each step.
            before: what is known; none: nothing.

        Raises:
            MissingError: a library or a file of the build is missing.
            OutputError: there is no room for compiled packages.
        """
        known = before or self._nothing_known(machine)
        failed: list[Trial] = []
        with self._kept_references():
            for position, bucket in enumerate(buckets):
                trial, hangs = self._try(bucket, machine, report)
                known = known.with_trials([trial]) if trial.is_good else known
                failed += [] if trial.is_good else [trial]
                if hangs and known.good_buckets:
                    # That takes long, and larger pages would hang too.
                    text = f"not tried, because pages of {bucket} patches hung"
                    failed += [Trial(other, text) for other in buckets[position + 1 :]]
                if hangs or (len(failed) >= ENOUGH_FAILURES and not known.good_buckets):
                    break
        if known.good_buckets:
            known = _without_broken(known.with_trials(failed))
        elif failed:
            known = replace(known, reason=failed[0].reason)
        return replace(known, date=datetime.now(UTC).isoformat(timespec="seconds"))

    def load(self, bucket: int, report: Report) -> float | None:
        """Return the seconds that a load for one page size takes in a new process; none: it failed."""
        with tempfile.TemporaryDirectory() as folder:
            findings = self._run("encode", self.units, bucket, report, Path(folder) / "embeddings.npy")
        return findings.content.get("load_s")

    def _try(self, bucket: int, machine: Machine, report: Report) -> tuple[Trial, bool]:
        """The trial of one page size, and whether it hung."""
        output, flops = self._file(self.units, bucket), page_flops(self.build, bucket)
        findings = self._run("encode", self.units, bucket, report, output)
        first = findings.reason
        if first and not findings.hangs and not findings.compiler:
            report(f"trying pages of {bucket} patches again: {first}")  # it may have been a lack of memory
            findings = self._run("encode", self.units, bucket, report, output)
        reason = findings.reason or (f"compilation failed: {findings.compiler[0]}" if findings.compiler else "")
        if reason:
            return Trial(bucket, reason, flops=flops), findings.hangs
        note = f"the first attempt failed: {first}" if first else ""
        trial = Trial(bucket, "", **findings.content, flops=flops, note=note)
        trial = self._compared(trial, np.load(output), machine, report)
        return (self._planned(trial, report) if trial.is_good else trial), False

    def _compared(self, trial: Trial, ours: Embeddings, machine: Machine, report: Report) -> Trial:
        """The trial with its numbers judged by the golden page, ``cpu_only`` and MLX."""
        if text := not_finite(ours):
            return replace(trial, reason=text)
        golden = Golden.read(self.folder) if self.build.golden else None
        if golden is not None and golden.bucket == trial.bucket:
            cosine, wrong = golden.check(ours, self.build, self.units)
            trial = replace(trial, golden_cosine=cosine, reason=wrong)
        missing = []
        for name in (CPU_ONLY, MLX) if self.units != CPU_ONLY else (MLX,):
            theirs, text = self._reference(name, trial.bucket, machine, report)
            if theirs is None:
                missing.append(f"{name}: {text}")
                continue
            cosine, wrong = self._compare(ours, theirs, name)
            trial = replace(trial, reason=trial.reason or wrong)
            trial = replace(trial, cpu_cosine=cosine) if name == CPU_ONLY else replace(trial, mlx_cosine=cosine)
        if (trial.golden_cosine, trial.cpu_cosine, trial.mlx_cosine) == (None, None, None) and not trial.reason:
            trial = replace(trial, reason=f"its numbers could not be checked ({'; '.join(missing)})")
        return trial

    def _compare(self, ours: Embeddings, theirs: Embeddings, name: str) -> tuple[float, str]:
        """Smallest cosine, and what is wrong; weights in fewer bits differ from MLX, but not from ``cpu_only``."""
        cosines, is_near = judge(ours, theirs)
        worst, limit = float(cosines.min()), QUANTISED_COSINES.get(self.build.weights)
        if name == MLX and limit is not None:
            is_near = worst >= limit
        text = (
            f"wrong numbers: cosines to {name} are {cosines.mean():.5f} on average and {worst:.4f} at the worst token"
        )
        return worst, "" if is_near else text

    def _reference(self, name: str, bucket: int, machine: Machine, report: Report) -> tuple[Embeddings | None, str]:
        """The embeddings of the drawn page by ``cpu_only`` or MLX, or why there are none."""
        path = self._file(name, bucket)
        if not path.exists():
            try:
                findings = self._run("encode", name, bucket, report, path)
            except DotsctlError as error:  # MLX may not be installed
                return None, str(error)
            if findings.reason:
                report(f"no comparison with {name} for pages of {bucket} patches: {findings.reason}")
                return None, findings.reason
            if name == MLX:
                remember_mlx(self.build.fingerprint, machine, {bucket: findings.content["page_s"]})
        return np.load(path), ""

    def _planned(self, trial: Trial, report: Report) -> Trial:
        """The trial with the share of its operations that are planned on the Neural Engine."""
        if self.units not in NE_UNITS:
            return trial
        with tempfile.TemporaryDirectory(prefix=".plan-", dir=self.folder) as compiled:  # on the disk of the build
            findings = replace(self, compiled=Path(compiled))._run("plan", self.units, trial.bucket, report)
        if findings.reason:
            report(f"no plan for pages of {trial.bucket} patches: {findings.reason}")
            return trial
        self.plans[trial.bucket] = findings.content
        if findings.compiler:
            trial = replace(trial, note=f"a compilation for the plan failed: {findings.compiler[0]}")
        shares = {name: findings.content[name] for name in ("ne_share", "ne_cost_share")}
        return replace(trial, **shares)

    def _run(self, task: str, units: str, bucket: int, report: Report, output: Path | None = None) -> Findings:
        arguments = [task, str(self.folder), units, str(bucket), "--model", str(self.model)]
        arguments += ["--compiled", str(self.compiled)] if self.compiled else []
        arguments += ["--output", str(output)] if output else []
        return run_probe(arguments, report, self.step_limit_s, self.command)

    def _file(self, name: str, bucket: int) -> Path:
        if self.references is None:
            raise ValueError("embeddings are kept only during a trial")
        return self.references / f"{name}-{bucket}.npy"

    @contextlib.contextmanager
    def _kept_references(self) -> Iterator[None]:
        """A folder for embeddings, removed afterwards unless it was given."""
        if self.references is not None:
            self.references.mkdir(parents=True, exist_ok=True)
            yield
            return
        with tempfile.TemporaryDirectory(prefix="dotsctl-trial-") as folder:
            self.references = Path(folder)
            try:
                yield
            finally:
                self.references = None

    def _nothing_known(self, machine: Machine) -> Verdict:
        digest = build_digest(self.folder)
        if digest is None:
            raise MissingError(f"{self.folder} has no manifest", "convert the model again")
        build = self.build
        return Verdict(
            build.fingerprint, self.folder.name, digest, self.units, machine, build.buckets,
            versions=framework_versions(),
        )  # fmt: skip


def _without_broken(verdict: Verdict) -> Verdict:
    """The verdict with page sizes refused that are so slow that they cannot run on the compute units."""
    slow = {bucket: ratio for bucket, ratio in slowness(verdict.trials).items() if ratio > BROKEN}
    refused = []
    for trial in (trial for trial in verdict.trials if trial.bucket in slow):
        ratio = f"{slow[trial.bucket]:.0f} times longer for its work than other page sizes"
        text = f"a page takes {trial.page_s:.2f} s, {ratio}: it does not run on {verdict.units} as they do"
        refused.append(replace(trial, reason=text))
    return verdict.with_trials(refused)
