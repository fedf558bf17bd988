"""The encoder plugin coreml on the compute unit reference, and its way through the framework with a stand-in for it."""

import io
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl import Client
from dotsctl.encoder_worker.coreml import probe_process
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk, builds_directory
from dotsctl.encoder_worker.plugin import BlankPage, EncodedPage, PageImage, encode_images
from dotsctl.encoder_worker.plugins import coreml
from dotsctl.encoder_worker.plugins.coreml import CoreMLEncoder
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.protocol.errors import CommandFailedError, MissingError, PageError, UsageError
from dotsctl.protocol.machine.identity import Machine, framework_versions
from dotsctl.protocol.machine.verdicts import Trial, Verdict, build_digest, remember
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from PIL import Image, ImageDraw

from tests.conftest import sample
from tests.coreml_stand_in import Framework, use
from tests.plugins import load_plugin

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model
PAGES = [
    Path(__file__).parents[2] / "client" / "sample_pages" / f"{name}.png" for name in ("invoice", "letter", "notice")
]
REFERENCE = {"compute_units": "reference"}
BUCKETS = (336, 416, 440)
"""Those of the sample pages."""


@pytest.fixture(scope="module", autouse=True)
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Builds of the demo model: float32 in two packages, and float16."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for options in (ConversionOptions("float32", buckets=BUCKETS, chunks=2), ConversionOptions(buckets=BUCKETS)):
            convert_encoder(demo_directory(), options, lambda line: None)
        yield folder


def loaded(**options: str) -> CoreMLEncoder:
    encoder = CoreMLEncoder()
    load_plugin(encoder, demo_directory(), REFERENCE | options, lambda note: None)
    return encoder


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def picture(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), "lightgrey")
    ImageDraw.Draw(image).ellipse((width // 5, height // 5, width // 2, height // 2), fill="navy")
    return image


def encode(encoder: Any, content: bytes, **options: Any) -> EncodedPage:
    (page,) = encode_images(encoder, [PageImage(content, None, options.pop("max_pixels", None), **options)])
    return page


@pytest.mark.sampled
def test_pages_of_a_buckets_size_give_the_embeddings_of_the_mlx_encoder() -> None:
    mlx, exact, rounded = MLXEncoder(), loaded(build="float32"), loaded(build="float16")
    load_plugin(mlx, demo_directory(), {}, lambda note: None)
    for path in PAGES[: sample(1, of=3)]:
        expected = encode(mlx, path.read_bytes())
        pages = [encode(encoder, path.read_bytes()) for encoder in (exact, rounded)]
        for page, limit, dtype in zip(pages, (1e-5, 2e-3), ("<f4", "<f2"), strict=True):
            assert (page.grid, page.geometry) == (expected.grid, expected.geometry)
            assert page.embeddings.dtype == np.dtype(dtype) and page.embeddings.flags.c_contiguous
            error = np.linalg.norm(page.embeddings.astype(np.float32) - expected.embeddings)
            assert error <= limit * np.linalg.norm(expected.embeddings)


def read(encoder: str) -> list[str]:
    inputs = PAGES[: sample(1, of=3)]
    with Client(model="demo", encoder=encoder, private=True) as client:
        pages = sorted(client.ocr(inputs), key=lambda page: page.index)  # they come as they are finished
    assert [page.error for page in pages] == [None] * len(inputs)
    return [page.text for page in pages]


@pytest.mark.sampled
def test_the_sample_pages_read_the_same_in_float32_and_at_most_1_percent_differently_in_float16(
    run_folder: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distance = pytest.importorskip("rapidfuzz.distance.Levenshtein").distance
    monkeypatch.setenv("DOTSCTL_MODELS", str(models_folder))  # which run_folder takes away
    expected = read("mlx")
    assert all(len(text) > 50 for text in expected)
    assert read("coreml:compute_units=reference,build=float32") == expected
    found = read("coreml:compute_units=reference,build=float16")
    edits = sum(distance(*texts) for texts in zip(found, expected, strict=True))
    assert edits <= 0.01 * sum(map(len, expected))


def test_a_page_of_another_size_lies_on_white_at_the_top_left_of_its_bucket() -> None:
    encoder = loaded(build="float32")
    content = png(picture(250, 170))  # 252 x 168 by the resize rule: 18 x 12 patches
    page = encode(encoder, content)
    assert page.grid[0] * page.grid[1] in BUCKETS
    assert page.geometry.resized == (page.grid[1] * 14, page.grid[0] * 14)
    assert page.geometry.scale == (252 / 250, 168 / 170)
    assert page.geometry.offset == (0, 0)
    canvas = Image.new("RGB", page.geometry.resized, "white")
    canvas.paste(picture(250, 170).resize((252, 168), Image.Resampling.BICUBIC), (0, 0))
    assert np.array_equal(encode(encoder, png(canvas)).embeddings, page.embeddings)


@pytest.mark.parametrize("share", ["much", "1.1", "-0.1", "nan"])
def test_a_share_of_the_neural_engine_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(UsageError, match=r"ne_share=.* is not a number, 0 to 1: correct it"):
        loaded(ne_share=share)


def test_a_lower_pixel_limit_and_fewer_buckets_are_followed() -> None:
    content = png(picture(308, 280))
    assert encode(loaded(), content).grid == (20, 22)
    small = encode(loaded(), content, max_pixels=30_000)
    assert small.grid[0] * small.grid[1] == 336
    assert small.geometry.scale[0] * 308 * small.geometry.scale[1] * 280 <= 30_000
    page = encode(loaded(buckets="336+416"), content)
    assert page.grid[0] * page.grid[1] in (336, 416)


def test_several_images_are_encoded_in_order() -> None:
    encoder = loaded()
    contents = [png(picture(308, 280)), png(picture(364, 224))]
    pages = encode_images(encoder, [PageImage(content, None, None) for content in contents])
    assert [page.grid for page in pages] == [(20, 22), (16, 26)]
    assert all(page.timings_ms.keys() == {"open", "resize", "encode"} for page in pages)


def test_a_blank_page_is_detected_only_on_request_and_an_unreadable_one_is_its_own_failure() -> None:
    encoder, blank = loaded(), png(Image.new("RGB", (308, 280), "white"))
    with pytest.raises(BlankPage) as reported:
        encode(encoder, blank, check_blank=True)
    assert reported.value.geometry.source == (308, 280)
    assert len(encode(encoder, blank).embeddings) == 110
    with pytest.raises(PageError, match="no picture"):
        encode(encoder, b"no picture")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"units": "all"}, "no option 'units': use compute_units"),
        ({"compute_units": "gpu"}, "'gpu' is not cpu_and_ne, cpu_and_gpu, cpu_only, all or reference"),
        ({"compute_units": "reference", "buckets": "336+999"}, r"not among those of the build: 336\+416\+440"),
        ({"compute_units": "reference", "buckets": "many"}, "is not whole numbers joined by \\+, as 336\\+960"),
    ],
)
def test_an_option_that_cannot_be_followed_is_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        load_plugin(CoreMLEncoder(), demo_directory(), options, lambda note: None)


@pytest.mark.parametrize("options", [{}, *({"compute_units": unit} for unit in ("cpu_and_ne", "cpu_only", "all"))])
def test_on_linux_every_unit_but_reference_is_an_error_that_states_what_to_do(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UsageError, match=r"this is Linux.*coreml:compute_units=reference.*--encoder mlx"):
        load_plugin(CoreMLEncoder(), demo_directory(), options, lambda note: None)


def test_a_macos_that_is_too_old_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.6", ("", "", ""), "arm64"))
    with pytest.raises(UsageError, match=r"macOS 15 or later, this is 14\.6"):
        load_plugin(CoreMLEncoder(), demo_directory(), {}, lambda note: None)


def test_without_packages_the_line_that_makes_them_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    with pytest.raises(MissingError, match=rf"dotsctl convert {demo_directory()} --encoder coreml"):
        loaded()


def test_without_coremltools_the_error_states_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingError, match=r"pip install 'dotsctl\[coreml\]'"):
        import_coremltools()


MACHINE = Machine("Apple M2", "macOS 26.1", "25B78")


def remember_good_trials() -> None:
    digest = fingerprint(demo_directory())
    folder = builds_directory(digest) / "float32"
    trials = tuple(Trial(bucket, "", 1.0, 1.0, 0.5, ne_share=1.0) for bucket in BUCKETS)
    manifest, versions = build_digest(folder), framework_versions()
    assert manifest is not None
    remember(Verdict(digest, "float32", manifest, "cpu_and_ne", MACHINE, BUCKETS, trials, versions=versions))


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Framework]:
    def use_faults(words: str = "") -> Framework:
        remember_good_trials()
        monkeypatch.setattr(probe_process, "COMMAND", (sys.executable, "-P", "-m", "tests.no_such_probe"))
        return use(monkeypatch, words)

    return use_faults


@pytest.fixture
def build_folder() -> Iterator[Path]:
    folder = builds_directory(fingerprint(demo_directory())) / "float32"
    yield folder
    shutil.rmtree(folder / "compiled-25B78", ignore_errors=True)


def test_the_framework_gets_every_chunk_compiled_once_and_the_same_arrays_each_time(
    on_a_mac: Callable[..., Framework], build_folder: Path
) -> None:
    content, framework, notes = PAGES[0].read_bytes(), on_a_mac(), []
    encoder = CoreMLEncoder()
    load_plugin(encoder, demo_directory(), {"build": "float32", "buckets": "336+440"}, notes.append)
    assert framework.compiled == ["tower-1.mlpackage", "tower-2.mlpackage"]
    assert sum("loading package" in note for note in notes) == 4
    pages = [encode(encoder, content) for _ in range(2)]
    assert np.array_equal(pages[0].embeddings, encode(loaded(build="float32"), content).embeddings)
    assert np.array_equal(pages[0].embeddings, pages[1].embeddings)
    first, second = framework.inputs[2:4], framework.inputs[4:]  # the golden page came before
    for before, after in zip(first, second, strict=True):
        assert all(before[name] is after[name] for name in before)
    encoder.close()
    again = on_a_mac()
    load_plugin(CoreMLEncoder(), demo_directory(), {"build": "float32"}, notes.append)
    assert again.compiled == []


@pytest.mark.parametrize(("fault", "remedy"), [("compile", "convert the model again"), ("load", "--encoder mlx")])
def test_what_the_framework_refuses_is_reported_with_a_remedy_and_leaves_nothing(
    on_a_mac: Callable[..., Framework], build_folder: Path, fault: str, remedy: str
) -> None:
    on_a_mac(fault)
    with pytest.raises(CommandFailedError, match=rf"{remedy}"):
        load_plugin(CoreMLEncoder(), demo_directory(), {"build": "float32"}, lambda note: None)
    assert fault == "load" or not list((build_folder / "compiled-25B78").iterdir())
    Build.read(build_folder).check_files(build_folder)


@pytest.mark.parametrize(("layers", "reported"), [(3, False), (42, True)])
def test_pages_that_take_the_interpreter_long_are_reported_at_the_start(layers: int, reported: bool) -> None:
    chunk = Chunk("tower-1.mlpackage", 0, layers, 0, {})
    build = Build("f" * 64, "float16", "same", (960, 4032), 512, "cpu_and_ne", 1536, 128, 1536, (chunk,), {})
    notes: list[str] = []
    coreml._warn_of_long_pages(build, (960,) if layers == 3 else (960, 4032), notes.append)
    assert any("page of 4032 patches: set DOTSCTL_STALL_TIMEOUT" in note for note in notes) is reported
