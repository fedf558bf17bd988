"""``dotsctl doctor --coreml``: everything that only a Mac can show of the Core ML encoder, in one report to send back.

python -P -m dotsctl.tools.doctor_coreml --model demo -o report.json

What fails is part of the report, and the rest goes on. Root is needed for the energy alone, and only used where sudo
does not ask for a password.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from dotsctl.client.auto_encoder import choose_encoder
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import Build, find_build
from dotsctl.encoder_worker.plugins.coreml import FIRST_MACOS
from dotsctl.protocol.blas import preload_blas
from dotsctl.protocol.errors import DotsctlError, ExitCode, MissingError, OutputError
from dotsctl.protocol.machine import Machine, this_machine
from dotsctl.protocol.model_directory import find_model, fingerprint
from dotsctl.tools.bench import energy as bench_energy
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.verify.coreml import comparison as verify_coreml
from dotsctl.tools.verify.coreml import report as verify_coreml_report
from dotsctl.tools.verify.coreml.comparison import DEVICE_UNITS
from dotsctl.tools.verify.report import versions

ENERGY_S = 20.0
Say = Callable[[str], None]


@dataclass
class Report:
    """What is sent back."""

    system: dict[str, Any]
    conversion: dict[str, Any] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)
    energy: list[dict[str, Any]] = field(default_factory=list)
    auto: str = ""
    """What ``--encoder auto`` stands for after all this."""
    failures: dict[str, str] = field(default_factory=dict)
    """By section: why it could not be done."""
    text: list[str] = field(default_factory=list)
    """The same for people."""

    def attempt(self, section: str, work: Callable[[], Any]) -> Any:
        """What ``work`` gives; none where it fails, and then the failure is noted."""
        try:
            return work()
        except (DotsctlError, OSError, MemoryError) as error:
            self.failures[section] = f"{type(error).__name__}: {error}"
            self.text.append(f"{section}: FAILED: {error}")
            return None


def require_mac(machine: Machine) -> None:
    """Raises MissingError where Core ML cannot run our packages."""
    bench_energy.require_mac(machine, "doctor --coreml")
    version = machine.system.removeprefix("macOS ")
    if int(version.partition(".")[0]) < FIRST_MACOS:
        raise MissingError(f"doctor --coreml needs macOS {FIRST_MACOS} or later, this is {version}")


def examine(model: str | None, build: str | None, machine: Machine, say: Say) -> Report:
    """Convert where nothing is converted, try, verify, time and meter.

    Args:
        model: name or path; none: the only installed one.
        build: its name; none: as the encoder chooses.
        machine: this one.
        say: told what goes on.

    Raises:
        MissingError: there is no such model.
        UsageError: several models are installed and none was chosen.
    """
    name, folder = find_model(model)
    report = Report(_system(name, machine))
    report.text += [f"{key:<12} {value}" for key, value in report.system.items() if key != "versions"]
    report.text += [f"{key:<12} {value}" for key, value in report.system["versions"].items()]
    made = report.attempt("conversion", lambda: _build(folder, build, report, say))
    if made is not None:
        order = verify_coreml.Order(str(folder), made[0].name, (min(made[1].buckets),), DEVICE_UNITS)
        report.attempt("verification", lambda: _verify(order, made[1], report, machine, say))
    report.attempt("energy", lambda: _energy(folder, report, say))
    report.auto = str(choose_encoder(folder, {}, machine))
    report.text.append(f"--encoder auto: {report.auto}")
    return report


def _system(model: str, machine: Machine) -> dict[str, Any]:
    import_coremltools()  # without it there is nothing to examine
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"model": model, **asdict(machine), "memory_gib": round(memory_gib, 1), "versions": versions()}


def _build(model: Path, name: str | None, report: Report, say: Say) -> tuple[Path, Build]:
    """The build, made where there is none."""
    digest, started = fingerprint(model), time.monotonic()
    try:
        folder, build = find_build(model, digest, name)
        report.conversion = {"build": folder.name, "made": False}
    except MissingError as error:
        if name is not None:
            raise
        say(f"{error}; making them now")
        convert_encoder(model, ConversionOptions(), say)
        folder, build = find_build(model, digest, None)
        report.conversion = {"build": folder.name, "made": True, "seconds": time.monotonic() - started}
    report.conversion |= {"bytes": build.nbytes, "buckets": build.buckets, "versions": build.versions}
    took = f", made in {report.conversion['seconds']:.0f} s" if report.conversion["made"] else ""
    report.text.append(f"build        {folder.name}, {build.nbytes / 1e6:,.0f} MB, pages of {build.buckets}{took}")
    return folder, build


def _verify(order: verify_coreml.Order, build: Build, report: Report, machine: Machine, say: Say) -> None:
    _, found = verify_coreml.compare(order, say, machine)
    report.verification = verify_coreml_report.content(found, build)
    report.verification["operations"] = {device.verdict.units: device.operations for device in found.devices}
    report.text.append(verify_coreml_report.table(found))


def _energy(model: Path, report: Report, say: Say) -> None:
    measured = bench_energy.measure(str(model), (), None, ENERGY_S, say)
    report.energy = [asdict(each) for each in measured]
    report.text += [bench_energy.HEAD, *(each.row() for each in measured)]


def sections(report: Report) -> Iterator[str]:
    """The lines for people; the last one says how it went."""
    yield from report.text
    failed = ", ".join(report.failures)
    yield f"not everything could be done: {failed} failed" if failed else "everything was done"


@click.command()
@click.option("--model", metavar="NAME|PATH", help="The model; else the only installed one.")
@click.option(
    "--build", metavar="NAME", help="The packages; else as the encoder chooses. They are made where none are."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write all of it as JSON too.")
def cli(model: str | None, build: str | None, output: Path | None) -> None:
    """Examine the Core ML encoder on this Mac and print a report to send back; minutes, with the first loads more."""
    machine = this_machine()
    require_mac(machine)
    preload_blas()
    report = examine(model, build, machine, lambda line: click.echo(line, err=True))
    for line in sections(report):
        click.echo(line)
    if output is not None:
        try:
            output.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{output} cannot be written ({error.strerror}): choose another file with -o") from None
        click.echo(f"{output}: send this file back", err=True)
    sys.exit(ExitCode.SOME_FAILED if report.failures else ExitCode.OK)


def main() -> None:
    """Run the command line."""
    try:
        cli(prog_name="dotsctl doctor --coreml")
    except DotsctlError as error:
        click.echo(f"dotsctl: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
