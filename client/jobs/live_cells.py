"""Cells of a page while the model writes them."""

from collections.abc import AsyncGenerator, AsyncIterable

from dotsctl.client.jobs.job import IndexedEvent, PageAnswer
from dotsctl.client.results.answers import AnswerStream, cell_stream, read_answer
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Failure
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.messages import PageTokens, Restarted


async def new_cells(events: AsyncIterable[IndexedEvent], task: str) -> AsyncGenerator[Cell, None]:
    """Yield cells of one page as each is complete; a new attempt is silent until it has more than were given already.

    Raises:
        PageError: the page cannot be read.
    """
    stream: AnswerStream | None = None
    seen = given = 0  # cells of this attempt, and of all attempts
    async for _, page, event in events:
        cells: list[Cell] = []
        match event:
            case Failure():
                raise PageError(f"{page.source}: {event.problem}", event.remedy, code=ErrorCode(event.code))
            case Restarted():
                stream, seen = None, 0
            case PageTokens():
                if event.geometry is not None:
                    stream, seen = cell_stream(task, event.geometry), 0
                if stream is not None:
                    cells = stream.push(event.text)
            case PageAnswer(result):
                # The complete answer gives the same cells as its pieces, and the last one as well.
                complete, _ = read_answer(task, result.text, result.geometries[0])
                cells, seen = list(complete), 0
        for cell in cells[max(0, given - seen) :]:
            yield cell
        seen += len(cells)
        given = max(given, seen)
