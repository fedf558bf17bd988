"""Planning powers of two from magnitudes, and the files that hold the plans."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from dotsctl.decoder_worker.plugins.mlx_options import MLXDecoderOptions
from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.model.half_precision import LIMIT, TARGET, HalfPlan, Site, plan_file, read_plan, solve
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugin_options import parse_options
from hypothesis import given
from hypothesis import strategies as st

PEAKS = st.floats(-20, 40).map(lambda power: 2.0**power)
TENSORS = ("q", "k", "v", "proj", "gate", "up", "down")


def plan_of(stream: float, places: dict[str, float], tensors: dict[str, float]) -> HalfPlan:
    sites = [
        Site("layer 1: queries and keys", places["q"], ("q",), ("k",), partner_peak=places["k"]),
        Site("layer 1: values of attention", places["v"], ("v",), ("proj",)),
        Site("layer 1: values of the gate", places["gate"]),
        Site("layer 1: products with the gate", places["up"], ("up", "absent"), ("down",)),
    ]
    return solve(Site("residual stream: values", stream, ("proj", "down")), sites, tensors)


def plain(**changes: float) -> dict[str, float]:
    return dict.fromkeys(TENSORS, 1.0) | changes


def test_a_model_of_small_magnitudes_is_left_as_it_is() -> None:
    assert plan_of(TARGET, plain(up=TARGET), plain()) == HalfPlan()


@given(
    PEAKS, st.fixed_dictionaries(dict.fromkeys(TENSORS, PEAKS)), st.fixed_dictionaries(dict.fromkeys(TENSORS, PEAKS))
)
def test_a_plan_changes_no_product_and_keeps_every_number_below_the_limit_or_names_it(
    stream: float, places: dict[str, float], tensors: dict[str, float]
) -> None:
    plan = plan_of(stream, places, tensors)
    power = {name: plan.exponents.get(name, 0) for name in TENSORS}
    assert power["q"] + power["k"] == 0
    assert power["gate"] == 0
    assert power["v"] + power["proj"] == power["up"] + power["down"] == plan.residual_exponent
    scaled = [math.ldexp(places[name], power[name]) for name in ("q", "k", "v", "gate", "up")]
    scaled += [math.ldexp(tensors[name], power[name]) for name in TENSORS]
    scaled += [math.ldexp(stream, plan.residual_exponent)]
    assert bool(plan.hopeless) == (max(scaled) > LIMIT)


@given(PEAKS, PEAKS)
def test_a_value_is_scaled_no_more_than_it_needs(stream: float, up: float) -> None:
    plan = plan_of(stream, plain(up=up), plain())
    for peak, power in ((stream, plan.residual_exponent), (up, plan.exponents.get("up", 0))):
        assert math.ldexp(peak, power) <= TARGET
        assert power == 0 or math.ldexp(peak, power + 1) > TARGET


def test_a_weight_that_float16_cannot_hold_is_made_smaller() -> None:
    plan = plan_of(1.0, plain(), plain(down=1e6, k=1e5))
    assert plan.hopeless == ()
    assert (plan.residual_exponent, plan.exponents["down"]) == (-5, -5)
    assert (plan.exponents["q"], plan.exponents["k"]) == (2, -2)


def test_large_queries_are_scaled_against_small_keys() -> None:
    plan = plan_of(1.0, plain(q=1e6, k=0.5), plain())
    assert (plan.exponents, plan.hopeless) == ({"q": -8, "k": 8}, ())


def test_a_gate_beyond_the_limit_is_named_with_its_layer_and_its_magnitude() -> None:
    plan = plan_of(1.0, plain(gate=123_456.0), plain())
    assert plan.hopeless == ("layer 1: values of the gate reach 123,456, more than 32,752",)
    with pytest.raises(UsageError, match="123,456"):
        plan.require_possible("use dtype=bfloat16")


@pytest.mark.parametrize("magnitude", [math.inf, math.nan])
def test_a_magnitude_that_is_no_number_is_named(magnitude: float) -> None:
    assert len(plan_of(magnitude, plain(), plain()).hopeless) == 1


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    path = plan_file("f" * 64, Role.ENCODER)
    path.parent.mkdir(parents=True)
    return path


def test_a_plan_that_was_never_made_names_the_command_that_makes_it(stored: Path) -> None:
    with pytest.raises(MissingError, match=r"dotsctl convert demo --float16$"):
        read_plan("f" * 64, Role.ENCODER, demo_directory())


def content(**changes: Any) -> str:
    return json.dumps(asdict(HalfPlan()) | changes)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        (content(exponents={"x": "1"}), "exponents.x"),
        (content(exponents={"x": 10**6}), "beyond 126"),
        (content(residual_exponent=-127), "beyond 126"),
        (content(format=2), "of format 2"),
    ],
)
def test_a_damaged_plan_is_refused_with_the_command_that_makes_it_again(stored: Path, text: str, problem: str) -> None:
    stored.write_text(text)
    with pytest.raises(MissingError, match=f"{problem}.*dotsctl convert demo --float16 --force"):
        read_plan("f" * 64, Role.ENCODER, demo_directory())


def test_a_type_that_the_plugins_do_not_have_is_refused_with_those_that_they_have() -> None:
    for options in (MLXEncoderOptions, MLXDecoderOptions):
        assert parse_options(options, {"dtype": "float16"}, "plugin").dtype == "float16"
        with pytest.raises(UsageError, match="dtype='float8' is not float32, bfloat16 or float16"):
            parse_options(options, {"dtype": "float8"}, "plugin")
