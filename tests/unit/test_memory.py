"""Estimates of memory, with machines of any size."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from dotsctl.decoder_worker.plugins.mlx_options import MLXDecoderOptions, usual_batch
from dotsctl.protocol.errors import ExitCode, MissingError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine import memory, sysctl
from dotsctl.protocol.machine.memory import (
    MemoryLimit,
    encoder_need,
    group_limits,
    memory_limit,
    metal_working_set_bytes,
    pipeline_need,
    position_bytes,
    require_memory,
)
from dotsctl.protocol.model.layout import parameters
from dotsctl.protocol.model.validation import CheckpointFacts
from dotsctl.protocol.model.weights import HalfFacts
from dotsctl.tools.random_checkpoint.shape import PRESETS

GIB = 1 << 30
FLOAT32, BFLOAT16 = 4, 2


@pytest.fixture
def dots() -> CheckpointFacts:
    """Facts of the real model."""
    shape = PRESETS["full"]
    encoder = HalfFacts(parameters(shape.vision.tensors()), 2_524_182_528)
    decoder = HalfFacts(parameters(shape.text.tensors()), 3_554_176_000)
    return CheckpointFacts(shape.text, shape.vision, encoder, decoder, PixelLimits())


def test_weights_are_counted_in_the_type_that_computes(dots: CheckpointFacts) -> None:
    assert encoder_need(dots, FLOAT32).encoder_bytes == 5_048_365_056
    assert pipeline_need(dots, FLOAT32, 0).decoder_bytes == 7_108_352_000
    assert pipeline_need(dots, BFLOAT16, 0).decoder_bytes == 3_554_176_000
    assert encoder_need(dots, FLOAT32).decoder_bytes == 0
    assert pipeline_need(dots, BFLOAT16, 0, decoder_bytes=1_000_000_000).decoder_bytes == 1_000_000_000


def test_a_position_of_dots_ocr_takes_28672_bytes_in_bfloat16(dots: CheckpointFacts) -> None:
    assert position_bytes(dots.text, BFLOAT16) == 28_672


def test_the_working_set_of_a_page_is_near_what_was_measured(dots: CheckpointFacts) -> None:
    """At true width in float32: 63 MiB above the weights for 400 patches, 318 for 2024, 601 for 3968."""
    for num_patches, measured_mib in ((400, 63), (2024, 318), (3968, 601)):
        limits = PixelLimits(3136, num_patches * 196)
        estimated_mib = encoder_need(replace(dots, limits=limits), FLOAT32).largest_page_bytes / (1 << 20)
        assert 0.95 < estimated_mib / measured_mib < 1.15


@pytest.mark.parametrize(
    ("usable_gib", "options", "pages"),
    [
        (64, MLXDecoderOptions(dtype="bfloat16"), 16),
        (64, MLXDecoderOptions(dtype="float32"), 10),  # 4 GiB of keys and values
        (64, MLXDecoderOptions(dtype="float32", cache_mib=8192), 16),
        (64, MLXDecoderOptions(dtype="bfloat16", cache_mib=512), 2),
        (64, MLXDecoderOptions(dtype="bfloat16", cache_mib=512, context=2000), 9),
        (7, MLXDecoderOptions(dtype="bfloat16"), 3),
        (3, MLXDecoderOptions(dtype="bfloat16"), 1),
    ],
)
def test_as_many_pages_are_decoded_at_once_as_fit_into_memory(
    dots: CheckpointFacts, usable_gib: int, options: MLXDecoderOptions, pages: int
) -> None:
    assert usual_batch(dots, options, usable_gib * GIB) == pages


def test_the_complete_cache_counts_only_where_memory_may_run_short(dots: CheckpointFacts) -> None:
    small, large = pipeline_need(dots, FLOAT32, 1 * GIB), pipeline_need(dots, FLOAT32, 8 * GIB)
    assert small.least_bytes == large.least_bytes
    assert large.most_bytes - small.most_bytes == 7 * GIB


@pytest.mark.parametrize(("gib", "fits"), [(8, False), (12, False), (13, True), (24, True)])
def test_the_full_model_in_float32_needs_13_gib(dots: CheckpointFacts, gib: int, fits: bool) -> None:
    need = pipeline_need(dots, FLOAT32, 4 * GIB)
    if fits:
        require_memory(need, MemoryLimit(gib * GIB))
        return
    with pytest.raises(MissingError) as caught:
        require_memory(need, MemoryLimit(gib * GIB))
    assert caught.value.exit_code is ExitCode.MISSING
    for words in (
        "5.05 GB (encoder)",
        "7.11 GB (decoder)",
        f"{gib * GIB / 1e9:.2f} GB",
        "dotsctl convert",
        "cache_mib",
    ):
        assert words in str(caught.value)


def test_the_encoder_alone_runs_where_both_halves_do_not(dots: CheckpointFacts) -> None:
    machine = MemoryLimit(8 * GIB)
    require_memory(encoder_need(dots, FLOAT32), machine)
    with pytest.raises(MissingError, match=r"encoder's weights take 5\.05 GB and one small page.*there are 4\.29 GB"):
        require_memory(encoder_need(dots, FLOAT32), MemoryLimit(4 * GIB))


def test_a_quantised_decoder_runs_where_the_original_does_not(dots: CheckpointFacts) -> None:
    machine = MemoryLimit(8 * GIB)
    with pytest.raises(MissingError):
        require_memory(pipeline_need(dots, FLOAT32, GIB), machine)
    require_memory(pipeline_need(dots, FLOAT32, GIB, decoder_bytes=1_000_000_000), machine)


def test_a_limit_of_the_control_group_counts_and_is_named(dots: CheckpointFacts) -> None:
    need = pipeline_need(dots, FLOAT32, GIB)
    require_memory(need, MemoryLimit(64 * GIB, limit_bytes=1 << 62))
    with pytest.raises(MissingError, match=r"there are 68\.72 GB, of which this process may use 8\.59 GB"):
        require_memory(need, MemoryLimit(64 * GIB, limit_bytes=8 * GIB))


def test_memory_that_may_run_short_is_a_warning_with_remedies(
    dots: CheckpointFacts, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        require_memory(pipeline_need(dots, FLOAT32, 4 * GIB), MemoryLimit(64 * GIB))
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        require_memory(pipeline_need(dots, FLOAT32, 4 * GIB), MemoryLimit(16 * GIB))
    (message,) = caplog.messages
    for words in ("9.76 GB", "4.29 GB", "17.18 GB", "Close other programs", "--max-pixels", "cache_mib"):
        assert words in message


def test_this_machine_has_memory() -> None:
    machine = memory_limit()
    assert 256 << 20 < machine.physical_bytes < 1 << 50
    assert 0 < machine.usable_bytes <= machine.physical_bytes


@pytest.mark.parametrize(
    ("physical_gib", "working_set_mib"), [(8, 5461), (16, 10922), (32, 21845), (36, 27648), (64, 49152), (96, 73728)]
)
def test_the_default_working_set_of_metal_is_what_macs_of_that_size_log(
    physical_gib: int, working_set_mib: int
) -> None:
    assert metal_working_set_bytes(physical_gib * GIB) >> 20 == working_set_mib
    assert metal_working_set_bytes(physical_gib * GIB, 0) >> 20 == working_set_mib


def test_a_wired_limit_that_the_user_has_set_replaces_the_default(
    libsystem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(sysctl, "LIBRARY", str(libsystem))
    assert memory_limit().limit_bytes == metal_working_set_bytes(memory_limit().physical_bytes)
    monkeypatch.setenv("STAND_IN_WIRED_LIMIT_MB", "1234")
    assert memory_limit().usable_bytes == 1234 << 20


def test_a_mac_of_8_gb_is_refused_with_both_numbers_and_the_remedy(dots: CheckpointFacts) -> None:
    """In bfloat16 the model and a small page take 6.8 GB: less than the machine has, more than the GPU may hold."""
    mac = MemoryLimit(8 * GIB, metal_working_set_bytes(8 * GIB))
    need = pipeline_need(dots, BFLOAT16, GIB)
    assert mac.usable_bytes < need.least_bytes < mac.physical_bytes
    with pytest.raises(MissingError, match=r"8\.59 GB, of which this process may use 5\.73 GB.*--decoder-bits 4"):
        require_memory(need, mac)
    require_memory(pipeline_need(dots, BFLOAT16, GIB, decoder_bytes=1_000_000_000), mac)


def limits(folder: Path, lines: str, files: dict[str, str]) -> list[int]:
    (folder / "cgroup").write_text(lines)
    for name, text in files.items():
        path = folder / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return sorted(group_limits(folder / "cgroup", folder / "fs"))


def test_limits_of_all_groups_above_count_in_version_2(tmp_path: Path) -> None:
    files = {"a/memory.max": "5000", "a/b/memory.max": "max", "a/b/c/memory.max": "7000", "a/x/memory.max": "1"}
    assert limits(tmp_path, "0::/a/b/c\n", files) == [5000, 7000]


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    assert limits(tmp_path, "0::/\n", {"memory.max": "9000"}) == [9000]


def test_the_memory_controller_of_version_1_counts(tmp_path: Path) -> None:
    lines = "5:cpu,cpuacct:/a\n4:memory:/docker/x\n"
    assert limits(tmp_path, lines, {"memory/docker/x/memory.limit_in_bytes": "1234"}) == [1234]


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(group_limits(tmp_path / "absent", tmp_path)) == []
