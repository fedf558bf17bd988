"""How long a page is predicted to take, and the quality that follows from it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dotsctl.client.jobs import page_time
from dotsctl.client.jobs.default_quality import LONG_S, QualityChoice, reason_for_balanced
from dotsctl.client.jobs.page_time import Pipeline, pipeline_of
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine.chips import NE_TFLOPS, PROMPT_AND_GENERATION, chip_speed
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.machine.measured_costs import Cost, Decoding, MeasuredCosts, remember
from dotsctl.protocol.messages import Welcome
from dotsctl.protocol.model.buckets import STANDARD
from dotsctl.protocol.model.directory import find_model
from dotsctl.protocol.model.layout import EMBEDDING, TextSizes, VisionSizes
from dotsctl.protocol.parts import Capability, Device, ImageHeader, ImageKind, PageOptions, Quality

VISION = VisionSizes(1536, 1536, 4224, 42, 12)
TEXT = TextSizes(1536, 8960, 28, 12, 2, 151_936)
GPU, NE, CPU = Capability(Device.GPU), Capability(Device.NE, STANDARD), Capability(Device.CPU)
A4, SLIDE = (1654, 2339), (1280, 720)
OPTIONS = PageOptions("text", None, None, None)


def pipeline(
    *encoders: tuple[str, Capability],
    chip: str = "Apple M2",
    measured: MeasuredCosts | None = None,
    decoder_device: Device = Device.GPU,
) -> Pipeline:
    """A pipeline of dots.ocr with a decoder of 4 bits."""
    known, speed = measured or MeasuredCosts(), chip_speed(chip)
    return Pipeline(VISION, TEXT, PixelLimits(), encoders, "mlx", decoder_device, 4.5, known, speed)


def test_an_m2_takes_as_long_as_others_estimated() -> None:
    """The estimates are 72 s, 27 s and 13 s; see the reference of the Neural Engine in ``encoder_worker``."""
    on_gpu, on_ne = pipeline(("mlx", GPU)), pipeline(("coreml", NE))
    assert on_gpu.page_s(A4, None) == pytest.approx(72, rel=0.1)
    assert on_gpu.page_s(A4, 1_600_000) == pytest.approx(27, rel=0.1)
    assert on_ne.page_s(A4, 1_600_000) == pytest.approx(13, rel=0.2)


def test_every_chip_of_the_table_has_all_speeds_and_others_have_none() -> None:
    for name in PROMPT_AND_GENERATION:
        speed = chip_speed(f"Apple {name}")
        assert speed is not None and min(speed.gpu_flops, speed.ne_flops, speed.bytes_per_s) > 1e10
    assert {name.split()[0] for name in PROMPT_AND_GENERATION} == set(NE_TFLOPS)
    assert [chip_speed(name) for name in ("x86_64", "aarch64", "M2", "Apple M99", "Apple ")] == [None] * 5


def test_every_token_is_multiplied_by_all_weights_but_the_embeddings() -> None:
    shapes = [shape for name, shape in TEXT.tensors().items() if name != EMBEDDING and len(shape) == 2]
    assert TEXT.product_weights == sum(rows * columns for rows, columns in shapes)
    assert TEXT.operations(4956) == pytest.approx(15.1e12, rel=0.01)


def test_measured_costs_replace_the_table_and_are_scaled_to_other_sizes() -> None:
    decoding = Decoding("mlx", 40.0, 400.0)
    measured = MeasuredCosts((Cost("mlx", 8000, 20.0, False),), (decoding,))
    found = pipeline(("mlx", CPU), chip="x86_64", decoder_device=Device.CPU, measured=measured)
    small = found.page_s((1204, 1316), None)  # 86 x 94 patches
    assert small == pytest.approx(20.0 * VISION.operations(8084) / VISION.operations(8000) + 10.0)
    with_decoder = MeasuredCosts((Cost("mlx", 8000, 20.0, False), Cost("mlx", 8084, 25.0, True)), (decoding,))
    found = pipeline(("mlx", CPU), chip="x86_64", decoder_device=Device.CPU, measured=with_decoder)
    assert found.page_s((1204, 1316), None) == pytest.approx(25.0)  # the decoder had its share meanwhile


def test_halves_on_two_devices_work_at_the_same_time() -> None:
    measured = MeasuredCosts((Cost("coreml", 8640, 9.0, False),), (Decoding("mlx", 40.0, 400.0),))
    assert pipeline(("coreml", NE), measured=measured).page_s(A4, 1_600_000) == pytest.approx(10.0)
    assert pipeline(("coreml", Capability(Device.GPU, NE.buckets)), measured=measured).page_s(
        A4, 1_600_000
    ) == pytest.approx(19.0)


def test_nothing_is_predicted_of_a_machine_of_which_nothing_is_known() -> None:
    unknown = pipeline(("mlx", CPU), chip="x86_64", decoder_device=Device.CPU)
    assert unknown.page_s(A4, None) is None
    assert reason_for_balanced(unknown, [A4], None) == ""


@pytest.mark.parametrize(
    ("chip", "quality"),
    [
        ("M1", "balanced"),
        ("M2", "balanced"),
        ("M4", "balanced"),
        ("M3 Max", "full"),
        ("M4 Max", "full"),
        ("M5", "full"),
    ],
)
def test_a_slow_chip_reads_large_pages_at_balanced_quality_and_a_fast_one_at_full(chip: str, quality: str) -> None:
    found = pipeline(("mlx", GPU), chip=f"Apple {chip}")
    reason = reason_for_balanced(found, [A4], None)
    assert bool(reason) == (quality == "balanced")
    assert reason_for_balanced(found, [SLIDE], None) == ""  # it has fewer pixels than balanced quality allows
    assert reason_for_balanced(found, [A4], 1_000_000) == ""  # the user wants fewer still


def test_the_line_for_the_user_names_the_size_both_times_and_the_way_out() -> None:
    assert reason_for_balanced(pipeline(("mlx", GPU)), [A4], None) == (
        "pages of 1654x2339 px: about 76 s at full size, 25 s at balanced: reading at balanced quality; "
        "--quality full changes that"
    )


def test_a_page_that_only_fits_the_page_sizes_at_balanced_quality_is_read_so() -> None:
    reason = reason_for_balanced(pipeline(("coreml", NE), chip="Apple M5 Max"), [A4], None)
    assert "larger than the encoder's page sizes, 36% of the resolution would be lost" in reason
    both = pipeline(("coreml", NE), ("mlx", GPU), chip="Apple M5 Max")
    assert reason_for_balanced(both, [A4], None) == ""  # the other one takes it, and fast enough
    slow = pipeline(("coreml", NE), ("mlx", GPU))
    assert "about 76 s at full size, 11 s at balanced" in reason_for_balanced(slow, [A4], None)


def test_several_images_of_one_prompt_count_together() -> None:
    found = pipeline(("mlx", GPU), chip="Apple M4 Max")
    one = found.page_s(A4, None)
    assert one is not None and one < LONG_S < 2 * one
    assert "about 32 s at full size" in reason_for_balanced(found, [A4, A4], None)


def welcome(model: Path, fingerprint: str = "f" * 64) -> Welcome:
    facts: dict[str, Any] = {"instance": "", "pid": 1, "window": 1, "model": "m", "fingerprint": fingerprint}
    facts |= {"encoders": ("mlx",), "decoder": "mlx", "tasks": (), "model_path": str(model) if model.name else ""}
    return Welcome(**facts, capabilities=(GPU,), decoder_device=Device.GPU)


def header(size: tuple[int, int]) -> ImageHeader:
    return ImageHeader(ImageKind.FILE, 10, *size)


@pytest.fixture
def on_m2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    machine = Machine("Apple M2", "macOS 15.5", "24F74")
    monkeypatch.setattr(page_time, "this_machine", lambda: machine)
    return machine


def dots_ocr(folder: Path) -> Path:
    """The configuration of dots.ocr without its weights."""
    demo = find_model("demo")[1]
    config = json.loads((demo / "config.json").read_text())
    config |= {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    config |= {"num_key_value_heads": 2, "vocab_size": 151_936}
    config["vision_config"] |= {"embed_dim": 1536, "hidden_size": 1536, "intermediate_size": 4224}
    config["vision_config"] |= {"num_hidden_layers": 42, "num_attention_heads": 12}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text('{"min_pixels": 3136, "max_pixels": 11289600}')
    return folder


def test_the_choice_is_made_once_a_call_and_reported_once(tmp_path: Path, on_m2: Machine) -> None:
    session: Any = SimpleNamespace(welcome=welcome(dots_ocr(tmp_path)), encoder_index=0)
    lines: list[str] = []
    choice = QualityChoice(session, lines.append)
    assert choice.choose([header(SLIDE)], OPTIONS) is Quality.FULL
    assert lines == []
    assert [choice.choose([header(A4)], OPTIONS) for _ in range(3)] == [Quality.BALANCED] * 3
    assert len(lines) == 1 and "1654x2339" in lines[0]
    # Figures that are measured while the call runs do not change what its later pages are read at, but later calls.
    remember("f" * 64, on_m2, [Cost("mlx", 19_824, 2.0, True)], [Decoding("mlx", 400.0, 800.0)])
    assert choice.choose([header(A4)], OPTIONS) is Quality.BALANCED
    assert QualityChoice(session, lines.append).choose([header(A4)], OPTIONS) is Quality.FULL


def test_all_encoders_count_where_the_runtime_chooses_between_them(tmp_path: Path, on_m2: Machine) -> None:
    answer = replace(welcome(dots_ocr(tmp_path)), encoders=("coreml", "mlx"), capabilities=(NE, GPU))

    def encoders(place: int | None, *, auto: bool) -> list[str]:
        found = pipeline_of(replace(answer, auto=auto), place)
        assert found is not None
        return [name for name, _ in found.encoders]

    assert encoders(None, auto=True) == ["coreml", "mlx"]
    assert encoders(None, auto=False) == ["coreml"]
    assert encoders(1, auto=True) == ["mlx"]


def test_a_model_that_cannot_be_understood_is_read_at_full_quality(tmp_path: Path, on_m2: Machine) -> None:
    for model in (Path(), tmp_path / "missing", tmp_path):
        assert pipeline_of(welcome(model), 0) is None
    (tmp_path / "config.json").write_text('{"vision_config": {}}')
    session: Any = SimpleNamespace(welcome=welcome(tmp_path), encoder_index=0)
    assert QualityChoice(session).choose([header(A4)], OPTIONS) is Quality.FULL


def test_a_page_that_cannot_be_resized_is_left_to_the_encoder(tmp_path: Path, on_m2: Machine) -> None:
    session: Any = SimpleNamespace(welcome=welcome(dots_ocr(tmp_path)), encoder_index=0)
    assert QualityChoice(session).choose([header((10, 4000))], OPTIONS) is Quality.FULL


@pytest.mark.parametrize(
    ("decoder", "stored", "bits"),
    [
        ("mlx", None, 16.0),
        ("mlx:bits=4", None, 4.5),
        ("mlx:bits=8,batch=2", None, 8.5),
        ("mlx:bits=mxfp8", None, 8.25),
        ("mlx", {"bits": 6, "group_size": 64}, 6.5),
        ("mlx", {"mode": "nvfp4"}, 4.5),
        ("other:bits=many", None, 16.0),
    ],
)
def test_the_bits_of_the_decoder_come_from_its_options_or_from_the_model(
    decoder: str, stored: dict[str, Any] | None, bits: float, tmp_path: Path, on_m2: Machine
) -> None:
    folder = dots_ocr(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization": stored}))
    found = pipeline_of(replace(welcome(folder), decoder=decoder), 0)
    assert found is not None and found.bits == bits
