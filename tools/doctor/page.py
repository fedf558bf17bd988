"""The last check: a page through both workers of a private runtime, as ``dotsctl ocr`` reads it."""

import difflib
import time
from functools import partial
from pathlib import Path

from dotsctl.client.api import Client
from dotsctl.tools.doctor.report import Check, Finding, fail, ok, warn
from dotsctl.tools.doctor.setup import Setup

PAGE = Path(__file__).parent / "page.png"
TEXT = "Dear reader,\nthis page was printed\nto see that both\nworkers can read it."
"""The text of the page, set in DejaVu Sans, 22 px high, which the demo model has learnt to read."""
ALIKE = 0.8
"""Share of the text that a model which works has right at least; the demo model of this version misses two letters."""
SLACK_S = 60.0
SHOWN = 90


def page_checks(setup: Setup) -> list[Check]:
    """One page."""
    return [Check("test page", partial(check_page, setup), setup.limit_s + SLACK_S)]


def check_page(setup: Setup) -> Finding:
    """Check whether a printed page comes back as its text; where a plugin reads no pages it need not."""
    started = time.monotonic()
    with Client(
        model=str(setup.model),
        encoder=str(setup.encoder),
        decoder=str(setup.decoder),
        private=True,
        timeout_s=setup.limit_s,
        page_timeout_s=setup.limit_s,
        memory=setup.memory_bytes,
    ) as client:
        ready_s = time.monotonic() - started
        readiness = next((worker.readiness for worker in client.status().workers if worker.readiness), "skipped")
        (page,) = client.ocr([PAGE], max_tokens=200, reread=False)
    name = "test page"
    if page.error is not None:
        return fail(name, f"{page.error.code}: {page.error.message}", "check the lines above")
    seconds = page.timings_ms["total"] / 1000
    text = " ".join(page.plain_text.split())
    start = f"{setup.model_name} was ready after {ready_s:.1f} s (readiness page: {readiness})"
    found = f"{start} and read in {seconds:.1f} s: {text[:SHOWN]!r}"
    alike = difflib.SequenceMatcher(None, " ".join(TEXT.split()), text).ratio()
    if alike < ALIKE and setup.reads_pages:
        remedy = "try other plugins; in a checkout, python -P -m dotsctl.tools.dev.verify finds the stage"
        return warn(name, f"{found}, which is {alike:.0%} of what stands on the page", remedy)
    return ok(name, found)
