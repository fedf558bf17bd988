"""Sleep prevention with a program that stands for caffeinate."""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotsctl.client.runtime import power
from dotsctl.client.runtime.power import RELEASE_AFTER_S, SleepPrevention, is_on_mains_power

from tests.macos.caffeinate import Caffeinate


@pytest.fixture
def caffeinate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caffeinate]:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(power.sys, "platform", "darwin")
    monkeypatch.setattr(power, "is_on_mains_power", lambda: True)
    made = Caffeinate(tmp_path)
    yield made
    made.close()


def test_the_mac_stays_awake_from_the_first_request_until_some_seconds_after_the_last(caffeinate: Caffeinate) -> None:
    prevention = SleepPrevention()
    prevention.update(is_busy=False, now=100.0)
    assert caffeinate.starts == 0
    prevention.update(is_busy=True, now=101.0)
    caffeinate.wait_started()
    prevention.update(is_busy=True, now=102.0)
    prevention.update(is_busy=False, now=102.0 + RELEASE_AFTER_S - 1)
    prevention.update(is_busy=True, now=102.0 + RELEASE_AFTER_S)
    prevention.update(is_busy=False, now=102.0 + 2 * RELEASE_AFTER_S)
    caffeinate.wait_ended()
    assert caffeinate.starts == 1
    prevention.update(is_busy=True, now=200.0)
    caffeinate.wait_started()
    assert caffeinate.starts == 2
    prevention.close()
    caffeinate.wait_ended()
    assert caffeinate.arguments.read_text() == 2 * f"-i -w {os.getpid()}\n"


def test_on_its_battery_the_mac_may_sleep(caffeinate: Caffeinate, monkeypatch: pytest.MonkeyPatch) -> None:
    prevention = SleepPrevention()
    prevention.update(is_busy=True, now=1.0)
    caffeinate.wait_started()
    monkeypatch.setattr(power, "is_on_mains_power", lambda: False)
    prevention.update(is_busy=True, now=2.0)
    caffeinate.wait_ended()
    monkeypatch.setattr(power, "is_on_mains_power", lambda: True)
    prevention.update(is_busy=True, now=3.0)
    caffeinate.wait_started()
    prevention.close()
    assert caffeinate.starts == 2


def test_a_missing_caffeinate_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(power.sys, "platform", "darwin")
    monkeypatch.setattr(power, "is_on_mains_power", lambda: True)
    prevention = SleepPrevention()
    for now in (1.0, 2.0, 3.0):
        prevention.update(is_busy=True, now=now)
    assert len(caplog.messages) == 1 and "cannot start caffeinate" in caplog.text


def test_a_caffeinate_that_fails_is_one_warning_and_is_not_started_again(
    caffeinate: Caffeinate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "caffeinate").write_text(f'#!/bin/sh\necho "$@" >> {caffeinate.arguments}\nexit 3\n')
    prevention = SleepPrevention()
    prevention.update(is_busy=True, now=1.0)
    poll = select.poll()
    for now in range(2, 2000):
        prevention.update(is_busy=True, now=float(now))
        if caplog.messages:
            break
        poll.poll(5)
    prevention.update(is_busy=True, now=3000.0)
    assert caffeinate.starts == 1
    assert "exit code 3" in caplog.text and len(caplog.messages) == 1


def test_other_systems_start_nothing(caffeinate: Caffeinate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power.sys, "platform", "linux")
    SleepPrevention().update(is_busy=True, now=1.0)
    assert caffeinate.starts == 0


def test_the_power_source_is_read_from_iokit(libsystem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "IOKIT", str(libsystem))
    assert is_on_mains_power()
    monkeypatch.setenv("STAND_IN_BATTERY_S", "7200")
    assert not is_on_mains_power()
    monkeypatch.setenv("STAND_IN_BATTERY_S", "-1")  # unplugged a moment ago, and not yet estimated
    assert not is_on_mains_power()
    monkeypatch.setattr(power, "IOKIT", "/no/such/framework")
    assert is_on_mains_power()


@pytest.mark.skipif(sys.platform != "darwin", reason="asks IOKit of a Mac")
def test_a_mac_knows_its_power_source() -> None:
    assert is_on_mains_power() in (True, False)
