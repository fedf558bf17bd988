"""Checks of the plugins, one by one in a child: import, load of the model, a warm-up page.

A plugin that kills its process, as a wrong library can, or hangs is a line of the report.
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from dotsctl.client.config import PluginChoice
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker_shell import find_plugin, import_errors
from dotsctl.tools.doctor.child import answering, ask
from dotsctl.tools.doctor.report import REMEDY, Check, Finding, Verdict, ok
from dotsctl.tools.doctor.setup import Setup
from dotsctl.tools.measuring.encoding import PageEncoder

SLACK_S = 20.0
"""For the end of a child beyond its time."""


def plugin_checks(setup: Setup) -> list[Check]:
    """A check for each plugin that is installed, and for a chosen one that is not."""
    checks = []
    for role, chosen in ((Role.ENCODER, setup.encoder), (Role.DECODER, setup.decoder)):
        installed = {entry.name for entry in entry_points(group=f"dotsctl.{role}s")}
        for name in sorted(installed | {chosen.name}):
            choice = chosen if name == chosen.name else PluginChoice(name)
            checks.append(
                Check(
                    f"{role} {name}",
                    partial(check_plugin, role, choice, setup),
                    setup.limit_s + SLACK_S,
                )
            )
    return checks


def check_plugin(role: Role, choice: PluginChoice, setup: Setup) -> Finding:
    """Whether a plugin works with the model; one that is not chosen need not."""
    name = f"{role} {choice.name}"
    outcome = ask("dotsctl.tools.doctor.plugins", [role, str(choice), str(setup.model)], setup.limit_s)
    answer = outcome.answer
    if answer is not None and "error" not in answer:
        return ok(name, f"a warm-up page of {setup.model_name} after {answer['seconds']:.1f} s")
    chosen = choice == (setup.encoder if role is Role.ENCODER else setup.decoder)
    verdict = Verdict.FAIL if chosen else Verdict.WARN
    if answer is not None:
        what, _, remedy = answer["error"].partition(REMEDY)
        return Finding(name, verdict, what.strip().rstrip(".;"), remedy or _other(verdict))
    found = f"its process ended by {outcome.how}" if "killed" not in outcome.how else f"it was {outcome.how}"
    return Finding(name, verdict, f"{found}\n{outcome.tail}".strip(), _other(verdict))


def _other(verdict: Verdict) -> str:
    if verdict is Verdict.WARN:
        return "nothing, as long as you do not choose it"
    return "look at the lines above; pip install --upgrade 'dotsctl[all]', or choose another one"


def warm_up(words: Sequence[str]) -> dict[str, Any]:
    """In a child: load a plugin and give it its first page."""
    role, choice, model = words[0], PluginChoice.parse(words[1]), Path(words[2])
    started = time.monotonic()
    try:
        if role == Role.ENCODER:
            PageEncoder(choice, model, _note).close()
        else:
            with import_errors(f"decoder {choice.name!r}"):
                decoder = find_plugin("dotsctl.decoders", choice.name)()
                decoder.load(model, choice.options, _note)  # decodes its warm-up page
                decoder.close()
    except DotsctlError as error:
        return {"error": str(error), "usage": isinstance(error, UsageError)}
    return {"seconds": time.monotonic() - started}


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    answering(sys.argv[1:], warm_up)
