"""The power meter's output, the meter itself, and the energy of encoders; the meter is played by small programs."""

import json
import plistlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec, PageImage
from dotsctl.protocol.errors import CommandFailedError, MissingError
from dotsctl.protocol.geometry import PixelLimits, fit
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.worker.plugins import described
from dotsctl.tools.bench import energy as bench_energy
from dotsctl.tools.bench import main as bench
from dotsctl.tools.bench import power_meter
from dotsctl.tools.bench.power_meter import command_line, metering
from dotsctl.tools.bench.powermetrics import Sample, above, mean_watts, parse, watt_hours_per_1000

MAC = Machine("Apple M2", "macOS 26.1", "25B1")
SAMPLE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>500000000</integer>
<key>hw_model</key><string>Mac14,2</string>
<key>timestamp</key><date>2026-01-02T03:04:05Z</date>
<key>processor</key><dict>
 <key>clusters</key><array><dict><key>name</key><string>E-Cluster</string></dict></array>
 <key>ane_energy</key><integer>1000</integer>
 <key>ane_power</key><real>2000</real>
 <key>cpu_energy</key><integer>250</integer>
 <key>cpu_power</key><real>500</real>
 <key>gpu_energy</key><integer>50</integer>
 <key>gpu_power</key><real>100</real>
 <key>combined_power</key><real>2600</real>
</dict>
<key>gpu</key><dict><key>freq_hz</key><real>444.5</real><key>idle_ratio</key><real>0.97</real></dict>
</dict>
</plist>
"""


def sample(seconds: float = 1.0, **processor: float) -> bytes:
    return plistlib.dumps({"elapsed_ns": int(seconds * 1e9), "processor": processor})


def test_energies_are_read_from_a_property_list_as_the_meter_writes_it() -> None:
    (found,) = parse(SAMPLE.encode())
    assert found == Sample(0.5, {"cpu": 0.25, "gpu": 0.05, "ane": 1.0})
    assert mean_watts([found]) == {"cpu": 0.5, "gpu": 0.1, "ane": 2.0}


def test_samples_are_parted_by_nul_and_weighed_by_their_time() -> None:
    stream = b"\0".join([sample(1, cpu_energy=1000, gpu_energy=0, ane_energy=0), SAMPLE.encode(), b"\n"])
    samples = parse(stream)
    assert len(samples) == 2
    assert mean_watts(samples)["cpu"] == pytest.approx(1.25 / 1.5)


def test_power_is_taken_where_there_is_no_energy_and_the_gpu_may_have_a_place_of_its_own() -> None:
    content = {
        "elapsed_ns": 2_000_000_000,
        "processor": {"cpu_power": 1500.0, "ane_power": 0},
        "gpu": {"gpu_energy": 3000},
    }
    (found,) = parse(plistlib.dumps(content))
    assert found.joules == {"cpu": 3.0, "gpu": 3.0, "ane": 0.0}


def test_a_sample_that_was_cut_off_at_the_end_is_left_out() -> None:
    assert len(parse(SAMPLE.encode() + b"\0" + SAMPLE.encode()[:300])) == 1


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (b"", "gave no samples"),
        (b"powermetrics: unrecognized sampler", "sample 1 of powermetrics is no property list"),
        (b"odd\0" + SAMPLE.encode(), "sample 1 of powermetrics is no property list"),
        (sample(1, cpu_energy=1, gpu_energy=1), "tells nothing of ane"),
        (sample(0, cpu_energy=1), "no elapsed_ns"),
        (plistlib.dumps([1]), "no elapsed_ns"),
    ],
)
def test_what_is_no_output_of_the_meter_is_refused(stream: bytes, problem: str) -> None:
    with pytest.raises(CommandFailedError, match=problem):
        parse(stream)


def test_idle_power_is_subtracted_and_never_below_nothing() -> None:
    assert above({"cpu": 5.0, "gpu": 0.1}, {"cpu": 1.5, "gpu": 0.3}) == {"cpu": 3.5, "gpu": 0.0}
    assert watt_hours_per_1000({"cpu": 3.0, "ane": 0.6}, 2.0) == pytest.approx(2.0)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_the_meter_gives_its_samples_when_it_has_ended() -> None:
    with metering(1.0, program(f"print({SAMPLE!r})")) as meter:
        assert meter.samples()[0].seconds == 0.5
        assert not meter.is_running


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("raise SystemExit('sudo: a password is required')", "sudo -v"),
        ("raise SystemExit('odd')", "ended with code 1: odd"),
        ("raise SystemExit(2)", "code 2: without a message"),
    ],
)
def test_a_meter_that_fails_is_reported_with_its_message(text: str, problem: str) -> None:
    with metering(1.0, program(text)) as meter, pytest.raises(CommandFailedError, match=problem):
        meter.samples()


def test_a_meter_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_meter, "SLACK_S", 0.1)
    text = "import threading; threading.Event().wait()"
    with metering(0.1, program(text)) as meter, pytest.raises(CommandFailedError, match="did not end within"):
        meter.samples()


def test_a_meter_that_is_not_there_is_reported() -> None:
    with pytest.raises(CommandFailedError, match="cannot be run"), metering(1.0, ["/no/such/meter"]):
        pass


def test_the_meter_is_run_for_property_lists_with_a_sudo_that_does_not_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(power_meter.os, "geteuid", lambda: 501)
    words = command_line(10.0)
    assert words[:3] == ["/usr/bin/sudo", "-n", "/usr/bin/powermetrics"]
    assert words[3:] == ["--format", "plist", "--samplers", "cpu_power,gpu_power,ane_power", "-i", "500", "-n", "20"]
    monkeypatch.setattr(power_meter.os, "geteuid", lambda: 0)
    assert command_line(10.0) == words[2:]


class Slow:
    """An encoder whose pages take a known time, by the clock that it is given."""

    clock = 0.0

    def load(self, model: Path, options: Any, report: Any) -> EncoderSpec:
        assert options.get("b") in (None, "c")
        return EncoderSpec("f", 4, "<f4")

    def encode(self, images: list[PageImage]) -> list[EncodedPage]:
        Slow.clock += 2.0
        pixels = images[0].pixels
        size = (56, 56) if pixels is None else (pixels.shape[1], pixels.shape[0])  # the warm-up page is a file
        geometry = fit(size, 1, PixelLimits())
        return [EncodedPage(np.zeros((1, 4), np.float32), (2, 2), geometry)]

    def close(self) -> None:
        Slow.clock += 0.0


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A meter that sees 1 W of CPU when idle and 3 W, and 2 W of the Neural Engine, at work."""
    idle = {"cpu_power": 1000, "gpu_power": 100, "ane_power": 0}
    states = iter([idle] + [{"cpu_power": 3000, "gpu_power": 50, "ane_power": 2000}] * 9)

    def command(seconds: float) -> list[str]:
        file = tmp_path / "meter.plist"
        file.write_bytes(sample(seconds, **next(states)))
        return program(f"import sys; sys.stdout.buffer.write(open({str(file)!r}, 'rb').read())")

    monkeypatch.setattr(power_meter, "command_line", command)
    monkeypatch.setattr(bench_energy, "this_machine", lambda: MAC)
    monkeypatch.setattr(bench_energy, "find_plugin", lambda role, name: described(role, name, Slow))
    monkeypatch.setattr(bench_energy.time, "perf_counter", lambda: Slow.clock)
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("on_a_mac")
def test_the_energy_of_each_encoder_is_its_power_above_idle_times_its_time() -> None:
    words = ["energy", "--model", "demo", "--encoder", "mlx", "--encoder", "a:b=c", "--json"]
    result = CliRunner().invoke(bench.cli, words)
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["encoders"]
    assert (first["encoder"], second["encoder"]) == ("mlx", "a:b=c")
    assert first["watts"] == {"cpu": 2.0, "gpu": 0.0, "ane": 2.0}
    assert first["page_s"] == pytest.approx(2.0) and first["patches"] == 960
    assert first["wh_per_1000_pages"] == pytest.approx(4.0 * 2000 / 3600)


@pytest.mark.usefixtures("on_a_mac")
def test_without_packages_mlx_alone_is_measured_and_shown_in_a_table() -> None:
    result = CliRunner().invoke(bench.cli, ["energy", "--model", "demo", "--patches", "24"])
    assert result.exit_code == 0, result.output
    head, row = result.stdout.splitlines()
    assert head == bench_energy.HEAD and row.split() == ["2.000", "2.00", "0.00", "2.00", "2.22", "mlx"]


def test_elsewhere_it_reports_that_it_needs_a_mac() -> None:
    linux = Machine("x86_64", "Linux 6", "1")
    with pytest.raises(MissingError, match="needs a Mac with Apple silicon, and this is Linux 6 on x86_64"):
        bench_energy.require_mac(linux, "bench energy")
