"""``NAME:key=value,...`` as users write it, and the configuration that a runtime process gets."""

import pytest
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig, encoder_options, with_encoder
from dotsctl.protocol.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st

words = st.text(st.characters(exclude_characters=":,=", exclude_categories=["Cs"]), min_size=1, max_size=8)
values = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), max_size=8)
choices = st.builds(PluginChoice, words, st.dictionaries(words, values, max_size=4))


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("mlx", "mlx", {}),
        ("fake:delay_s=0.1", "fake", {"delay_s": "0.1"}),
        ("coreml:compute_units=cpu_and_ne,buckets=2", "coreml", {"compute_units": "cpu_and_ne", "buckets": "2"}),
        ("mlx:model=/a:b=c", "mlx", {"model": "/a:b=c"}),
        ("mlx:note=", "mlx", {"note": ""}),
        ("mlx:", "mlx", {}),
    ],
)
def test_a_plugin_is_written_as_its_name_and_options(text: str, name: str, options: dict[str, str]) -> None:
    assert PluginChoice.parse(text) == PluginChoice(name, options)


@pytest.mark.parametrize("text", ["mlx:fast", "mlx:=1", "mlx:a=1,a=2", "mlx:a=1,b"])
def test_an_option_that_is_no_pair_or_given_twice_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="NAME:key=value"):
        PluginChoice.parse(text)


@pytest.mark.parametrize("text", ["", ":a=1"])
def test_a_choice_without_a_name_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="name of a plugin"):
        PluginChoice.parse(text)


@settings(max_examples=100, deadline=None)
@given(choices)
def test_a_choice_is_read_back_from_its_text(choice: PluginChoice) -> None:
    assert PluginChoice.parse(str(choice)) == choice


@settings(max_examples=50, deadline=None)
@given(choices, choices)
def test_a_runtime_gets_the_configuration_that_was_sent(encoder: PluginChoice, decoder: PluginChoice) -> None:
    config = RuntimeConfig("scans", "demo", "/models/demo", encoder, decoder, credits=3, backoff_s=0.25)
    assert RuntimeConfig.from_json(config.to_json()) == config


def test_a_share_of_the_memory_is_for_the_plugin_that_it_was_made_for() -> None:
    mlx, share = PluginChoice("mlx"), {"mlx": {"mlx_cache_mib": "64"}}
    config = RuntimeConfig("x", "m", "", mlx, mlx, encoder_share=share)
    same = with_encoder(config, PluginChoice("mlx", {"query_chunk": "128"}))
    assert encoder_options(same, 0)[1] == {"mlx_cache_mib": "64", "query_chunk": "128"}
    other = with_encoder(config, PluginChoice("coreml"))
    assert encoder_options(other, 0) == (PluginChoice("coreml"), {})


def test_encoders_side_by_side_have_their_places() -> None:
    first, second, third = map(PluginChoice, ("coreml", "mlx", "fake"))
    config = RuntimeConfig("x", "m", "", first, second, further_encoders=(second,))
    assert config.encoders == (first, second) and encoder_options(config, 1)[0] == second
    assert with_encoder(config, third, 1).encoders == (first, third)
    assert with_encoder(config, third).encoders == (third, second)
    assert RuntimeConfig.from_json(config.to_json()) == config
