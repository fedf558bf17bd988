"""What a user who leaves a runtime running looks at: logs that are followed, a status that is watched, memory."""

import io
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.client.connection import launch
from dotsctl.client.connection.log_files import cut_off
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from PIL import Image

from tests.process.conftest import START_S, dotsctl

pytestmark = pytest.mark.process
NAME = "test"
END_S = 20.0


@pytest.fixture
def named(run_folder: Path) -> Iterator[None]:
    """A named runtime with fakes that is nobody's child."""
    fake = PluginChoice("fake")
    launch.start_detached(RuntimeConfig(NAME, "fake", "", fake, fake, memory_bytes=2 << 30), START_S)
    yield
    if launch.endpoints.lock_holder(launch.endpoints.instance_directory(NAME)) is not None:
        launch.stop(NAME, now=True, timeout_s=END_S)


@pytest.fixture
def command() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start ``dotsctl`` with words; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> "subprocess.Popen[str]":
        started.append(dotsctl(*words, "--name", NAME))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def wait_for(process: "subprocess.Popen[str]", text: str) -> str:
    """Read lines of standard output up to the one that has the text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"{text!r} did not come")


def test_logs_are_followed_over_a_cut_until_the_runtime_ends(
    named: None, command: Callable[..., "subprocess.Popen[str]"]
) -> None:
    following = command("logs", "-f")
    assert wait_for(following, "encoder (epoch 1) ready").startswith("runtime | ")
    path = launch.log_files(NAME)["encoder"]
    with path.open("ab") as log:
        log.write(b"2026 large\n" + b"x" * (8 << 20) + b"\n2026 marked\n")
    assert wait_for(following, "marked") == "encoder | 2026 marked\n"
    while path.stat().st_size:  # the runtime looks once a second, and tells nobody
        assert following.poll() is None
    (cut,) = cut_off(path)
    assert b"2026 marked" in cut.read_bytes()[-100:]
    with path.open("ab") as log:
        log.write(b"2026 behind the cut\n")
    assert wait_for(following, "behind") == "encoder | 2026 behind the cut\n"
    launch.stop(NAME, now=True, timeout_s=END_S)
    out, err = following.communicate(timeout=END_S)
    assert "runtime | " in out and "marked" not in out
    assert (following.returncode, err) == (0, "the runtime 'test' is no longer running\n")


def test_ctrl_c_ends_following_with_130(named: None, command: Callable[..., "subprocess.Popen[str]"]) -> None:
    following = command("logs", "-f", "runtime")
    wait_for(following, "ready")
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=END_S)
    assert (following.returncode, err) == (130, "")


@pytest.mark.macos
def test_a_watched_status_is_a_line_each_time_and_ends_with_the_runtime(
    named: None, command: Callable[..., "subprocess.Popen[str]"]
) -> None:
    watching = command("status", "--watch", "0.1", "--json")
    assert watching.stdout is not None
    answers = [json.loads(watching.stdout.readline()) for _ in range(3)]
    assert [answer["state"] for answer in answers] == ["ready"] * 3
    assert answers[2]["uptime_s"] - answers[0]["uptime_s"] > 0.15
    for worker in answers[2]["workers"]:
        assert 5_000_000 < worker["rss_bytes"] <= worker["peak_bytes"] < 2_000_000_000
    assert answers[2]["memory_bytes"] == 2 << 30
    launch.stop(NAME, now=True, timeout_s=END_S)
    _, err = watching.communicate(timeout=END_S)
    assert watching.returncode == 6
    assert err == "dotsctl: the runtime was stopped by SIGQUIT; finished pages are kept\n"


def test_every_stage_of_a_page_is_timed_and_the_parts_are_no_more_than_the_total(run_folder: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (56, 56), "white").save(picture, "PNG")
    with Client(encoder="fake:encode_ms=20,prepare_fault=blank", decoder="fake:decode_ms=40", private=True) as client:
        (page,) = client.ocr([picture.getvalue()], check_blank=False)
        (blank,) = client.ocr([picture.getvalue()])
    timings = page.timings_ms
    assert list(timings) == [
        "queue",
        "prepare_wait",
        "encode",
        "encode_total",
        "wait",
        "first_token",
        "decode",
        "total",
    ]
    assert min(timings.values()) >= 0.0
    assert 20 <= timings["encode"] <= timings["encode_total"]
    assert timings["first_token"] <= timings["decode"] > 35
    parts = sum(timings[stage] for stage in ("queue", "encode_total", "wait", "decode"))
    assert parts <= timings["total"]
    assert list(blank.timings_ms) == ["queue", "encode_total", "total"]
