"""Checks of the plugins, one by one in a child: import, load of the model, a warm-up page.

A plugin that kills its process, as a wrong library can, or hangs is a line of the report.
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import installed
from dotsctl.tools.doctor.child import answering, ask
from dotsctl.tools.doctor.report import Check, CheckStatus, Finding, ok
from dotsctl.tools.doctor.setup import Setup
from dotsctl.tools.measuring.decoding import PageReader
from dotsctl.tools.measuring.encoding import PageEncoder

SLACK_S = 20.0
"""The seconds for the end of a child beyond its time."""


def plugin_checks(setup: Setup) -> list[Check]:
    """A check for each plugin that is installed, and for a chosen one that is not."""
    checks = []
    for role, chosen in ((Role.ENCODER, setup.encoder), (Role.DECODER, setup.decoder)):
        for name in sorted({*installed(role), chosen.name}):
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
    """Check whether a plugin works with the model; one that is not chosen need not."""
    name = f"{role} {choice.name}"
    outcome = ask("dotsctl.tools.doctor.plugins", [role, str(choice), str(setup.model)], setup.limit_s)
    answer = outcome.answer
    if answer is not None and "problem" not in answer:
        return ok(name, f"a warm-up page of {setup.model_name} after {answer['seconds']:.1f} s")
    chosen = choice == (setup.encoder if role is Role.ENCODER else setup.decoder)
    verdict = CheckStatus.FAIL if chosen else CheckStatus.WARN
    if answer is not None:
        return Finding(name, verdict, answer["problem"], answer["remedy"] or _other(verdict))
    found = f"its process ended by {outcome.how}" if "killed" not in outcome.how else f"it was {outcome.how}"
    return Finding(name, verdict, f"{found}\n{outcome.tail}".strip(), _other(verdict))


def _other(verdict: CheckStatus) -> str:
    if verdict is CheckStatus.WARN:
        return "nothing, as long as you do not choose it"
    return "check the lines above; pip install --upgrade dotsctl, or choose another one"


def warm_up(words: Sequence[str]) -> dict[str, Any]:
    """Load a plugin and give it its first page; runs in a child."""
    role, choice, model = words[0], PluginChoice.parse(words[1]), Path(words[2])
    started = time.monotonic()
    try:
        if role == Role.ENCODER:
            PageEncoder(choice, model, _note).close()
        else:
            PageReader(choice, model, _note).close()
    except DotsctlError as error:
        return {"problem": error.problem, "remedy": error.remedy}
    return {"seconds": time.monotonic() - started}


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    answering(sys.argv[1:], warm_up)
