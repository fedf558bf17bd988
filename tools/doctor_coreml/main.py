"""The command ``dotsctl doctor --coreml``: runs the sections in order and writes the report after each.

dotsctl doctor --coreml --model demo

A section that fails is part of the report, and the others are run. Root is needed for the energy alone, and only used
where sudo needs no password.
"""

import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from dotsctl.client.cli.completion import MODEL
from dotsctl.client.files.streams import is_stream
from dotsctl.encoder_worker.coreml.manifest import REFERENCE
from dotsctl.encoder_worker.coreml.options import FIRST_MACOS
from dotsctl.encoder_worker.coreml.probe_process import STEP_LIMIT_S
from dotsctl.encoder_worker.coreml.residency import GPU, NEURAL_ENGINE
from dotsctl.encoder_worker.plugins import COREML, MLX
from dotsctl.protocol.errors import ExitCode, MissingError, UsageError
from dotsctl.protocol.machine.identity import Machine, this_machine
from dotsctl.protocol.model.directory import find_model
from dotsctl.tools.bench.energy import require_mac as require_apple_silicon
from dotsctl.tools.doctor import child
from dotsctl.tools.doctor_coreml.order import SectionRequest
from dotsctl.tools.doctor_coreml.report import MAX_ATTEMPTS, CoreMLReport, ReportSection, SectionState, lines, summary
from dotsctl.tools.doctor_coreml.section_process import run_section

OUTPUT = Path("dotsctl-coreml-report.json")
SILENT_S = STEP_LIMIT_S + 120.0
"""Longest time of a section without progress: a trial ends its own child after ``STEP_LIMIT_S``."""
UNITS = ("cpu_and_ne", "cpu_only", "cpu_and_gpu")
"""The GPU comes last: some versions of macOS abort there."""
KINDS = ("trial", "verification", "laboratory", "energy", "auto")
ENCODERS = (MLX, COREML)


@dataclass(frozen=True)
class SectionPlan:
    """One section that is to be run."""

    kind: str
    subject: str = ""
    skipped: str = ""
    """The reason why it is not run; empty: it is."""

    @property
    def name(self) -> str:
        """Its name in the report."""
        return f"{self.kind}: {self.subject}" if self.subject else self.kind


def require_mac(machine: Machine) -> None:
    """Raise MissingError where Core ML cannot run our packages."""
    require_apple_silicon(machine, "doctor --coreml")
    if machine.macos_version < FIRST_MACOS:
        raise MissingError(f"doctor --coreml needs macOS {FIRST_MACOS} or later, this is {machine.system}")


def chosen_plans(report: CoreMLReport) -> Iterator[SectionPlan]:
    """Yield the sections that the report is to have; see :func:`plans`."""
    kinds = {"system", "conversion", *(report.only or KINDS)}
    if "laboratory" in kinds:
        kinds.add("package")
    return (plan for plan in plans(report) if plan.kind in kinds)


def plans(report: CoreMLReport) -> Iterator[SectionPlan]:
    """Yield all sections in order; later ones depend on what earlier ones left in the report."""
    yield SectionPlan("system")
    devices = report.result("system").get("devices", [])
    no_engine = "" if NEURAL_ENGINE in devices else "this machine offers Core ML no Neural Engine"
    no_gpu = no_engine or ("" if GPU in devices else "this machine offers Core ML no GPU")
    skipped = {"cpu_and_ne": no_engine, "cpu_and_gpu": no_gpu}
    yield SectionPlan("conversion")
    no_build = "" if report.result("conversion") else "there is no build"
    for units in UNITS:
        yield SectionPlan("trial", units, no_build or skipped.get(units, ""))
    for units in (REFERENCE, *UNITS):
        yield SectionPlan("verification", units, no_build or _not_verified(report, units))
    yield SectionPlan("laboratory", "", no_build or no_engine)
    for package in report.result("laboratory").get("packages", []):
        yield SectionPlan("package", package["name"])
    for encoder in ENCODERS:
        yield SectionPlan("energy", encoder, (no_build or no_engine) if encoder == COREML else "")
    yield SectionPlan("auto")


def _not_verified(report: CoreMLReport, units: str) -> str:
    """Return why the smallest page is not verified on compute units; empty: it is."""
    if units == REFERENCE:
        return ""
    trials = report.result(f"trial: {units}").get("verdict", {}).get("trials", [])
    return "" if trials and not trials[0]["reason"] else "its trial did not pass"


def run(report: CoreMLReport, model: Path, output: Path) -> None:
    """Run the sections that the report does not have yet, and write it after each.

    Raises:
        OutputError: the report cannot be written.
    """
    work = _work_folder(output)
    report.write(output)  # before hours of work
    for plan in chosen_plans(report):
        if report.is_settled(plan.name):
            continue
        before = report.sections.get(plan.name)
        attempts = before.attempts if before else 0
        if plan.skipped:
            section = ReportSection(SectionState.SKIPPED, failure=plan.skipped)
        elif attempts >= MAX_ATTEMPTS:
            section = ReportSection(
                SectionState.FAILED, attempts, failure=f"the report was interrupted in it {attempts} times"
            )
        else:
            report.sections[plan.name] = ReportSection(SectionState.RUNNING, attempts + 1)
            report.write(output)
            click.echo(f"{plan.name} ...", err=True)
            order = SectionRequest(str(model), report.build, str(work), plan.subject)
            section = run_section(plan.kind, order, SILENT_S, attempts + 1, lambda text: click.echo(text, err=True))
        report.sections[plan.name] = section
        report.write(output)
        for line in lines(plan.name, section):
            click.echo(line)
    report.is_complete = True
    report.write(output)
    shutil.rmtree(work, ignore_errors=True)


def _work_folder(output: Path) -> Path:
    """Return the folder that the sections share, next to the report; it is removed with the last one."""
    return output.with_name(f"{output.name}.work")


def _report(model: str | None, build: str | None, only: tuple[str, ...], output: Path, *, resume: bool) -> CoreMLReport:
    """A new report, or the interrupted one. Raises UsageError."""
    if not resume:
        if is_stream(output):
            raise UsageError(f"{output} is not a file, and each section replaces the report: choose a file with -o")
        if output.exists():
            raise UsageError(f"{output} exists", "continue it with --resume, or choose another file with -o")
        if (work := _work_folder(output)).exists():
            raise UsageError(f"{work} exists, and would be removed", "rename it, or choose another file with -o")
        return CoreMLReport(model or find_model(None)[0], build, only)
    report = CoreMLReport.read(output)
    if model not in (None, report.model) or build not in (None, report.build) or (only and only != report.only):
        chosen = f"model {report.model}, build {report.build or 'not chosen'}"
        raise UsageError(f"{output} is a report on {chosen}", "give --resume without other options")
    return report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=MODEL, metavar="NAME|PATH", help="Model. [default: the only installed one]")
@click.option("--build", metavar="NAME", help="Packages; converted if there are none. [default: as the encoder]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=OUTPUT, show_default=True,
    metavar="FILE", help="Report file; JSON, written after each section."
)  # fmt: skip
@click.option(
    "--only", type=click.Choice(KINDS), multiple=True, help="Run these sections; may be repeated. [default: all]"
)
@click.option("--resume", is_flag=True, help="Resume an interrupted report.")
def cli(model: str | None, build: str | None, output: Path, only: tuple[str, ...], resume: bool) -> None:
    """Test the Core ML encoder of this Mac.

    The report is a file to send back.

    Sections: devices, conversion, trial and verification on each of the compute units, a laboratory of one-layer
    packages, energy (where 'sudo -v' was run before). Each runs in a process of its own; first loads take minutes.

    \b
    Exit codes: 0 all sections are done; 1 some failed. The report is complete in both cases.
    """
    require_mac(this_machine())
    report = _report(model, build, only, output, resume=resume)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        run(report, find_model(report.model)[1], output)
    except KeyboardInterrupt:
        click.echo("interrupted: run the same command with --resume to continue", err=True)
        raise
    finally:
        child.end_all()
    click.echo(summary(report))
    click.echo(f"{output}: send this file back", err=True)
    sys.exit(ExitCode.SOME_FAILED if report.failed else ExitCode.OK)
