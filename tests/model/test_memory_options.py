"""What the plugins in MLX do with their share of the memory limit."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.directory import demo_directory

from tests.plugins import load_plugin

pytestmark = pytest.mark.model
mx = pytest.importorskip("mlx.core")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def cache_limit() -> Iterator[None]:
    before = mx.set_cache_limit(33 * MIB)
    yield
    gc.collect()
    mx.set_cache_limit(before)


def limit_now() -> int:
    now = int(mx.set_cache_limit(33 * MIB))
    mx.set_cache_limit(now)
    return now


@pytest.mark.parametrize(("options", "mib"), [({}, 1024), ({"mlx_cache_mib": "7"}, 7)])
def test_the_encoder_keeps_as_many_freed_buffers_as_the_option_allows(options: dict[str, str], mib: int) -> None:
    from dotsctl.encoder_worker.plugins.mlx import MLXEncoder

    encoder = MLXEncoder()
    load_plugin(encoder, demo_directory(), options, lambda _: None)
    assert limit_now() == mib * MIB
    encoder.close()


@pytest.mark.parametrize(("options", "mib"), [({}, 1024), ({"mlx_cache_mib": "7", "cache_mib": "64"}, 7)])
def test_the_decoder_keeps_its_share_and_wires_nothing(
    options: dict[str, str], mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wired memory under continuous batching has brought macOS down, and two processes that wire add up."""
    from dotsctl.decoder_worker.plugins.mlx import MLXDecoder

    wired: list[Any] = []
    device = {**mx.device_info(), "max_recommended_working_set_size": 8 << 30}  # as on a Mac; else mlx-lm does not try
    monkeypatch.setattr(mx, "device_info", lambda *_: device)
    monkeypatch.setattr(mx, "set_wired_limit", lambda limit: wired.append(limit) or 0)
    decoder = MLXDecoder()
    load_plugin(decoder, demo_directory(), options, lambda _: None)  # decodes its warm-up page
    assert (limit_now(), wired) == (mib * MIB, [])
    decoder.close()


def test_a_share_that_is_no_number_is_refused() -> None:
    from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
    from dotsctl.encoder_worker.plugins.mlx import MLXEncoder

    for plugin in (MLXEncoder(), MLXDecoder()):
        with pytest.raises(UsageError, match="mlx_cache_mib"):
            load_plugin(plugin, demo_directory(), {"mlx_cache_mib": "much"}, lambda _: None)
