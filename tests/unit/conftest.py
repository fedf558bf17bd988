"""Fixtures that several unit tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dotsctl.protocol.machine.identity import Machine

from tests.fake_client import FakeClient
from tests.fake_hub import FakeHub, serving, snapshot_files


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, run_folder: Path, tmp_path: Path) -> Iterator[type[FakeClient]]:
    """A class of its own for each test, so that nothing is carried over; the current folder is empty."""
    kept: dict[str, Any] = {"created": [], "asked": [], "closed": 0, "failing": {}, "raising": None, "statuses": {}}
    kept |= {"losses": {}, "notices": []}
    fake = type("FakeClient", (FakeClient,), kept)
    monkeypatch.setattr("dotsctl.client.api.Client", fake)
    # On a Mac the encoder auto is a choice, and is reported.
    monkeypatch.setattr("dotsctl.client.settings.auto_encoder.this_machine", lambda: Machine("x86_64", "Linux 6", "1"))
    model = tmp_path / "models" / "small"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield fake


@pytest.fixture
def pull_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and nothing of the user's settings."""
    for name in [
        name for name in os.environ if name.startswith(("HF_", "DOTSCTL_")) or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)
    for name, folder in (
        ("DOTSCTL_MODELS", "models"),
        ("HF_HOME", "hf"),
        ("HOME", "home"),
        ("XDG_CACHE_HOME", "cache"),
    ):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("dotsctl.client.models.download.FIRST_PAUSE_S", 0.0)
    return tmp_path / "models"


@pytest.fixture
def remote(pull_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one good repository."""
    import huggingface_hub  # here, as most tests do not need it

    with serving(FakeHub(snapshot_files())) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def models(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, an empty current folder, and no runtime."""
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "models"
