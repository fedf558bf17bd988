"""Lets a build be used on a machine, or not: tried once, remembered, checked by its golden page, and judged.

Compute units of the Core ML framework are tried in a child process before the first load (``probing.py``), because a
load may hang and a prediction may kill. The interpreter can do neither, and is only checked by the golden page.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.golden_page import Golden, draw_page
from dotsctl.encoder_worker.coreml.manifest import REFERENCE, Build
from dotsctl.encoder_worker.coreml.probe import not_finite
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.encoder_worker.plugin import Report
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.machine import Machine, this_machine
from dotsctl.protocol.verdicts import Trial, Verdict, build_digest, complaints, recall, recall_mlx, remember

log = logging.getLogger(__name__)

REMEDY = (
    "use --encoder coreml:compute_units=cpu_and_gpu or --encoder mlx; 'dotsctl doctor --coreml' tries it again, as "
    "after an update of macOS"
)


@dataclass(frozen=True)
class Admission:
    """What is to be admitted."""

    folder: Path
    """Of the build."""
    build: Build
    units: str
    ne_share: float
    """Share of the operations that are to be on the Neural Engine."""
    report: Report

    def before_load(self, buckets: Sequence[int], probe: Probe | None = None) -> None:
        """Try the page sizes that were never tried on this machine, and judge all of them.

        Args:
            buckets: those that are to be loaded.
            probe: how to try; none: as usual.

        Raises:
            CommandFailedError: a page size does not work here; with the reason and what to do.
        """
        if self.units == REFERENCE:
            return
        machine = this_machine()
        verdict = self._known(machine)
        untried = [bucket for bucket in buckets if verdict is None or verdict.trial(bucket) is None]
        if verdict is None or untried:
            self.report(
                f"trying build {self.folder.name} on {self.units}, once on this Mac; the first load for the Neural "
                "Engine may take minutes for each package and page size"
            )
            probe = probe or Probe(self.folder, self.build, self.units)
            verdict = probe.verdict(untried, machine, self.report, verdict)
            remember(verdict)
        self._refuse_bad(verdict, buckets)
        for complaint in complaints(verdict, recall_mlx(self.build.fingerprint, machine), self.ne_share):
            log.warning("build %s on %s: %s", self.folder.name, self.units, complaint)
            self.report(f"WARNING: build {self.folder.name} on {self.units}: {complaint}. --encoder mlx may do better")

    def after_load(self, tower: Any, buckets: Sequence[int]) -> None:
        """Encode the golden page and compare: on a device at every load, by the interpreter at the first one.

        Args:
            tower: what executes the packages.
            buckets: those that it has loaded.

        Raises:
            CommandFailedError: the embeddings are wrong.
        """
        if self.build.golden is None:
            self.report(f"build {self.folder.name} has no golden page to check it by; convert the model again for one")
            return
        golden = Golden.read(self.folder)
        if self.units == REFERENCE:
            self._check_reference(tower, golden)
        elif golden.bucket in buckets:
            self._refuse_bad_trial(self._encode(tower, golden))

    def _check_reference(self, tower: Any, golden: Golden) -> None:
        machine = this_machine()
        known = self._known(machine)
        if known and known.trial(golden.bucket):
            self._refuse_bad(known, (golden.bucket,))
            return
        self.report(f"checking build {self.folder.name} by its golden page of {golden.bucket} patches, once")
        trial = self._encode(tower, golden)
        digest = build_digest(self.folder)
        if digest is not None:
            build = self.build
            remember(Verdict(build.fingerprint, self.folder.name, digest, self.units, machine, build.buckets, (trial,)))
        self._refuse_bad_trial(trial)

    def _encode(self, tower: Any, golden: Golden) -> Trial:
        page, started = draw_page(golden.bucket), time.perf_counter()
        chunks = len(self.build.chunks)
        embeddings = tower.encode(
            page.values, page.grid, lambda number, _: self.report(f"golden page: package {number} of {chunks} done")
        )
        page_s = time.perf_counter() - started
        cosine, wrong = golden.check(embeddings, self.build, self.units)
        self.report(f"golden page: smallest cosine {cosine:.6f}")
        return Trial(golden.bucket, not_finite(embeddings) or wrong, 0.0, page_s, page_s, cosine)

    def _known(self, machine: Machine) -> Verdict | None:
        digest = build_digest(self.folder)
        return recall(self.build.fingerprint, digest, self.units, machine) if digest else None

    def _refuse_bad(self, verdict: Verdict, buckets: Sequence[int]) -> None:
        for bucket in buckets:
            trial = verdict.trial(bucket)
            if trial is not None and not trial.is_good:
                good = "+".join(str(trial.bucket) for trial in verdict.trials if trial.is_good)
                self._refuse_bad_trial(trial, f"coreml:buckets={good} leaves that size away; " if good else "")

    def _refuse_bad_trial(self, trial: Trial, remedy: str = "") -> None:
        if trial.is_good:
            return
        name, bucket = self.folder.name, trial.bucket
        what = f"Core ML build {name} does not work on {self.units} here, for pages of {bucket} patches"
        if self.units == REFERENCE:
            raise CommandFailedError(f"{what}: {trial.reason}. Convert the model again, or use --encoder mlx")
        raise CommandFailedError(f"{what}: {trial.reason}. {remedy}{REMEDY}")
