"""The choice of auto is reported once, where a runtime is started, and only where there was one."""

import os
from types import SimpleNamespace

import pytest
from dotsctl.client.cli import ocr as cli_ocr
from dotsctl.client.connection import launch
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.auto_encoder import AutoPlan
from dotsctl.client.settings.runtime_config import AutoEncoders, PluginChoice
from dotsctl.protocol.endpoints import RuntimeFacts
from dotsctl.protocol.parts import Role, WorkerReport

from tests.fake_client import FakeClient, call, pictures

LINE = "encoder auto: mlx; coreml:build=float16 loads in the background and then reads the pages that it reads faster\n"


@pytest.fixture(autouse=True)
def chosen(client: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = AutoPlan(PluginChoice("mlx"), PluginChoice("coreml", {"build": "float16"}), AutoEncoders())
    monkeypatch.setattr(settings, "choose_encoder", lambda model, options: plan)
    pictures("a.png")


def test_ocr_reports_which_encoder_auto_took_and_why() -> None:
    result = call("ocr", "a.png")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "text of a.png\n", LINE)


@pytest.mark.parametrize("options", [("-q",), ("--encoder", "mlx")])
def test_ocr_does_not_report_it_when_it_is_quiet_or_when_the_user_chose(options: tuple[str, ...]) -> None:
    assert call("ocr", *options, "a.png").stderr == ""


def test_ocr_does_not_report_it_where_a_runtime_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_ocr, "lock_holder", lambda directory: os.getpid())
    assert call("ocr", "a.png").stderr == ""


def test_up_reports_it_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def start(config: object, timeout_s: float) -> RuntimeFacts:
        started.append(config)
        raise settings.UsageError("enough")

    monkeypatch.setattr(launch, "start_detached", start)
    result = call("up", "-d")
    assert result.stderr.startswith(
        LINE + "starting 'default': model small, encoder mlx and coreml:build=float16, decoder mlx"
    )
    assert len(started) == 1


@pytest.mark.parametrize("state", ["fatal", "ready"])
def test_ocr_warns_of_an_encoder_that_auto_gave_up(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    note = "not used: it failed 3 times in a row"
    worker = WorkerReport(Role.ENCODER, "coreml", state, 1, 1, 0, "", 0, 0.0, "", place=1, note=note)
    monkeypatch.setattr(client, "encoder", "auto")
    monkeypatch.setattr(client, "status", lambda self: SimpleNamespace(workers=(worker,)), raising=False)
    warning = f"warning: encoder coreml is {note}\n" if state == "fatal" else ""
    assert call("ocr", "a.png").stderr == LINE + warning
    assert call("ocr", "-q", "a.png").stderr == ""
