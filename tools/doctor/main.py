"""``dotsctl doctor``: frequent problems, each with its remedy. The list of checks is the program."""

from collections.abc import Iterator

from dotsctl.client.cli.printing import print_text
from dotsctl.protocol.errors import ExitCode
from dotsctl.tools.doctor import child
from dotsctl.tools.doctor.libraries import library_checks
from dotsctl.tools.doctor.machine import MACHINE_CHECKS
from dotsctl.tools.doctor.models import model_checks
from dotsctl.tools.doctor.page import page_checks
from dotsctl.tools.doctor.plugins import plugin_checks
from dotsctl.tools.doctor.report import Check, CheckStatus, Finding, as_json, examine, summary, text_line
from dotsctl.tools.doctor.runtime import runtime_checks
from dotsctl.tools.doctor.setup import Setup, read_setup


def checks(setup: Setup) -> Iterator[Check]:
    """All checks in the order in which one explains the next."""
    yield from (Check(name, ask) for name, ask in MACHINE_CHECKS)
    yield from library_checks()
    yield from model_checks(setup)
    yield from runtime_checks(setup)
    yield from plugin_checks(setup)
    yield from page_checks(setup)


def run(*, model: str | None, encoder: str | None, decoder: str | None, timeout_s: float, json_: bool) -> ExitCode:
    """Examine and report; 7 when something fails.

    Raises:
        UsageError: ``encoder`` or ``decoder`` is no plugin with options.
    """
    findings: list[tuple[Finding, float]] = []
    try:
        for finding, seconds in examine(checks(read_setup(model, encoder, decoder, timeout_s))):
            findings.append((finding, seconds))
            if not json_:
                print_text(text_line(finding))
    finally:
        child.end_all()
    print_text(as_json(findings) if json_ else summary([finding for finding, _ in findings]))
    failed = any(finding.verdict is CheckStatus.FAIL for finding, _ in findings)
    return ExitCode.COMMAND if failed else ExitCode.OK
