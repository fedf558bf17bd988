"""Reads the pages of a comparison with dotsctl: a private runtime, as ``dotsctl ocr`` starts it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dotsctl.client.api import Client
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.tools.bench.peers.run import Run, blas_threads
from dotsctl.tools.bench.peers.workload import PROMPT
from dotsctl.tools.measuring.memory import peak_bytes, processor_s

SIDE, HINTED = "dotsctl", "dotsctl, hints"
TO_FIRST_TOKEN = ("queue", "encode_total", "wait", "first_token")
"""Stages of a page that end with its first token, as in :attr:`Page.timings_ms`."""


def read(
    model: Path,
    files: Sequence[Path],
    max_tokens: int,
    *,
    clients: int,
    threads: int,
    encoder: str | None = None,
    decoder: str | None = None,
    hints: Sequence[str] = (),
) -> tuple[Run, list[str]]:
    """Read the pages once, after a page that warms both workers up; return the run and the text of each page.

    Args:
        model: folder of the checkpoint; it may be random, so the readiness page is left away.
        files: the pages.
        max_tokens: length of every answer.
        clients: most pages in flight.
        threads: BLAS threads of each worker; 0: as dotsctl chooses.
        encoder: plugin with options; none: the default.
        decoder: plugin with options; none: the default.
        hints: the text that each page probably holds; empty: there are no hints.

    Raises:
        CommandFailedError: a page failed.
    """
    with (
        blas_threads(threads),
        Client(
            model=str(model), encoder=encoder, decoder=decoder, private=True, window=clients, readiness_page=False
        ) as client,
    ):
        _read(client, files[:1], max_tokens, {})
        status = client.status()
        pids = {"runtime": status.pid} | {str(worker.role): worker.pid for worker in status.workers}
        before = {name: processor_s(pid) for name, pid in pids.items()}
        own, started = time.process_time(), time.perf_counter()
        pages = _read(client, files, max_tokens, dict(zip(files, hints, strict=True)) if hints else {})
        wall_s = time.perf_counter() - started
        parts = {name: processor_s(pid) - before[name] for name, pid in pids.items()}
        parts["client"] = time.process_time() - own
        peak = sum(peak_bytes(pid) for pid in pids.values())
    tokens = sum(page.tokens["completion"] for page in pages)
    first_s = tuple(map(_first_token_s, pages))
    side = HINTED if hints else SIDE
    run = Run(side, threads, clients, wall_s, sum(parts.values()), peak, len(pages), tokens, first_s, parts)
    return run, [page.text for page in pages]


def _read(client: Client, files: Sequence[Path], max_tokens: int, hints: Mapping[Path | None, str]) -> list[Page]:
    """All pages in their order, read with nobody waiting for pieces of them."""
    found = client.ocr(
        list(files),
        prompt=PROMPT,
        max_tokens=max_tokens,
        reread=False,
        check_blank=False,
        quality="full",
        hint=lambda page: hints.get(page.path),
    )
    pages = sorted(found, key=lambda page: page.index)
    for page in pages:
        if page.error is not None:
            raise CommandFailedError(f"{page.source} failed: {page.error.message}")
    return pages


def _first_token_s(page: Page) -> float:
    """Seconds from the runtime's acceptance of a page to its first token."""
    return sum(page.timings_ms.get(stage, 0.0) for stage in TO_FIRST_TOKEN) / 1000
