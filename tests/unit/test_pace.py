"""The rate and the time left of a run, and where they are shown."""

import threading
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.cli import report
from dotsctl.client.cli.pace import RunPace, duration

from tests.fake_client import FakeClient, call, pictures


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_time_left_is_that_of_the_pages_that_are_left_at_the_rate_so_far() -> None:
    clock = Clock()
    pace = RunPace(12, clock)
    clock.now_s = 400.0  # the model was loaded
    pace.start()
    pace.pass_over(2)
    assert pace.text() == "2 of 12 pages"
    for _ in range(5):
        pace.open(1)
        pace.add(is_read=True)
    clock.now_s += 50.0
    assert pace.text() == "7 of 12 pages, 0.1/s, 50 s left"
    clock.now_s += 450.0
    assert pace.text() == "7 of 12 pages, 0.6/min, 8 min left"


def test_documents_that_are_not_open_yet_count_as_the_mean_of_those_that_are() -> None:
    clock = Clock()
    pace = RunPace(3, clock)
    pace.open(10)
    for _ in range(10):
        pace.add(is_read=True)
    clock.now_s += 5.0
    assert pace.text() == "10 of about 30 pages, 2.0/s, 10 s left"
    pace.open(1)
    pace.add(is_read=False)
    assert (pace.done, pace.total, pace.is_estimate) == (11, 17, True)
    pace.open(4)
    assert (pace.total, pace.is_estimate) == (15, False)


def test_pages_that_an_earlier_run_read_do_not_count_as_fast_ones() -> None:
    clock = Clock()
    pace = RunPace(1, clock)
    pace.open(100)
    for _ in range(90):
        pace.add(is_read=False)
    clock.now_s += 10.0
    assert pace.text() == "90 of 100 pages"
    pace.add(is_read=True)
    assert pace.text() == "91 of 100 pages, 0.1/s, 1 min left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400, "1 d"),
        (248400, "2 d 21 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_a_line_comes_from_time_to_time_and_a_quiet_run_has_none(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("a.png", "b.png")
    printed = threading.Event()
    line = report.ProgressReport.line
    read = FakeClient.ocr

    def noted(self: report.ProgressReport, text: str) -> None:
        line(self, text)
        if " of 2 pages" in text:
            printed.set()

    def slow(self: FakeClient, inputs: Any, **options: Any) -> Any:
        for number, page in enumerate(read(self, inputs, **options)):
            if number == 1:
                assert printed.wait(30.0), "no line of progress comes while a page takes its time"
            yield page

    monkeypatch.setattr(report, "LINE_EVERY_S", 0.01)
    monkeypatch.setattr(report.ProgressReport, "line", noted)
    monkeypatch.setattr(FakeClient, "ocr", slow)
    result = call("ocr", "a.png", "b.png", "-o", "out/")
    assert result.exit_code == 0 and " of 2 pages" in result.stderr
    assert sorted(path.name for path in Path("out").glob("*.md")) == ["a.md", "b.md"]
    monkeypatch.setattr(FakeClient, "ocr", read)
    assert call("ocr", "a.png", "b.png", "-o", "quiet/", "--quiet").stderr == ""
