"""Runs on one machine everything that only a Mac can show, and packs what it found into one file to send back.

``tools/first_mac.sh`` installs dotsctl and starts ``python -P -m dotsctl.tools.dev.mac_report`` in a checkout. A
section that fails or takes too long is a line of the report, and the next one runs. The path of the home folder and the
names of the user and the machine are taken out of every packed file.
"""

import contextlib
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.client.files.part_file import output_error
from dotsctl.encoder_worker.plugins import COREML, MLX
from dotsctl.protocol.errors import ExitCode, UsageError
from dotsctl.protocol.machine import memory
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.machine.sysctl import sysctl_number, sysctl_text
from dotsctl.protocol.model.files import replacing
from dotsctl.tools.coreml.options import BITS
from dotsctl.tools.measuring.versions import versions

REPORT = "report.json"
PYTHON = (sys.executable, "-P", "-m")
DOTSCTL = (*PYTHON, "dotsctl")
PAGES = Path("client") / "sample_pages"
ERROR_LIMIT = 0.1
"""Share of wrong characters on ``client/sample_pages`` above which the demo model does not read."""
ALL_UNITS = ("cpu_and_ne", "cpu_only")
CPU_UNITS = ("cpu_only",)
REFERENCE = "reference"
"""Compute units of the interpreter, which stands for Core ML on other systems."""


@dataclass(frozen=True)
class MacSection:
    """One command of the report."""

    name: str
    command: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class SectionOutcome:
    """The result of a section; its output is in the file ``log``."""

    name: str
    command: str
    exit_code: int | None
    """The exit code; none where the section was ended at its time limit."""
    seconds: float
    log: str


@dataclass
class MacReport:
    """Content of ``report.json``."""

    machine: dict[str, Any]
    versions: dict[str, str]
    sections: list[SectionOutcome] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Return whether every section ended with exit code 0."""
        return all(outcome.exit_code == 0 for outcome in self.sections)


def sections(units: tuple[str, ...], folder: Path) -> Iterator[MacSection]:
    """Return the sections in the order in which one explains the next.

    Args:
        units: compute units of Core ML, the most important first.
        folder: gets files that commands write.
    """
    pytest = (*PYTHON, "pytest", "-q", "-p", "no:cacheprovider")
    yield MacSection("unit_tests", (*pytest, "tests/unit"), 1800)
    yield MacSection("process_tests", (*pytest, "-n", "3", "--dist", "loadfile", "tests/process"), 1800)
    yield MacSection("doctor", (*DOTSCTL, "doctor", "--model", "demo", "--json"), 600)
    yield MacSection("mlx_pages", _pages(MLX), 900)
    for weights in BITS:
        build = "float16" if weights == "same" else f"float16-{weights}"
        convert = ("convert", "demo", "--encoder", COREML, "--weights", weights, "--build", build)
        yield MacSection(f"convert_{weights}", (*DOTSCTL, *convert), 900)
        verify = ("dotsctl.tools.dev.verify", "--encoder", COREML, "--model", "demo", "--build", build)
        chosen = [word for each in units if each != REFERENCE for word in ("--units", each)]
        yield MacSection(
            f"verify_{weights}", (*PYTHON, *verify, *chosen, "--output", str(folder / f"verify_{weights}")), 3600
        )
    for each in units:
        yield MacSection(f"coreml_pages_{each}", _pages(f"coreml:build=float16,compute_units={each}"), 1800)
    if REFERENCE not in units:
        doctor: tuple[str, ...] = ("doctor", "--coreml", "--model", "demo", "-o", str(folder / "doctor_coreml.json"))
        if units == CPU_UNITS:  # the laboratory and the energy are about the Neural Engine
            doctor += ("--only", "trial", "--only", "verification")
        yield MacSection("doctor_coreml", (*DOTSCTL, *doctor), 3 * 3600)


def _pages(encoder: str) -> tuple[str, ...]:
    """Return the command that reads the pages of known text with an encoder and fails on wrong text."""
    evaluate = (*PYTHON, "dotsctl.tools.dev.evaluate", "--folder", str(PAGES), "--model", "demo", "--json")
    return (*evaluate, "--encoder", encoder, "--limit", str(ERROR_LIMIT))


def run(section: MacSection, folder: Path) -> SectionOutcome:
    """Run a section to its end or its time limit; every process that it started is gone then."""
    log = folder / f"{section.name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            section.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            exit_code: int | None = process.wait(section.timeout_s)
        except subprocess.TimeoutExpired:
            exit_code = None
        finally:
            _end_group(process)
    return SectionOutcome(
        section.name, " ".join(section.command), exit_code, round(time.monotonic() - started, 1), log.name
    )


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a command and what is left of its process group."""
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe_machine() -> dict[str, Any]:
    """Return chip, system and memory of this machine; nothing that names it or its owner."""
    limits = memory.memory_limit()
    return {
        **asdict(this_machine()),
        "model": sysctl_text("hw.model"),
        "physical_bytes": limits.physical_bytes,
        "usable_bytes": limits.usable_bytes,
        "iogpu_wired_limit_mb": sysctl_number("iogpu.wired_limit_mb"),
        "cores": os.cpu_count(),
    }


def private_names() -> dict[str, str]:
    """Return what must not be packed, with what stands for it: home folder, folder of temporary files, names.

    The user is read from the system, as ``first_mac.sh`` sets another ``HOME``.
    """
    user, host, scratch = pwd.getpwuid(os.getuid()), socket.gethostname(), tempfile.gettempdir()
    found = {user.pw_dir: "~", str(Path.home()): "~", scratch: "TMP", os.path.realpath(scratch): "TMP"}
    full_name = user.pw_gecos.partition(",")[0]
    return found | {user.pw_name: "USER", full_name: "USER", host: "HOST", host.partition(".")[0]: "HOST"}


def scrub(text: str, private: Mapping[str, str]) -> str:
    """Replace every private name in a text, the longest first; names stand alone, paths also before others."""
    names = sorted((name for name in private if name.strip("/")), key=len, reverse=True)
    if not names:
        return text
    pattern = "|".join(re.escape(name) if "/" in name else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])" for name in names)
    return re.sub(pattern, lambda match: private[match[0]], text)


def pack(folder: Path, archive: Path, private: Mapping[str, str]) -> None:
    """Pack the texts of a folder, scrubbed; pictures and other files are left out, and so is the owner.

    Raises:
        OSError: a file cannot be written.
    """
    with (
        replacing(archive) as partial,
        partial.open("wb") as sink,
        tarfile.open(archive, "w:gz", fileobj=sink) as packed,  # the archive holds the name, that of ``partial`` not
    ):
        for path in sorted(folder.rglob("*")):
            if path.suffix not in (".json", ".log", ".txt"):
                continue
            text = scrub(path.read_text(encoding="utf-8", errors="replace"), private)
            path.write_text(text, encoding="utf-8")
            packed.add(path, f"dotsctl-mac/{path.relative_to(folder)}", filter=_without_owner)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default="dotsctl-mac.tar.gz", show_default=True)
@click.option("--cpu-only", is_flag=True, help="Use Core ML on the CPU only, for a Mac without a Neural Engine.")
@click.option("--skip", "skipped", multiple=True, metavar="NAME", help="Leave this section out; may be repeated.")
@click.option("--list", "list_", is_flag=True, help="Print the sections and their commands.")
def cli(output: Path, cpu_only: bool, skipped: tuple[str, ...], list_: bool) -> None:
    """Examine this Mac and pack one file to send back (about an hour)."""
    if not PAGES.is_dir():
        raise UsageError(f"there is no folder {PAGES} here", "run this in a checkout of dotsctl")
    units = (CPU_UNITS if cpu_only else ALL_UNITS) if sys.platform == "darwin" else (REFERENCE,)
    with tempfile.TemporaryDirectory(prefix="dotsctl-mac-") as scratch:
        folder = Path(scratch)
        known = list(sections(units, folder))
        if wrong := set(skipped) - {section.name for section in known}:
            raise UsageError(f"there is no section {min(wrong)}", "--list shows their names")
        chosen = [section for section in known if section.name not in skipped]
        if list_:
            for section in chosen:
                click.echo(f"{section.name:<20} {' '.join(section.command)}")
            return
        try:
            report = examine(chosen, folder)
        finally:  # also what an interrupted run has found
            try:
                pack(folder, output, private_names())
            except OSError as error:
                raise output_error(output, error) from None
    click.echo(f"{output}: send this file back. It contains no paths or names of yours")
    sys.exit(ExitCode.OK if report.is_good else ExitCode.SOME_FAILED)


def examine(chosen: Sequence[MacSection], folder: Path) -> MacReport:
    """Run sections; the report is written after each, so that a broken-off run leaves what it found."""
    report = MacReport(describe_machine(), versions())
    for section in chosen:
        click.echo(f"{section.name} (at most {section.timeout_s / 60:g} min) ...", nl=False)
        outcome = run(section, folder)
        report.sections.append(outcome)
        (folder / REPORT).write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
        ended = "ended at its time limit" if outcome.exit_code is None else f"exit code {outcome.exit_code}"
        click.echo(f" {'ok' if outcome.exit_code == 0 else ended}, {outcome.seconds:.0f} s")
    return report


if __name__ == "__main__":
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.mac_report")
