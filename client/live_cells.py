"""Cells of a page while the model writes them."""

from collections.abc import AsyncGenerator, AsyncIterable

from dotsctl.client.answers import AnswerStream, cell_stream, read_answer
from dotsctl.client.cell import Cell
from dotsctl.client.job import Answer, Told
from dotsctl.client.records import Failure, page_geometry
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.messages import PageTokens, Restarted


async def new_cells(news_of: AsyncIterable[Told], task: str) -> AsyncGenerator[Cell, None]:
    """Cells of one page as soon as each is whole; a new attempt is silent until it has more than were given already.

    Raises:
        PageError: the page cannot be read.
    """
    stream: AnswerStream | None = None
    seen = given = 0  # cells of this attempt, and of all attempts
    async for _, page, news in news_of:
        cells: list[Cell] = []
        match news:
            case Failure():
                raise PageError(f"{page.source}: {news.message}", ErrorCode(news.code))
            case Restarted():
                stream, seen = None, 0
            case PageTokens():
                if news.geometry is not None:
                    stream, seen = cell_stream(task, page_geometry(news.geometry)), 0
                if stream is not None:
                    cells = stream.push(news.text)
            case Answer(result):
                # The whole answer gives the same cells as its pieces, and the last one as well.
                whole, _ = read_answer(task, result.text, page_geometry(result.geometries[0]))
                cells, seen = list(whole), 0
        for cell in cells[max(0, given - seen) :]:
            yield cell
        seen += len(cells)
        given = max(given, seen)
