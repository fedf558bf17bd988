import json
from collections.abc import AsyncIterator, Iterator

import pytest
from dotsctl.client.connection.waiting import iterate
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.jobs.job import IndexedEvent, JobEvent, PageAnswer
from dotsctl.client.jobs.live_cells import new_cells
from dotsctl.client.results.page import Failure
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import PageResult, PageTokens, Restarted
from dotsctl.protocol.parts import FinishReason

PAGE = PageInput("a.png", None)
WHOLE = PageGeometry((400, 600), 1, (200, 300), (0.5, 0.5), (0.0, 0.0))
SMALLER = PageGeometry((400, 600), 1, (100, 150), (0.25, 0.25), (0.0, 0.0))


def answer(count: int, unit: int = 10) -> str:
    cells = [{"bbox": [0, 0, unit, unit], "category": "Text", "text": f"cell {number}"} for number in range(count)]
    return json.dumps(cells)


def tokens(text: str, geometry: PageGeometry | None = None) -> PageTokens:
    return PageTokens("job", 0, 1, 1, text, 1, geometry)


def end(text: str, geometry: PageGeometry = WHOLE) -> PageAnswer:
    result = PageResult(
        "job", 0, 1, 1, text, FinishReason.STOP, (geometry,), 1, 1, 1, encoder="e", decoder="d", timings_ms={}
    )
    return PageAnswer(result)


RESTARTED = Restarted("job", 0, 1, 2, "the decoder died")


class StoredJob:
    """Yields stored events, and counts those that were read."""

    def __init__(self, *events: JobEvent) -> None:
        self.events = events
        self.num_yielded = 0

    async def __aiter__(self) -> AsyncIterator[IndexedEvent]:
        for each in self.events:
            self.num_yielded += 1
            yield 0, PAGE, each


def cells_of(job: StoredJob, task: str = "layout") -> Iterator[tuple[str, object, int]]:
    """Text, box, and the number of events yielded so far, of each cell."""
    return ((cell.text, cell.bbox, job.num_yielded) for cell in iterate(new_cells(job, task)))


def test_each_cell_comes_with_its_last_token_and_in_pixels_of_the_page() -> None:
    text = answer(3)
    first = text.index("}") + 1
    job = StoredJob(tokens(text[:7], WHOLE), tokens(text[7:first]), tokens(text[first:-1]), end(text))
    box = (0, 0, 20, 20)
    assert list(cells_of(job)) == [("cell 0", box, 2), ("cell 1", box, 3), ("cell 2", box, 3)]


def test_a_restarted_attempt_repeats_no_cell_and_maps_boxes_with_its_own_geometry() -> None:
    text, smaller = answer(3), answer(4, unit=5)
    half = text.index("}", text.index("}") + 1) + 1
    job = StoredJob(tokens(text[:half], WHOLE), RESTARTED, tokens(smaller[:-1], SMALLER), end(smaller, SMALLER))
    box = (0, 0, 20, 20)
    assert list(cells_of(job)) == [("cell 0", box, 1), ("cell 1", box, 1), ("cell 2", box, 3), ("cell 3", box, 3)]


def test_a_second_attempt_with_less_text_adds_nothing() -> None:
    job = StoredJob(tokens(answer(3), WHOLE), RESTARTED, tokens(answer(1), WHOLE), RESTARTED, end(answer(2)))
    assert [text for text, _, _ in cells_of(job)] == ["cell 0", "cell 1", "cell 2"]


def test_cells_of_a_runtime_that_sends_no_geometry_come_at_the_end() -> None:
    job = StoredJob(tokens(answer(2)), end(answer(2)))
    assert [reported for _, _, reported in cells_of(job)] == [2, 2]


def test_an_attempt_without_geometry_is_not_mistaken_for_the_one_before() -> None:
    text = answer(2)
    job = StoredJob(tokens(text[:20], WHOLE), RESTARTED, tokens(text), end(text))
    assert [(text, reported) for text, _, reported in cells_of(job)] == [("cell 0", 4), ("cell 1", 4)]


def test_a_damaged_last_cell_comes_with_the_end() -> None:
    text = answer(2)[:-4]
    job = StoredJob(tokens(text, WHOLE), end(text))
    assert [(text, reported) for text, _, reported in cells_of(job)] == [("cell 0", 1), ("cell ", 2)]


def test_lines_of_a_scene_stream_too() -> None:
    lines = "(1,2),(3,2),(3,4),(1,4) one\n(1,2),(3,2),(3,4),(1,4) two"
    job = StoredJob(tokens(lines, WHOLE), end(lines))
    assert [(text, reported) for text, _, reported in cells_of(job, "scene")] == [("one", 1), ("two", 2)]


def test_a_page_that_fails_is_an_error() -> None:
    job = StoredJob(tokens(answer(1), WHOLE), Failure("E_OOM", "no memory"))
    cells = cells_of(job)
    assert next(cells)[0] == "cell 0"
    with pytest.raises(PageError, match=r"a\.png: no memory"):
        next(cells)
