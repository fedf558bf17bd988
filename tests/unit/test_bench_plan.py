"""The pipeline that ``dotsctl bench plan`` plays."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.client.cli.main import cli
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.parts import Quality
from dotsctl.tools.bench.plan import Costs, DecoderCosts, EncoderCosts, Setting, patches_of, play
from dotsctl.tools.bench.plan_report import best_first, read_costs
from hypothesis import given
from hypothesis import strategies as st

A4 = (1654, 2339)
DECODER = DecoderCosts("gpu", 0.0, {"1": 10.0, "16": 25.0}, 0.0)


def costs(device: str = "ne", encode_s: float = 1.0, accepted: float = 0.0, tokens: int = 100) -> Costs:
    patches = str(patches_of(A4, Quality.FULL))
    return Costs("test", {"tower": EncoderCosts(device, {patches: encode_s})}, DECODER, tokens, accepted)


def setting(batch: int = 1, depth: int = 0) -> Setting:
    return Setting("tower", Quality.FULL, batch, depth)


def test_two_devices_take_the_longer_half_for_each_page_and_the_other_once() -> None:
    outcome = play(costs(encode_s=2.0), setting(), A4, 10)  # 100 tokens take 1 s
    assert outcome.page_s * 10 == pytest.approx(10 * 2.0 + 1.0)
    outcome = play(costs(encode_s=0.5), setting(), A4, 10)
    assert outcome.page_s * 10 == pytest.approx(0.5 + 10 * 1.0)


def test_one_device_takes_the_sum_of_both_halves() -> None:
    assert play(costs("gpu", 2.0), setting(), A4, 10).page_s == pytest.approx(3.0)


def test_a_batch_shares_its_passes() -> None:
    alone, together = (play(costs("gpu", 0.001), setting(batch), A4, 16).page_s for batch in (1, 16))
    assert together == pytest.approx(0.025 * 100 / 16 + 0.001)
    assert alone == pytest.approx(1.001)


def test_drafts_that_are_never_right_cost_time_and_right_ones_save_it() -> None:
    plain = play(costs("gpu", 0.001), setting(), A4, 4).page_s
    assert play(costs("gpu", 0.001, accepted=0.01), setting(depth=3), A4, 4).page_s > plain
    assert play(costs("gpu", 0.001, accepted=0.9), setting(depth=3), A4, 4).page_s < 0.5 * plain


@given(
    encode_s=st.floats(0.01, 20),
    batch=st.sampled_from([1, 2, 4, 8, 16]),
    depth=st.sampled_from([0, 1, 3, 7]),
    accepted=st.floats(0, 0.95),
    pages=st.integers(1, 40),
    tokens=st.integers(1, 500),
)
def test_every_page_is_read_and_no_worker_is_busier_than_time_allows(
    encode_s: float, batch: int, depth: int, accepted: float, pages: int, tokens: int
) -> None:
    for device in ("gpu", "ne"):
        known = costs(device, encode_s, accepted, tokens)
        outcome = play(known, setting(batch, depth), A4, pages)
        encoder, decoder = outcome.busy
        total_s = outcome.page_s * pages
        assert encoder == pytest.approx(pages * encode_s / total_s) and encoder <= 1.0001 and decoder <= 1.0001
        assert outcome.first_s <= total_s * 1.0001
        if device == "gpu":
            assert encoder + decoder == pytest.approx(1.0)
        else:
            assert total_s >= max(pages * encode_s, decoder * total_s) - 1e-6


def test_overlap_is_never_slower_than_taking_turns() -> None:
    for batch in (1, 4, 16):
        turns, overlap = (play(costs(device), setting(batch), A4, 32).page_s for device in ("gpu", "ne"))
        assert overlap <= turns


def test_the_command_names_the_fastest_setting_first(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    content = {
        "about": "a test",
        "encoders": {
            "slow": {"device": "gpu", "encode_s": {"8640": 30.0}},
            "quick": {"device": "ne", "encode_s": {"8640": 5.0}},
        },
        "decoder": {"device": "gpu", "prefill_ms": 100, "pass_ms": {"1": 10, "16": 20}, "page_ms": 0},
        "tokens": 200,
        "accepted": 0,
    }
    file.write_text(json.dumps(content))
    result = CliRunner().invoke(cli, ["bench", "plan", "--costs", str(file)])
    assert result.exit_code == 0 and result.output.startswith("Fastest: encoder quick, fast")
    outcomes = best_first(read_costs(file), A4, 16)
    assert [each.page_s for each in outcomes] == sorted(each.page_s for each in outcomes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "No such file"),
        ("[]", "expected"),
        ('{"about": "x"}', "missing key"),
        (
            '{"about":"x","encoders":{},"tokens":1,"accepted":0,"decoder":{"device":"g","prefill_ms":1,"pass_ms":{},"page_ms":0}}',
            "pass_ms",
        ),
    ],
)
def test_a_file_without_costs_is_refused_with_the_reason(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "costs.json"
    if content:
        file.write_text(content)
    with pytest.raises(UsageError, match=reason):
        read_costs(file)
