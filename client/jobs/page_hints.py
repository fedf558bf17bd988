"""The hint of each page of one call, taken from where the caller chose."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dotsctl.client.inputs.hints import AUTO, HintChoice, hint_in_box
from dotsctl.client.inputs.pages import LoadedPage, PageInput
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.parts import ImageKind, PageOptions
from dotsctl.protocol.render.exchange import HintAnswer


@dataclass
class PageHints:
    """Looks up hints; where a source fails, that is reported once and the pages are read without."""

    choice: HintChoice
    notice: Callable[[str], None] | None = None
    """Takes a line for the user."""
    _call_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _problem: str = ""
    """The first problem, until it is reported."""
    _aside: set[int] = field(default_factory=set)
    """Indexes of pages that were given to side OCR."""
    _late: dict[int, PageHint] = field(default_factory=dict)
    """Hints that side OCR made: for pages that are sent once more."""

    def hint_of(
        self, index: int, images: Sequence[PageInput], loaded: Sequence[LoadedPage], options: PageOptions
    ) -> PageHint | None:
        """Return the hint of a request whose images were loaded; none: there is none, or it has several images."""
        if len(images) != 1:
            return None
        found = self.choice.given(images[0]) if self.choice.given is not None else self._own(images[0])
        return _in_box(found or self._late.get(index), loaded[0], options)

    def read_aside(
        self,
        index: int,
        images: Sequence[PageInput],
        loaded: Sequence[LoadedPage],
        options: PageOptions,
        give: Callable[[PageHint], None],
    ) -> None:
        """Let side OCR read a page that was sent without a hint, where that is chosen.

        Args:
            index: number of the page in its call.
            images: those of the request.
            loaded: their pixels.
            options: of the request.
            give: takes the hint, in another thread.
        """
        if not self.choice.side or len(images) != 1 or index in self._aside:
            return
        from dotsctl.client.inputs import side_hints  # only now, to keep the import of the library fast

        page, (header, content, _) = images[0], loaded[0]
        few_cores = side_hints.usable_cores() < side_hints.LEAST_CORES
        if header.kind is not ImageKind.RGB or (self.choice.side == AUTO and few_cores):
            return

        def take(answer: HintAnswer) -> None:
            self._note(page, answer)
            if (hint := _in_box(answer.hint, loaded[0], options)) is not None:
                self._late[index] = hint
                give(hint)

        self._aside.add(index)
        waiting = side_hints.SidePage(self.choice.side, content, (header.width, header.height), take)
        side_hints.SIDE.request((self._call_id, index), waiting)

    def begun(self, index: int) -> None:
        """A page is decoded: a hint that has not come is too late for this reading."""
        if index in self._aside and index not in self._late:
            from dotsctl.client.inputs.side_hints import SIDE

            SIDE.forget(self._call_id, index)

    def forget(self, index: int) -> None:
        """A page needs no hint any more."""
        self.begun(index)
        self._aside.discard(index)
        self._late.pop(index, None)

    def close(self) -> None:
        """No page needs a hint any more."""
        for index in tuple(self._aside):
            self.forget(index)

    def report(self) -> None:
        """Report the first problem, in the thread of the call."""
        if self._problem and self.notice is not None:
            self.notice(self._problem)
            self.notice = None

    def _own(self, page: PageInput) -> PageHint | None:
        """The hint that the document of a page has."""
        if (answer := page.hint()) is None:
            return None
        self._note(page, answer)
        return answer.hint

    def _note(self, page: PageInput, answer: HintAnswer) -> None:
        if answer.problem and not self._problem:
            text = f"{page.source}: the hint of page {page.page} failed, it is read without: {answer.problem}"
            self._problem = text


def _in_box(hint: PageHint | None, loaded: LoadedPage, options: PageOptions) -> PageHint | None:
    """The part of a hint that a request is about."""
    if hint is None or options.box is None:
        return hint
    header, _, _ = loaded
    return hint_in_box(hint, options.box, (header.width, header.height))
