"""A real runtime that swaps its MLX encoder for Core ML, on a strict stand-in for the framework."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.connection.swap import swap_encoder
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.encoder_worker.coreml.golden_page import draw_picture
from dotsctl.protocol.endpoints import instance_directory
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.model.directory import demo_directory

from tests import coreml_stand_in
from tests.process.conftest import NAME, START_S, Instance

pytest.importorskip("coremltools")
pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]
TRIAL_S = 180.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dotsctl.tools.coreml.build import convert_encoder
    from dotsctl.tools.coreml.options import ConversionOptions

    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(folder))
        convert_encoder(demo_directory(), ConversionOptions(buckets=(24,), chunks=1), lambda line: None)
    return folder


@pytest.fixture
def runtime(run_folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[[str], Instance]":
    """``runtime(faults)``: the demo model with MLX; encoder workers believe that they run on a Mac."""
    opened: list[Instance] = []
    monkeypatch.setenv("DOTSCTL_MODELS", str(models))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(coreml_stand_in.SITE), os.environ.get("PYTHONPATH", "")]))

    def start(faults: str = "") -> Instance:
        monkeypatch.setenv(coreml_stand_in.VARIABLE, faults)
        mlx = PluginChoice("mlx")
        config = RuntimeConfig(NAME, "demo", str(demo_directory()), mlx, mlx, backoff_s=0.05)
        launch.start_detached(config, START_S * 2)
        directory = instance_directory(NAME)
        opened.append(Instance(SimpleNamespace(directory=directory), Session(directory, START_S)))  # type: ignore[arg-type]
        return opened[-1]

    yield start  # type: ignore[misc]
    for instance in opened:
        instance.session.close()
    launch.stop(NAME, now=True, timeout_s=10)


def page() -> bytes:
    stream = io.BytesIO()
    draw_picture(24).save(stream, "PNG")
    return stream.getvalue()


def test_core_ml_takes_over_and_reads_the_same(runtime: Callable[..., Instance]) -> None:
    instance = runtime()
    (before,) = instance.read([page()], job="before").values()
    assert swap_encoder(NAME, PluginChoice.parse("coreml"), TRIAL_S) == "coreml"
    (after,) = instance.read([page()], job="after").values()
    assert isinstance(before, PageResult) and isinstance(after, PageResult)
    assert (before.encoder, after.encoder) == ("mlx", "coreml")
    assert after.text == before.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("kill", "ended by SIGKILL while page of 24 patches through package 1 of 1 on cpu_and_ne"),
        ("no-ne", "this machine offers Core ML no Neural Engine"),
    ],
)
def test_what_goes_wrong_with_core_ml_is_named_and_mlx_stays(
    runtime: Callable[..., Instance], fault: str, reason: str
) -> None:
    instance = runtime(fault)
    with pytest.raises(CommandFailedError, match=reason):
        swap_encoder(NAME, PluginChoice.parse("coreml"), TRIAL_S)
    (answer,) = instance.read([page()], job="after").values()
    assert isinstance(answer, PageResult) and answer.encoder == "mlx"
