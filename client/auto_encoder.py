"""What ``--encoder auto`` stands for: the Core ML packages that proved themselves on this Mac, else MLX.

Nothing is loaded or tried here. The encoder worker and ``dotsctl doctor --coreml`` try packages and write verdicts
(``protocol/verdicts.py``); this module reads them.
"""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.config import PluginChoice
from dotsctl.protocol.machine import Machine, this_machine
from dotsctl.protocol.model_directory import cached_fingerprint, derived_directory
from dotsctl.protocol.verdicts import MANIFEST, NE_UNITS, Verdict, complaints, recall_mlx, verdicts_of

AUTO = "auto"
TRY = "'dotsctl doctor --coreml' tries them"


@dataclass(frozen=True)
class AutoChoice:
    """An encoder and why it was taken."""

    encoder: PluginChoice
    reason: str = ""
    """In words; empty where there was nothing to choose from."""

    def __str__(self) -> str:
        return f"encoder {self.encoder}: {self.reason}"


def choose_encoder(model: Path | None, options: dict[str, str], machine: Machine | None = None) -> AutoChoice:
    """The encoder for a model on this machine.

    Args:
        model: its directory; none: there is no model.
        options: what the user wrote behind ``auto``. They are those of the MLX encoder, so with any of them that one is
            taken.
        machine: another one than this, for tests.
    """
    mlx = PluginChoice("mlx", options)
    machine = machine or this_machine()
    if model is None or options or not machine.is_apple_silicon:
        return AutoChoice(mlx)
    fingerprint = cached_fingerprint(model)
    if fingerprint is None or not _has_builds(fingerprint):
        return AutoChoice(mlx, f"there are no Core ML packages of {model.name} ('dotsctl convert' makes them)")
    # Without the Neural Engine MLX does the same work at least as well.
    verdicts = [verdict for verdict in verdicts_of(fingerprint, machine) if verdict.units in NE_UNITS]
    if not verdicts:
        return AutoChoice(mlx, f"the Core ML packages of {model.name} were not yet tried on this Mac; {TRY}")
    known_s = recall_mlx(fingerprint, machine)
    refused = {verdict: _refusal(verdict, known_s) for verdict in verdicts}
    good = [verdict for verdict, reason in refused.items() if not reason]
    if good:
        best = min(good, key=_seconds_per_patch)
        chosen = PluginChoice("coreml", {"build": best.build, "compute_units": best.units})
        return AutoChoice(chosen, f"its packages passed their trial on this Mac, {best.machine}")
    told = "; ".join(f"{verdict.build} on {verdict.units}: {reason}" for verdict, reason in refused.items())
    return AutoChoice(mlx, f"the Core ML packages did not pass their trial on this Mac ({told}); {TRY} again")


def _has_builds(fingerprint: str) -> bool:
    return any((derived_directory(fingerprint) / "coreml").glob(f"[!.]*/{MANIFEST}"))


def _refusal(verdict: Verdict, mlx_s: dict[int, float]) -> str:
    """Why a build is not taken; empty: it can be."""
    bad = next((trial for trial in verdict.trials if not trial.is_good), None)
    if bad is not None:
        return f"pages of {bad.bucket} patches: {bad.reason}"
    if verdict.untried:
        return f"pages of {', '.join(map(str, verdict.untried))} patches were not tried"
    return ", ".join(complaints(verdict, mlx_s))


def _seconds_per_patch(verdict: Verdict) -> float:
    """Of the smallest page, which every trial has."""
    trial = verdict.trials[0]
    return trial.page_s / trial.bucket
