"""One limit for two workers: what each part gets, and what is refused."""

from dataclasses import astuple, replace
from typing import Any

import pytest
from dotsctl.client.settings.choices import choose
from dotsctl.client.settings.memory_plan import need_of, with_memory
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig, decoder_options, encoder_options
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine.memory import Need, pipeline_need
from dotsctl.protocol.machine.memory_share import (
    FREED_BYTES,
    IN_FLIGHT_BYTES,
    KEYS_BYTES,
    MIB,
    Fixed,
    parse_size,
    share,
)
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.model.layout import parameters
from dotsctl.protocol.model.validation import CheckpointFacts
from dotsctl.protocol.model.weights import HalfFacts
from dotsctl.protocol.worker import mlx
from dotsctl.tools.random_checkpoint.shape import PRESETS
from hypothesis import given, settings
from hypothesis import strategies as st

GIB = 1 << 30
MLX = PluginChoice("mlx")


@pytest.fixture
def dots() -> CheckpointFacts:
    """Facts of the real model."""
    shape = PRESETS["full"]
    encoder = HalfFacts(parameters(shape.vision.tensors()), 2_524_182_528)
    decoder = HalfFacts(parameters(shape.text.tensors()), 3_554_176_000)
    return CheckpointFacts(shape.text, shape.vision, encoder, decoder, PixelLimits())


def config(encoder: str = "mlx", decoder: str = "mlx") -> RuntimeConfig:
    choices = PluginChoice.parse(encoder), PluginChoice.parse(decoder)
    return RuntimeConfig("test", "demo", str(demo_directory()), *choices)


SIZES = st.integers(0, 20 * GIB)
CHOSEN = st.none() | st.integers(0, 4 * GIB)


@settings(max_examples=200, deadline=None)
@given(
    limit=st.integers(1, 64 * GIB),
    weights=st.tuples(SIZES, SIZES),
    tower=st.tuples(st.integers(0, GIB), st.integers(0, 8 * GIB)),
    keys=st.integers(0, GIB),
    fixed=st.builds(Fixed, CHOSEN, CHOSEN, CHOSEN),
)
def test_all_parts_together_never_exceed_the_limit_and_what_was_chosen_is_kept(
    limit: int, weights: tuple[int, int], tower: tuple[int, int], keys: int, fixed: Fixed
) -> None:
    need = Need(*weights, 400 * MIB + tower[0] + keys, sum(tower), 0, tower[0], keys)
    try:
        parts = share(limit, need, fixed)
    except UsageError:
        assert limit < need.least_bytes + sum(filter(None, astuple(fixed))) + 16 * MIB
        return
    assert sum(weights) + 400 * MIB + sum(astuple(parts)) <= limit
    assert parts.encoder_freed_bytes >= 2 * MIB or fixed.encoder_freed_bytes is not None
    assert tower[0] <= parts.page_bytes <= sum(tower)
    assert parts.keys_bytes >= keys
    for chosen, got in zip(astuple(fixed), astuple(parts)[:3], strict=True):
        assert chosen is None or got == chosen or got == keys > chosen


def test_with_enough_memory_every_part_is_as_without_a_limit(dots: CheckpointFacts) -> None:
    need = pipeline_need(dots, 4, KEYS_BYTES)
    parts = share(64 * GIB, need)
    assert astuple(parts) == (KEYS_BYTES, FREED_BYTES, FREED_BYTES, IN_FLIGHT_BYTES, need.largest_page_bytes)
    assert parts.credits == 2


def test_with_little_memory_every_part_gets_something(dots: CheckpointFacts) -> None:
    need = pipeline_need(dots, 2, KEYS_BYTES)
    parts = share(need.least_bytes + 800 * MIB, need)
    assert parts.in_flight_bytes == parts.encoder_freed_bytes == parts.decoder_freed_bytes == 100 * MIB
    assert parts.page_bytes - need.small_tower_bytes == parts.keys_bytes - need.small_keys_bytes == 250 * MIB
    assert parts.credits == 1


def test_a_limit_below_the_weights_is_refused_with_the_numbers_and_the_least_that_works(dots: CheckpointFacts) -> None:
    need = pipeline_need(dots, 4, KEYS_BYTES)
    with pytest.raises(UsageError) as caught:
        share(8 * GIB, need, smaller="make a smaller decoder: dotsctl convert MODEL --decoder-bits 4")
    for words in ("8.00 GiB", "4.70 GiB", "6.62 GiB", "raise it to 12.3G", "dotsctl convert MODEL --decoder-bits 4"):
        assert words in str(caught.value)
    share(parse_size("12.3G"), need)
    with pytest.raises(UsageError, match="or choose smaller sizes"):
        share(parse_size("12.3G"), need, Fixed(keys_bytes=GIB))


def test_a_mac_computes_in_half_the_bytes(dots: CheckpointFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx.sys, "platform", "linux")
    linux = need_of(dots, [MLX], MLX)
    monkeypatch.setattr(mlx.sys, "platform", "darwin")
    mac = need_of(dots, [MLX], MLX)
    assert (linux.encoder_bytes, linux.decoder_bytes) == (2 * mac.encoder_bytes, 2 * mac.decoder_bytes)
    reported = need_of(dots, [PluginChoice("mlx", {"dtype": "float32"})], MLX)
    assert (reported.encoder_bytes, reported.decoder_bytes) == (linux.encoder_bytes, mac.decoder_bytes)


def test_float16_takes_half_the_bytes_on_any_machine(dots: CheckpointFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx.sys, "platform", "linux")
    half = PluginChoice("mlx", {"dtype": "float16"})
    need = need_of(dots, [half], half)
    assert (need.encoder_bytes, need.decoder_bytes) == (2 * dots.encoder.parameters, 2 * dots.decoder.parameters)
    assert need_of(dots, [half], MLX).decoder_bytes == 4 * dots.decoder.parameters


def test_a_quantised_decoder_and_core_ml_count_as_what_they_are(
    dots: CheckpointFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlx.sys, "platform", "linux")
    need = need_of(dots, [PluginChoice("coreml")], PluginChoice("mlx", {"bits": "8"}))
    assert need.encoder_bytes == 2 * dots.encoder.parameters
    assert need.decoder_bytes == dots.decoder.parameters * (1 + 8 / 64)
    stranger = need_of(dots, [PluginChoice("fake")], PluginChoice("fake"))
    assert replace(stranger, small_page_bytes=0) == Need(0, 0, 0)


def test_two_encoders_side_by_side_share_what_one_would_have(
    dots: CheckpointFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlx.sys, "platform", "darwin")
    one, two = need_of(dots, [MLX], MLX), need_of(dots, [PluginChoice("coreml"), MLX], MLX)
    assert (two.encoder_bytes, two.decoder_bytes) == (2 * one.encoder_bytes, one.decoder_bytes)
    assert two.small_page_bytes - one.small_page_bytes > two.small_tower_bytes / 2 == one.small_tower_bytes
    alone = with_memory(config("mlx", "mlx"), 2 * GIB)
    both = with_memory(replace(alone, further_encoders=(PluginChoice("mlx", {"query_chunk": "64"}),)), 2 * GIB)
    freed = [int(each.encoder_share["mlx"]["mlx_cache_mib"]) for each in (alone, both)]
    assert 2 * freed[1] <= freed[0]
    reported = with_memory(replace(both, encoder=PluginChoice("mlx", {"mlx_cache_mib": "40"})), 2 * GIB)
    assert [encoder_options(reported, place)[1]["mlx_cache_mib"] for place in (0, 1)] == ["40", "40"]
    none = replace(both, further_encoders=(*both.further_encoders, PluginChoice("mlx", {"mlx_cache_mib": "0"})))
    reported = with_memory(replace(none, encoder=PluginChoice("mlx", {"mlx_cache_mib": "40"})), 2 * GIB)
    assert [encoder_options(reported, place)[1]["mlx_cache_mib"] for place in (0, 1, 2)] == ["40", "40", "0"]


def test_only_mlx_gets_its_share_and_the_users_own_option_is_stronger() -> None:
    planned = with_memory(config("mlx:mlx_cache_mib=7", "mlx:batch=2"), 2 * GIB)
    assert encoder_options(planned, 0)[1] == {"mlx_cache_mib": "7"}
    assert decoder_options(planned)[1].keys() == {"batch", "cache_mib", "mlx_cache_mib"}
    assert int(planned.decoder_share["cache_mib"]) < 2048
    assert str(planned.decoder) == "mlx:batch=2", "what a client compares does not change"
    stronger = replace(planned, encoder_share={"mlx": {"mlx_cache_mib": "9"}})
    assert encoder_options(stronger, 0)[1] == {"mlx_cache_mib": "7"}
    foreign = with_memory(config("fake", "fake"), 2 * GIB)
    assert (foreign.encoder_share, foreign.decoder_share) == ({}, {})
    assert RuntimeConfig.from_json(planned.to_json()) == planned


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8G", 8 * GIB),
        ("512m", 512 * MIB),
        ("1.5 GiB", 3 * GIB // 2),
        ("2GB", 2 * GIB),
        ("1048576", MIB),
        ("64K", 65536),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["much", "8X", "-1G", "0", "1e9", "", "G", "9999999T"])
def test_what_is_no_size_is_refused_with_where_it_comes_from(text: str) -> None:
    if text:
        with pytest.raises(UsageError, match=r"\(DOTSCTL_MEMORY\): write it as 8G or 512M"):
            choose(environment={"DOTSCTL_MEMORY": text}, files=())
    with pytest.raises(UsageError):
        parse_size(text)


def test_the_limit_comes_from_flag_variable_and_file(tmp_path: Any) -> None:
    file = tmp_path / "dotsctl.toml"
    file.write_text('memory = "3G"')
    assert choose(environment={}, files=()).memory_bytes is None
    assert choose(environment={}, files=(file,)).memory_bytes == 3 * GIB
    assert choose(environment={"DOTSCTL_MEMORY": "2G"}, files=(file,)).memory_bytes == 2 * GIB
    assert choose(memory="1G", environment={"DOTSCTL_MEMORY": "2G"}, files=(file,)).memory_bytes == GIB
