"""Fixtures that several unit tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_client import FakeClient


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, run_folder: Path, tmp_path: Path) -> Iterator[type[FakeClient]]:
    """A class of its own for each test, so that nothing is carried over; the current folder is empty."""
    kept: dict[str, Any] = {"created": [], "asked": [], "closed": 0, "failing": {}, "raising": None, "statuses": {}}
    fake = type("FakeClient", (FakeClient,), kept)
    monkeypatch.setattr("dotsctl.client.api.Client", fake)
    model = tmp_path / "models" / "small"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield fake
