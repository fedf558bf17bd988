"""Values of the macOS kernel, from a library of the same interface; on a Mac from the kernel itself."""

import sys
from pathlib import Path

import pytest
from dotsctl.protocol.machine import sysctl
from dotsctl.protocol.machine.sysctl import sysctl_number, sysctl_text


def test_texts_and_numbers_of_both_sizes_are_read(libsystem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "LIBRARY", str(libsystem))
    monkeypatch.setenv("STAND_IN_MEMSIZE", str(192 << 30))
    monkeypatch.setenv("STAND_IN_WIRED_LIMIT_MB", "20480")
    assert sysctl_text("machdep.cpu.brand_string") == "Apple M2"
    assert sysctl_text("kern.osversion") == "25B78"
    assert sysctl_number("hw.memsize") == 192 << 30
    assert sysctl_number("iogpu.wired_limit_mb") == 20480


def test_a_name_that_the_kernel_does_not_know_has_no_value(libsystem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "LIBRARY", str(libsystem))
    assert sysctl_text("no.such.name") is None
    assert sysctl_number("no.such.name") is None


def test_a_text_is_no_number(libsystem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "LIBRARY", str(libsystem))
    assert sysctl_number("kern.osversion") is None


def test_no_value_exists_outside_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "LIBRARY", "/no/such/library")
    assert sysctl_text("kern.osversion") is None
    monkeypatch.setattr(sysctl, "LIBRARY", None)
    if sys.platform == "linux":
        assert sysctl_number("hw.memsize") is None


@pytest.mark.skipif(sys.platform != "darwin", reason="asks the kernel of a Mac")
def test_the_kernel_of_a_mac_answers() -> None:
    assert sysctl_text("kern.osversion")
    assert (sysctl_number("hw.memsize") or 0) >= 4 << 30
