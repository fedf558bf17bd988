"""The events of a page before it is read, as the library reports them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageText:
    """A piece of a page's text, as it is decoded."""

    source: str
    """Name of the input, as in :attr:`Page.source`."""
    page: int
    """Page of its source, from 1."""
    index: int
    """The place among all pages of the call, from 0."""
    text: str


@dataclass(frozen=True, slots=True)
class PageRestarted:
    """A page is read again; its text so far is void."""

    source: str
    page: int
    index: int
    reason: str
    """The reason: a worker died or made no progress, or the text was cut, repeated itself or was damaged."""


PageEvent = PageText | PageRestarted
