"""A mutation fuzzer without coverage: changes inputs of a corpus, and keeps those to which a reader answers newly.

It needs nothing but Python and is fast; ``--engine atheris`` is the one that is guided by coverage. What a reader
answers, without numbers and names, stands for the path that it took.
"""

import os
import random
import re
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from dotsctl.tools.dev.fuzz.targets import Target
from dotsctl.tools.measuring.memory import rss_bytes

BATCH = 1000
"""Messages under one deadline."""
HANG_S = 30.0
"""The limit of processor time for a batch, in seconds; the slowest reader needs some five."""
LONGEST_INPUT_BYTES = 1 << 14
MOST_KEPT = 4000
VARIABLE = re.compile(r"[0-9]+|'[^']*'|\"[^\"]*\"|/\S+")
"""Parts of an answer that do not distinguish two paths."""
ANSWER_CHARACTERS = 160
TRACE_ENTRIES = 12


class HangError(Exception):
    """A batch of messages took longer than it may."""


@dataclass
class FuzzOutcome:
    """The result of a run."""

    messages: int = 0
    seconds: float = 0.0
    kept: int = 0
    """Inputs with an answer of their own, those of the corpus included."""
    grown_bytes: int = 0
    """Resident memory at the end over that after the first tenth."""
    finding: bytes | None = None
    """The input that broke a reader."""
    trace: str = ""


def mutated(rng: random.Random, content: bytes, other: bytes, tokens: tuple[bytes, ...]) -> bytes:
    """A variant of ``content``, made by one to four changes; ``other`` lends pieces."""
    text = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        place = rng.randrange(len(text) + 1)
        kind = rng.randrange(8)
        if kind == 0 and text:
            text[min(place, len(text) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1 and text:
            text[min(place, len(text) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del text[place : place + rng.randrange(1, 9)]
        elif kind == 3:
            text[place:place] = rng.choice(tokens)
        elif kind == 4:
            token = rng.choice(tokens)
            text[place : place + len(token)] = token
        elif kind == 5:
            start = rng.randrange(len(text) + 1)
            text[place:place] = text[start : start + rng.randrange(1, 65)]
        elif kind == 6:
            start = rng.randrange(len(other) + 1)
            text[place:place] = other[start : start + rng.randrange(1, 129)]
        else:
            text[place:] = other[place:] if rng.randrange(2) else b""
    return bytes(text[:LONGEST_INPUT_BYTES])


@dataclass
class Fuzzer:
    """One run over one target."""

    target: Target
    corpus: list[bytes]
    folder: Path
    """Empty, for the files that readers need."""
    seed: int = 0
    _answers: set[str] = field(default_factory=set)
    _current: bytes = b""

    def run(self, *, messages: int | None, seconds: float | None) -> FuzzOutcome:
        """Fuzz until so many messages were read or so many seconds are over, or something is found."""
        outcome, started = FuzzOutcome(), time.monotonic()
        rng = random.Random(self.seed)
        calm_rss: int | None = None
        previous = signal.signal(signal.SIGPROF, self._hangs)
        try:
            for content in list(self.corpus):
                self._read(content)
            for count in self._batches(messages, seconds, started):
                signal.setitimer(signal.ITIMER_PROF, HANG_S)
                for _ in range(count):
                    pool = self.corpus
                    self._read(mutated(rng, rng.choice(pool), rng.choice(pool), self.target.tokens))
                outcome.messages += count
                outcome.seconds = time.monotonic() - started
                if calm_rss is None and self._is_warm(outcome, messages, seconds):
                    calm_rss = rss_bytes(os.getpid())
        except Exception:  # whatever a reader raises is what is looked for
            outcome.finding, outcome.trace = self._current, traceback.format_exc(limit=-TRACE_ENTRIES)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)
        outcome.seconds, outcome.kept = time.monotonic() - started, len(self.corpus)
        outcome.grown_bytes = rss_bytes(os.getpid()) - calm_rss if calm_rss is not None else 0
        return outcome

    @staticmethod
    def _batches(messages: int | None, seconds: float | None, started: float) -> Iterator[int]:
        """Sizes of batches until the limit."""
        done = 0
        while (messages is None or done < messages) and (seconds is None or time.monotonic() - started < seconds):
            count = BATCH if messages is None else min(BATCH, messages - done)
            yield count
            done += count

    @staticmethod
    def _is_warm(outcome: FuzzOutcome, messages: int | None, seconds: float | None) -> bool:
        """Return whether a tenth of the run is over: caches and the corpus have their size."""
        by_count = messages is not None and outcome.messages * 10 >= messages
        return by_count or (seconds is not None and outcome.seconds * 10 >= seconds)

    def _read(self, content: bytes) -> None:
        """One message; it is kept when the answer is a new one."""
        self._current = content
        answer = VARIABLE.sub("", self.target.check(content, self.folder)[: 4 * ANSWER_CHARACTERS])[:ANSWER_CHARACTERS]
        if answer not in self._answers and len(self._answers) < MOST_KEPT:
            self._answers.add(answer)
            self.corpus.append(content)

    def _hangs(self, number: int, frame: FrameType | None) -> None:
        raise HangError(f"{BATCH} messages took more than {HANG_S:.0f} s")
