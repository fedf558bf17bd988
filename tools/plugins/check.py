"""``dotsctl plugins check``: a plugin against its contract, in a child process that may crash or hang."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.errors import DotsctlError, ExitCode, UsageError
from dotsctl.protocol.model.directory import find_model
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import HINT, find_plugin, installed
from dotsctl.tools.doctor.child import answering_with_progress, ask
from dotsctl.tools.plugins.contract import Step, StepOutcome, Subject, play
from dotsctl.tools.plugins.decoder_contract import DecoderContract
from dotsctl.tools.plugins.encoder_contract import EncoderContract

NAME_COLUMNS = 22


def run(choice_text: str, role_name: str | None, model: str, timeout_s: float, as_json: bool) -> ExitCode:
    """Check one plugin and print a line for each step.

    Args:
        choice_text: ``NAME`` or ``NAME:key=value,...``.
        role_name: ``encoder`` or ``decoder``; none: the role in which the plugin is installed.
        model: name or path of the model that it loads.
        timeout_s: longest time of one step, in seconds.
        as_json: whether to print JSON.

    Raises:
        UsageError: there is no such plugin, or the name is that of an encoder and of a decoder.
        MissingError: there is no such model.
    """
    choice = PluginChoice.parse(choice_text)
    role = _role(choice.name, role_name)
    title = f"{role} {choice.name!r}"
    outcomes = _outcomes(role, choice, find_model(model)[1], timeout_s)
    problems = [outcome for outcome in outcomes if outcome.problem]
    if as_json:
        steps = [asdict(outcome) for outcome in outcomes]
        click.echo(json.dumps({"plugin": choice.name, "role": role, "ok": not problems, "steps": steps}, indent=2))
    else:
        for outcome in outcomes:
            click.echo(_line(outcome, title))
        click.echo(_summary(title, outcomes))
    return ExitCode.COMMAND if problems else ExitCode.OK


def _role(name: str, role_name: str | None) -> Role:
    if role_name is not None:
        return Role(role_name)
    roles = [role for role in Role if name in installed(role)]
    if len(roles) > 1:
        raise UsageError(f"{name!r} is an encoder and a decoder", "choose one with --role encoder or --role decoder")
    if not roles and name in installed(HINT):
        raise UsageError(
            f"{name!r} is a hint plugin", "check an encoder or a decoder; try a hint with dotsctl ocr --hint"
        )
    if not roles:
        known = ", ".join(sorted({name for role in Role for name in installed(role)}))
        raise UsageError(f"there is no plugin {name!r}", f"install it (pip install -e FOLDER), or use one of: {known}")
    return roles[0]


def _outcomes(role: Role, choice: PluginChoice, model: Path, timeout_s: float) -> list[StepOutcome]:
    """All outcomes of the child; the step in which it ended or hung is one of them."""
    reported: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "outcomes.jsonl"
        words = [role, str(choice), str(model), str(record)]
        child = ask("dotsctl.tools.plugins.check", words, timeout_s, progress=reported.append)
        lines = record.read_text("utf-8").splitlines() if record.exists() else []
    outcomes = [StepOutcome(**json.loads(line)) for line in lines]
    if child.answer is None:
        step = reported[-1] if reported else "start"
        hung = f"made no progress for {timeout_s:g} s" in child.how or child.how.startswith("killed")
        problem = f"hangs: no answer within {timeout_s:g} s" if hung else f"its process ended by {child.how}"
        tail = " ".join(child.tail.split())[-200:]
        outcomes.append(StepOutcome(step, problem + (f" (last output: {tail})" if tail else ""), problem=True))
    return outcomes


def _line(outcome: StepOutcome, title: str) -> str:
    mark = "FAIL" if outcome.problem else "skip" if outcome.skipped else "ok"
    found = outcome.found
    if outcome.problem and title not in found:
        found = f"{title}: {found}"
    return f"{mark:<4}  {outcome.step:<{NAME_COLUMNS}} {found}"


def _summary(title: str, outcomes: Sequence[StepOutcome]) -> str:
    failed = sum(outcome.problem for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    counts = f"{len(outcomes) - failed - skipped} ok, {skipped} skipped, {failed} FAIL"
    return f"{counts}: {title} {'breaks the contract' if failed else 'keeps the contract'}"


# --- the child --------------------------------------------------------------------------------------------------------


def check(words: Sequence[str], report: Callable[[str], None]) -> dict[str, Any]:
    """Run all steps in this process; each outcome is a line of the file that ``words`` names, at once."""
    role, choice, model, record = Role(words[0]), PluginChoice.parse(words[1]), Path(words[2]), Path(words[3])
    with record.open("a", encoding="utf-8") as file, _captured_output() as output:

        def keep(outcome: StepOutcome) -> None:
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()

        report("import")
        try:
            subject = Subject(find_plugin(role, choice.name), choice.options, model)
        except DotsctlError as error:
            keep(StepOutcome("import", error.problem, problem=True))
            return {}
        for outcome in play(_steps(subject, report), report):
            keep(outcome)
        keep(_output_outcome(os.fstat(output).st_size))
    return {}


def _steps(subject: Subject, report: Callable[[str], None]) -> list[Step]:
    def note(text: str) -> None:  # a long load reports its steps: each renews the time
        report(f"load and warm-up page, after {text!r}")

    contract = EncoderContract if subject.plugin.role is Role.ENCODER else DecoderContract
    return contract(subject, note).steps()


@contextlib.contextmanager
def _captured_output() -> Iterator[int]:
    """Capture the standard output of this process, including that of libraries, in a file."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield file.fileno()
        finally:
            sys.stdout.flush()
            os.dup2(before, 1)
            os.close(before)


def _output_outcome(printed_bytes: int) -> StepOutcome:
    if printed_bytes:
        text = f"it printed {printed_bytes} bytes to standard output: use logging, whose lines 'dotsctl logs' shows"
        return StepOutcome("standard output", text, problem=True)
    return StepOutcome("standard output", "nothing is printed")


if __name__ == "__main__":
    answering_with_progress(sys.argv[1:], check)
