"""Shares of operations by device."""

import pytest
from dotsctl.encoder_worker.coreml import residency
from dotsctl.encoder_worker.coreml.residency import PlannedOperation


def test_a_plan_without_devices_or_costs_has_no_share() -> None:
    silent = residency.residency([PlannedOperation(1, "f", "x", "conv", "unknown", None)])
    assert (silent.ne_share, silent.ne_cost_share, silent.counts) == (None, None, {"unknown": 1})
    both = [PlannedOperation(1, "f", "x", "conv", device, cost) for device, cost in (("ne", 0.9), ("gpu", 0.1))]
    assert residency.residency(both).ne_share == 0.5
    assert residency.residency(both).ne_cost_share == pytest.approx(0.9)
