"""Decides whether a build may be used on a machine: tried once, remembered, and checked at each load.

Compute units of the Core ML framework are tried in child processes before the first load (``probing.py``), because a
load may hang and a prediction may end its process. The interpreter can do neither, and is only checked by the golden
page.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.devices import require_neural_engine
from dotsctl.encoder_worker.coreml.golden_page import Golden, draw_page, not_finite
from dotsctl.encoder_worker.coreml.manifest import REFERENCE, Build
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.encoder_worker.plugin import Report
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.machine.identity import Machine, framework_versions, this_machine
from dotsctl.protocol.machine.verdicts import Trial, Verdict, build_digest, complaints, recall, recall_mlx, remember

log = logging.getLogger(__name__)

REMEDY = "use --encoder mlx; 'dotsctl doctor --coreml' retries it and writes a report"


@dataclass(frozen=True)
class Admission:
    """A build whose page sizes are to be admitted."""

    model: Path
    """Directory of the model."""
    folder: Path
    """Folder of the build."""
    build: Build
    units: str
    ne_share: float
    """Share of the operations that is to be on the Neural Engine."""
    report: Report

    def before_load(self, buckets: Sequence[int], probe: Probe | None = None) -> tuple[int, ...]:
        """Try the page sizes that were never tried on this machine, and return those that work, in ascending order.

        Args:
            buckets: those that are to be loaded; tried in this order.
            probe: the way to try; none: the usual one.

        Raises:
            CommandFailedError: no page size works here; with the reason and the remedy.
            MissingError: there is no Neural Engine, or a library is missing.
            OutputError: there is no room for compiled packages.
        """
        if self.units == REFERENCE:
            return tuple(sorted(buckets))
        require_neural_engine(self.units)
        machine = this_machine()
        verdict = self._known(machine)
        untried = [bucket for bucket in buckets if verdict is None or verdict.trial(bucket) is None]
        if verdict is None or (untried and not verdict.reason):
            self.report(
                f"trying build {self.folder.name} on {self.units}, once for this version of macOS; the first load for "
                "the Neural Engine may take minutes for each package and page size"
            )
            probe = probe or Probe(self.folder, self.build, self.units, self.model)
            verdict = probe.verdict(untried, machine, self.report, verdict)
            remember(verdict)
        good = tuple(bucket for bucket in sorted(buckets) if bucket in verdict.good_buckets)
        self._warn(verdict, buckets, machine)
        if not good:
            self._refuse(verdict, buckets)
        return good

    def after_load(self, tower: Any, buckets: Sequence[int]) -> None:
        """Encode the golden page and compare: on a device at every load, by the interpreter at the first one.

        Args:
            tower: what executes the packages.
            buckets: those that it has loaded.

        Raises:
            CommandFailedError: the embeddings are wrong, or cannot be computed.
        """
        if self.build.golden is None:
            self.report(f"build {self.folder.name} has no golden page to check it by; convert the model again for one")
            return
        golden = Golden.read(self.folder)
        if self.units == REFERENCE:
            self._check_reference(tower, golden)
        elif golden.bucket in buckets:
            self._refuse_trial(self._encode(tower, golden))

    def _check_reference(self, tower: Any, golden: Golden) -> None:
        machine = this_machine()
        known = self._known(machine)
        trial = known.trial(golden.bucket) if known else None
        if trial is None:
            self.report(f"checking build {self.folder.name} by its golden page of {golden.bucket} patches, once")
            trial = self._encode(tower, golden)
            digest = build_digest(self.folder)
            if digest is not None:
                name, build = self.folder.name, self.build
                remember(
                    Verdict(
                        build.fingerprint, name, digest, self.units, machine, build.buckets, (trial,),
                        versions=framework_versions(),
                    )
                )  # fmt: skip
        self._refuse_trial(trial)

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

    def _warn(self, verdict: Verdict, buckets: Sequence[int], machine: Machine) -> None:
        """Report page sizes that are left out, and why the others may not be worth using."""
        warnings = complaints(verdict, recall_mlx(self.build.fingerprint, machine), self.ne_share)
        bad = [trial for trial in verdict.trials if trial.bucket in buckets and not trial.is_good]
        warnings += [f"pages of {trial.bucket} patches are not available: {trial.reason}" for trial in bad]
        if verdict.good_buckets:
            for warning in warnings:
                log.warning("build %s on %s: %s", self.folder.name, self.units, warning)
                self.report(f"WARNING: build {self.folder.name} on {self.units}: {warning}. Consider --encoder mlx")

    def _refuse(self, verdict: Verdict, buckets: Sequence[int]) -> None:
        """Raise CommandFailedError, as no page size works."""
        if verdict.reason:
            raise CommandFailedError(
                f"Core ML build {self.folder.name} does not work on {self.units} here: {verdict.reason}", REMEDY
            )
        others = "+".join(map(str, verdict.good_buckets))
        self._refuse_trial(
            next(trial for trial in verdict.trials if trial.bucket in buckets),
            f"coreml:buckets={others} uses the page sizes that work; or " if others else "",
        )

    def _refuse_trial(self, trial: Trial, remedy: str = "") -> None:
        """Raise CommandFailedError for a trial that failed."""
        if trial.is_good:
            return
        name, bucket = self.folder.name, trial.bucket
        what = f"Core ML build {name} does not work on {self.units} here, for pages of {bucket} patches"
        if self.units == REFERENCE:
            raise CommandFailedError(f"{what}: {trial.reason}", "convert the model again, or use --encoder mlx")
        raise CommandFailedError(f"{what}: {trial.reason}", f"{remedy}{REMEDY}")
