"""Runs the writing of one PDF in a process of its own: documents of others can stop that one alone.

``python -P -m dotsctl.client.formats.pdf_process`` takes a job as JSON on standard input and writes the outcome as
JSON to standard output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dotsctl.client.formats.pdf_text import PicturePage, PlacedText
from dotsctl.client.inputs.pages import render_timeout_s
from dotsctl.client.results.placed import Line, PrintedWord
from dotsctl.protocol.errors import ResultError

REMEDY = "repair it, as with qpdf IN.pdf OUT.pdf, or choose another format"
PAGES_PER_TIMEOUT = 100
"""Pages that may take as long as one page may be rendered."""
LIBRARIES = "the libraries of the PDF format cannot be loaded"


@dataclass(frozen=True, slots=True)
class PdfJob:
    """One PDF to be written."""

    name: str
    """The name of the input, for messages."""
    source: Path | None
    """The PDF whose pages are kept; none: pages are made of ``pictures``."""
    target: Path
    password: str
    texts: Mapping[int, PlacedText]
    """The text of pages by their number, from 1."""
    pictures: Mapping[int, PicturePage]


@dataclass(frozen=True, slots=True)
class PdfOutcome:
    """The result of a job."""

    was_encrypted: bool = False
    error: str = ""
    """The problem; empty: the file was written."""


def run(job: PdfJob) -> PdfOutcome:
    """Write a PDF. Raises ResultError with the reason: the document cannot be read, or it took too long."""
    num_pages = max(len(job.texts), len(job.pictures))
    timeout_s = render_timeout_s() * (1 + num_pages / PAGES_PER_TIMEOUT)
    content = json.dumps(asdict(job), default=os.fspath).encode()
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=content,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # a Ctrl-C in the terminal is for the owner, who decides what ends
        )
    except subprocess.TimeoutExpired:
        raise ResultError(f"{job.name}: the PDF was not written within {timeout_s:.0f} s", REMEDY) from None
    try:
        outcome = PdfOutcome(**json.loads(done.stdout))
    except (ValueError, TypeError):
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ResultError(f"{job.name}: the process that writes the PDF ended early ({reason})", REMEDY) from None
    if outcome.error:
        raise ResultError(f"{job.name}: the PDF cannot be written: {outcome.error}", REMEDY)
    return outcome


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin.buffer)
    outcome = _outcome(job)
    sys.stdout.write(json.dumps(asdict(outcome)))


def _outcome(job: Mapping[str, Any]) -> PdfOutcome:
    from dotsctl.protocol.render.memory import AddressSpace

    memory = AddressSpace()
    try:
        with memory.importing():
            from dotsctl.client.formats import pdf_pages
    except ImportError as error:
        return PdfOutcome(error=f"{LIBRARIES} ({error})")
    source = Path(job["source"]) if job["source"] is not None else None
    memory.allow_content(2 * source.stat().st_size if source is not None else 0)
    try:
        if source is None:
            pictures = {int(number): _picture(each) for number, each in job["pictures"].items()}
            pdf_pages.make_pdf(pictures, Path(job["target"]))
            return PdfOutcome()
        texts = {int(number): _text(each) for number, each in job["texts"].items()}
        return PdfOutcome(pdf_pages.add_text(source, Path(job["target"]), texts, job["password"]))
    except Exception as error:  # whatever a damaged document makes a library raise is a problem of this document
        return PdfOutcome(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])


def _picture(content: Mapping[str, Any]) -> PicturePage:
    original = Path(content["original"]) if content["original"] is not None else None
    pixels, text = Path(content["pixels"]), _text(content["text"])
    return PicturePage(original, bool(content["is_kept"]), pixels, text, float(content["dpi"]))


def _text(content: Mapping[str, Any]) -> PlacedText:
    lines = tuple(
        Line(tuple(PrintedWord((*map(int, word["bbox"]),), word["text"]) for word in line["words"]))  # type: ignore[arg-type]
        for line in content["lines"]
    )
    return PlacedText(content["width"], content["height"], lines)


if __name__ == "__main__":
    main()
