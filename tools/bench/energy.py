"""``dotsctl bench energy``: watt-hours for 1,000 pages of each encoder, by the power meter of macOS.

First the meter watches the idle machine, and that power is subtracted. Then pages are encoded one after the other for
as long as it samples.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.client.settings.defaults import AUTO_FIRST, AUTO_SECOND
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.coreml.golden_page import draw_picture
from dotsctl.encoder_worker.coreml.manifest import MANIFEST, builds_directory
from dotsctl.encoder_worker.loading import load_encoder
from dotsctl.encoder_worker.opening import read_limits
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.geometry import PATCH_PX
from dotsctl.protocol.machine.identity import Machine, this_machine
from dotsctl.protocol.model.buckets import STANDARD
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import find_plugin
from dotsctl.tools.bench.power_meter import SLACK_S, metering
from dotsctl.tools.bench.powermetrics import UNITS, above, mean_watts, watt_hours_per_1000
from dotsctl.tools.measuring.report_text import LegendEntry

IDLE_S = 10.0
LARGEST = 4032
"""Most patches of the page unless the user chooses: an A4 page at about 90 dpi."""
HEAD = " s/page   CPU W   GPU W   ANE W  Wh/1,000 pages  encoder"
LEGEND = (
    LegendEntry("s/page", "seconds to encode one page"),
    LegendEntry("CPU W, GPU W, ANE W", "mean power above idle, in watts; ANE: the Neural Engine"),
    LegendEntry("Wh/1,000 pages", "watt-hours above idle for 1,000 pages"),
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Energy:
    """The energy of one encoder."""

    encoder: str
    patches: int
    pages: int
    """The number of pages that were encoded while the meter ran."""
    page_s: float
    watts: dict[str, float]
    """Mean power by unit, above idle: ``cpu``, ``gpu``, ``ane``."""
    idle_watts: dict[str, float]
    wh_per_1000_pages: float

    def row(self) -> str:
        """A line under ``HEAD``."""
        watts = "  ".join(f"{self.watts[unit]:6.2f}" for unit in UNITS)
        return f"{self.page_s:7.3f}  {watts}  {self.wh_per_1000_pages:14.2f}  {self.encoder}"


def verdict(measured: Sequence[Energy]) -> str:
    """Return which encoder takes the least energy, and how much more the others take, in one sentence."""
    best, *others = sorted(measured, key=lambda each: each.wh_per_1000_pages)
    least = best.wh_per_1000_pages
    more = (
        f"{each.encoder} takes {each.wh_per_1000_pages / least:.2f} times as much"
        if least > 0
        else f"{each.encoder} takes {each.wh_per_1000_pages:.2f} Wh"
        for each in others
    )
    return "; ".join([f"{best.encoder} takes {least:.2f} Wh for 1,000 pages", *more]) + "."


def require_mac(machine: Machine, what: str) -> None:
    """Raises MissingError elsewhere than on a Mac with Apple silicon."""
    if not machine.is_apple_silicon:
        raise MissingError(f"{what} needs a Mac with Apple silicon, and this is {machine.system} on {machine.chip}")


def measure(model: str | None, encoders: Sequence[str], patches: int | None, seconds: float, say: Say) -> list[Energy]:
    """Measure encoders one after the other; the machine should have nothing else to do.

    Args:
        model: name or path; none: the only installed one.
        encoders: plugins with options; none: those of ``auto``, the second one where there are packages.
        patches: of the page; none: the largest standard one that the model takes, up to 4032.
        seconds: for which the meter watches each encoder.
        say: receives the progress.

    Raises:
        MissingError: this is no Mac, or there is no such model.
        CommandFailedError: the meter may not be read, or reports nothing.
        UsageError: an encoder that there is not.
    """
    require_mac(this_machine(), "bench energy")
    folder = find_model(model)[1]
    chosen = [PluginChoice.parse(text) for text in encoders] or _usual(folder)
    count = patches or _usual_patches(folder)
    say(f"idle power, {IDLE_S:.0f} s: leave the machine alone")
    with metering(IDLE_S) as meter:
        idle = mean_watts(meter.samples())
    return [_measure_one(choice, folder, count, idle, seconds, say) for choice in chosen]


def _usual(model: Path) -> list[PluginChoice]:
    has_builds = any(builds_directory(fingerprint(model)).glob(f"[!.]*/{MANIFEST}"))
    return [PluginChoice(name) for name in ((AUTO_FIRST, AUTO_SECOND) if has_builds else (AUTO_FIRST,))]


def _usual_patches(model: Path) -> int:
    limit = min(LARGEST, read_limits(model).max_pixels // PATCH_PX**2)
    return max((bucket for bucket in STANDARD if bucket <= limit), default=limit // 4 * 4)


def _measure_one(
    choice: PluginChoice, model: Path, patches: int, idle: dict[str, float], seconds: float, say: Say
) -> Energy:
    page = PageImage(None, np.asarray(draw_picture(patches)), None)
    say(f"loading encoder {choice}")
    encoder, _ = load_encoder(find_plugin(Role.ENCODER, choice.name), model, choice.options, say)
    try:
        encode_images(encoder, [page])  # warms up
        say(f"encoding pages of {patches} patches for {seconds:.0f} s")
        with metering(seconds) as meter:
            started, pages = time.perf_counter(), 0
            while not pages or (meter.is_running and time.perf_counter() - started < seconds + SLACK_S):
                encode_images(encoder, [page])
                pages += 1
            page_s = (time.perf_counter() - started) / pages
            watts = above(mean_watts(meter.samples()), idle)
    finally:
        encoder.close()
    return Energy(str(choice), patches, pages, page_s, watts, idle, watt_hours_per_1000(watts, page_s))
