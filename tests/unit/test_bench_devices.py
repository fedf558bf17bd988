"""Both halves on one GPU and on two devices, simulated with the coordinator and the gathering of the runtime."""

import pytest
from dotsctl.client.runtime.device_sharing import DeviceSharing
from dotsctl.tools.dev.bench.devices import MACHINES, SimulatedMachine, SimulatedPipeline, measure

SMALL = SimulatedMachine("small", encode_s=4.0, prefill_s=0.5, pass_s=0.03, page_s=0.002, tokens=100, batch=8)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_on_one_gpu_halves_that_take_turns_read_more_pages_and_on_two_devices_they_overlap(
    machine: SimulatedMachine,
) -> None:
    outcome = measure(machine, 48)
    assert outcome.is_as_promised and outcome.overlap <= 1.001


def test_a_page_alone_takes_the_same_time_with_turns() -> None:
    alone = [SimulatedPipeline(SMALL, 1, is_shared=True, is_free=is_free).run() for is_free in (True, False)]
    assert alone[0] == pytest.approx(alone[1]) == pytest.approx(4.0 + 0.5 + SMALL.tokens_of(1) * 0.032)


def test_batches_are_full_where_halves_take_turns() -> None:
    pipeline = SimulatedPipeline(SMALL, 40, is_shared=True)
    pipeline.run()
    assert 40 * SMALL.tokens / pipeline.passes > 0.6 * SMALL.batch
    free = SimulatedPipeline(SMALL, 40, is_shared=True, is_free=True)
    free.run()
    assert free.passes > 2 * pipeline.passes


def test_without_the_wait_of_the_decoder_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure(SMALL, 40).gain > 1.2
    monkeypatch.setattr(DeviceSharing, "update", lambda self, now: None)
    assert measure(SMALL, 40).gain == pytest.approx(1.0)
