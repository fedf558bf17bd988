"""The drafter of one page: chooses between the sources, turns text into tokens, and learns how often each is right."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dotsctl.decoder_worker.drafts.cell_source import CellSource
from dotsctl.decoder_worker.drafts.hint_text import HintText
from dotsctl.decoder_worker.drafts.odds import PRIOR, Kind, Odds
from dotsctl.decoder_worker.drafts.repeats import Repeats
from dotsctl.decoder_worker.drafts.text_source import GuessedText, TextSource
from dotsctl.decoder_worker.drafts.verifying import NOTHING, Draft
from dotsctl.decoder_worker.text import TextStream
from dotsctl.protocol.model.tasks import LAYOUT_ONLY, AnswerKind, answer_kind
from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.page_hint import PageHint
from tokenizers import Tokenizer

AHEAD = 2
"""Tokens that are guessed at a time, in multiples of those that can be verified: the rest is kept for the next pass."""
CELLS_BEGIN = re.compile(r'\[\s*\{\s*"bbox"')
RUNS = frozenset((Kind.START, Kind.TEXT_0, Kind.TEXT_1, Kind.TEXT_2, Kind.TEXT_3))
"""Text of the hint."""
BOX = frozenset(range(Kind.FRAME, Kind.CATEGORY))
"""Parts of a box, which is guessed to its end: tokenizers may have tokens for the numbers of complete boxes alone."""
PRIOR_CHARACTERS = 4.0
"""Characters of a token before any was seen."""
PRIOR_TOKENS = 16
"""Tokens that this counts as."""
LEAST_CHANCE = 0.02
"""Chance below which it is not guessed any further."""


@dataclass
class _Candidate:
    """The guess of one source."""

    tokens: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    is_fresh: bool = False
    """Whether it still fits the answer."""

    def advance(self, token: int, odds: Odds) -> None:
        """Compare with a token of the answer, and go on behind it."""
        if not self.tokens:
            self.is_fresh = False
            return
        is_right = self.tokens[0] == token
        if self.is_fresh:
            odds.observe(self.kinds[0], is_right)
        self.is_fresh = self.is_fresh and is_right
        self.tokens, self.kinds = self.tokens[1:], self.kinds[1:]

    def draft(self, limit: int, odds: Odds) -> Draft:
        """Return at most ``limit`` tokens."""
        if not self.is_fresh:
            return NOTHING
        return Draft(self.tokens[:limit], [odds[kind] for kind in self.kinds[:limit]])


class PageDrafter:
    """Follows the answer to one page; see :class:`dotsctl.decoder_worker.drafts.verifying.Drafter`."""

    def __init__(
        self, tokenizer: Tokenizer, task: str, hint: PageHint | None = None, geometry: PageGeometry | None = None
    ) -> None:
        """Begin before the first token.

        Args:
            tokenizer: of the model.
            task: decides what form the answer has.
            hint: the probable text of the page, or none.
            geometry: how the page was resized; without it the boxes of the hint are not used.
        """
        self._tokenizer = tokenizer
        self._source = _source(task, hint, geometry)
        self._stream = TextStream(tokenizer)
        self._repeats = Repeats()
        self._odds = Odds()
        self._guess, self._repeat = _Candidate(), _Candidate()
        self._num_tokens = 0
        letters = sum(len(block.text) for block in hint.blocks) if hint is not None else 0
        self.expected_tokens = int(letters / PRIOR_CHARACTERS)
        """About as many tokens as the hint has; 0: there is none."""

    def propose(self, limit: int) -> Draft:
        """Return at most ``limit`` tokens: those of the source from which most are expected."""
        if limit <= 0:
            return NOTHING
        if self._source is not None and not (self._guess.is_fresh and len(self._guess.tokens) >= limit):
            self._guess = self._encoded(self._source.context, self._spans(self._source, AHEAD * limit))
        if not (self._repeat.is_fresh and len(self._repeat.tokens) >= limit):
            self._repeat = _Candidate(*self._repeats.predict(AHEAD * limit), is_fresh=True)
        drafts = (self._guess.draft(limit, self._odds), self._repeat.draft(limit, self._odds))
        return max(drafts, key=lambda draft: draft.gains()[-1])

    def learn(self, tokens: Sequence[int]) -> None:
        """Take the tokens that a pass gave; guesses count whether or not they were verified."""
        for token in tokens:
            self._guess.advance(token, self._odds)
            self._repeat.advance(token, self._odds)
            self._repeats.push(token)
            text = self._stream.push([token])
            if self._source is not None:
                self._source.push(text)
        self._num_tokens += len(tokens)

    def _spans(self, source: TextSource | CellSource, limit: int) -> list[GuessedText]:
        """Return about ``limit`` tokens of guessed text, fewer where it is hardly right to its end."""
        letters = (len(self._stream.text) + PRIOR_TOKENS * PRIOR_CHARACTERS) / (self._num_tokens + PRIOR_TOKENS)
        characters, chance, spans = int(limit * letters) + 1, 1.0, []
        for span in source.predict(characters):
            spans.append(span)
            characters -= len(span.text)
            chance *= self._odds[span.kind]
            if (characters <= 0 or chance < LEAST_CHANCE) and span.kind not in BOX:
                break
        return spans

    def _encoded(self, context: str, spans: list[GuessedText]) -> _Candidate:
        """Return the guessed text as tokens, each with the least certain kind of its characters."""
        if not spans:
            return _Candidate()
        text = "".join(span.text for span in spans)
        kinds = [span.kind for span in spans for _ in span.text]
        found = self._tokenizer.encode(context + text, add_special_tokens=False)
        first = next((place for place, (start, _) in enumerate(found.offsets) if start >= len(context)), len(found.ids))
        if first and found.offsets[first - 1][1] > len(context):  # a token lies across the border
            return self._encoded("", spans)
        places = [(start - len(context), end - len(context)) for start, end in found.offsets[first:]]
        chosen = [min(kinds[start:end] or kinds[-1:], key=PRIOR.__getitem__) for start, end in places]
        return _Candidate(list(found.ids[first:]), _grown(chosen), is_fresh=True)


def _source(task: str, hint: PageHint | None, geometry: PageGeometry | None) -> TextSource | CellSource | None:
    """Return what guesses the answer's text; none: there is no hint, and the form of the answer is not known."""
    words = HintText(hint) if hint is not None and hint.blocks else None
    is_answer = words is not None and CELLS_BEGIN.match(words.text)  # as the first reading of a page
    if answer_kind(task) is AnswerKind.CELLS and not is_answer:
        return CellSource(hint, words, geometry, has_text=task != LAYOUT_ONLY.name)
    return TextSource(words) if words is not None else None


def _grown(kinds: list[Kind]) -> list[Kind]:
    """Let what agrees grow from token to token in a row of the hint's text."""
    for place in range(1, len(kinds)):
        before = kinds[place - 1]
        if before in RUNS and kinds[place] in RUNS:
            kinds[place] = Kind(min(max(before, kinds[place], Kind.TEXT_0) + 1, Kind.TEXT_3))
    return kinds
