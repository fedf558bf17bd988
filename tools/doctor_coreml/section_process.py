"""Runs one section of ``doctor --coreml`` in a child process with a deadline: whatever it does, the report continues.

``python -P -m dotsctl.tools.doctor_coreml.section_process --answer-fd N SECTION ORDER`` is the child; ORDER is JSON.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dotsctl.protocol.errors import DotsctlError
from dotsctl.tools.doctor.child import answering_with_progress, ask
from dotsctl.tools.doctor_coreml.order import Say, SectionFailedError, SectionRequest
from dotsctl.tools.doctor_coreml.report import ReportSection, SectionState

MODULE = "dotsctl.tools.doctor_coreml.section_process"


def run_section(kind: str, order: SectionRequest, limit_s: float, attempts: int, say: Say) -> ReportSection:
    """Run a section in a child.

    Args:
        kind: its name in ``sections.SECTIONS``.
        order: its subject.
        limit_s: longest time without progress.
        attempts: the number of this attempt.
        say: called with each step.
    """
    started = time.monotonic()
    outcome = ask(MODULE, [kind, json.dumps(asdict(order))], limit_s, progress=say)
    seconds = time.monotonic() - started
    if outcome.answer is None:
        tail = f"; its last lines:\n{outcome.tail}" if outcome.tail else ""
        return ReportSection(SectionState.FAILED, attempts, seconds, f"its process ended: {outcome.how}{tail}")
    answer = outcome.answer
    state = SectionState.FAILED if answer["failure"] else SectionState.DONE
    return ReportSection(state, attempts, seconds, answer["failure"], answer["result"], tuple(answer["text"]))


def _answer(words: Sequence[str], say: Say) -> dict[str, Any]:
    kind, order = words[0], SectionRequest(**json.loads(words[1]))
    try:
        from dotsctl.tools.doctor_coreml.sections import SECTIONS  # a library that cannot be imported is a failure too

        result, text = SECTIONS[kind](order, say)
    except SectionFailedError as error:
        return {"failure": str(error), "result": error.result, "text": error.text}
    except DotsctlError as error:
        return {"failure": str(error), "result": {}, "text": []}
    except Exception as error:  # of libraries, whatever they raise: it is a line of the report
        return {"failure": f"{type(error).__name__}: {error}", "result": {}, "text": []}
    return {"failure": "", "result": result, "text": text}


if __name__ == "__main__":
    answering_with_progress(sys.argv[1:], _answer)
