"""Side OCR: pages without a text of their own get a hint from their pixels, late, or not at all; nothing waits."""

import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl import PageHint, testing
from dotsctl.client.inputs import side_hints
from dotsctl.client.inputs.hints import HintChoice
from dotsctl.client.inputs.pages import close_renderer
from dotsctl.client.inputs.side_hints import SideHints, SidePage
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.messages import HintPage, Submit
from dotsctl.protocol.render.exchange import HintAnswer

from tests.conftest import Gate

GROUP, NAME = "dotsctl.hints", "reader"
DEADLINE_S = 20.0
PICTURE = np.full((20, 30, 3), 7, np.uint8)
PLUGIN = """
import os

from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.worker.plugins import PluginDescription


class Reader:
    description = PluginDescription(help="Reads the first pixel.", turn={turn})

    def load(self):
        pass

    def hint(self, page):
        {wait}
        assert page.dtype.name == "uint8" and page.shape[2] == 3
        text = f"{{page.shape}} {{page[0, 0].tolist()}} nice {{os.nice(0)}}"
        return PageHint((HintBlock(text, (1, 2, 3, 4)),), (page.shape[1], page.shape[0]), "reader")
"""


@pytest.fixture
def reader(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a hint plugin for pixels; ``wait`` is what it does before it answers."""

    def write(wait: str = "pass", turn: int | None = 0) -> None:
        monkeypatch.delitem(sys.modules, "reader_hints", raising=False)
        install("reader_hints", PLUGIN.format(wait=wait, turn=turn), NAME, "Reader", GROUP)

    return write


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Iterator[SideHints]:
    made = SideHints()
    monkeypatch.setattr(side_hints, "SIDE", made)
    yield made
    made.close()
    close_renderer()


class Answers:
    """Answers that come from another thread, to be waited for."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._reader, self._writer = os.pipe()

    def __call__(self, answer: Any) -> None:
        self.found.append(answer)
        os.write(self._writer, b"x")

    def wait(self, count: int = 1) -> list[Any]:
        while len(self.found) < count:
            assert select.select([self._reader], [], [], DEADLINE_S)[0], f"{len(self.found)} of {count} came"
            os.read(self._reader, 1)
        return self.found

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.close()


def at(gate: Gate) -> str:
    """Wait at a gate for as long as it is there."""
    return f"os.path.exists({str(gate.path)!r}) and open({str(gate.path)!r}, 'rb').read()"


def release(gate: Gate) -> None:
    gate.remove()
    gate.open()


def page(give: Callable[[HintAnswer], None], plugin: str = NAME) -> SidePage:
    return SidePage(plugin, bytearray(PICTURE.tobytes()), (30, 20), give)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> Answers:
    """The late hints that a client of ``dotsctl.testing`` sends."""
    send = testing._FakeSession.send

    def noted(session: Any, message: Any, buffers: Any = ()) -> None:
        if isinstance(message, HintPage):
            answers(message)
        send(session, message, buffers)

    monkeypatch.setattr(testing._FakeSession, "send", noted)
    return answers


def test_a_plugin_gets_the_pixels_of_a_page_in_a_process_of_low_priority(
    reader: Callable[..., None], side: SideHints, answers: Answers
) -> None:
    reader()
    side.request(("job", 0), page(answers))
    (answer,) = answers.wait()
    assert answer.problem == ""
    assert answer.hint.text == f"(20, 30, 3) [7, 7, 7] nice {min(19, os.nice(0) + 10)}"
    assert (answer.hint.size, answer.hint.source) == ((30, 20), "reader")


def test_pages_are_read_in_their_order_and_those_that_are_forgotten_are_left_out(
    reader: Callable[..., None], side: SideHints, answers: Answers, gates: list[Gate]
) -> None:
    reader(at(gates[0]))
    for index in range(5):
        side.request(("job", index), page(lambda _, index=index: answers(index)))  # type: ignore[misc]
    gates[0].wait_entered()
    side.forget("job", 0)
    side.forget("job", 2)
    release(gates[0])
    assert answers.wait(3) == [1, 3, 4]


def test_a_job_that_ends_takes_its_pages_along(
    reader: Callable[..., None], side: SideHints, answers: Answers, gates: list[Gate]
) -> None:
    reader(at(gates[0]))
    side.request(("one", 0), page(answers))
    side.request(("one", 1), page(answers))
    side.request(("two", 0), page(lambda _: answers("two")))
    gates[0].wait_entered()
    side.forget("one")
    release(gates[0])
    assert answers.wait() == ["two"]


def test_a_page_is_left_out_where_too_many_pixels_wait(
    reader: Callable[..., None],
    side: SideHints,
    answers: Answers,
    gates: list[Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_hints, "MOST_WAITING_BYTES", 2 * PICTURE.nbytes)
    reader(at(gates[0]))
    side.request(("job", 0), page(lambda _: answers(0)))
    gates[0].wait_entered()
    for index in (1, 2, 3):
        side.request(("job", index), page(lambda _, index=index: answers(index)))  # type: ignore[misc]
    release(gates[0])
    assert answers.wait(3) == [0, 1, 2]


def test_closing_ends_the_process_though_a_page_is_at_work_and_a_later_page_starts_another(
    reader: Callable[..., None], side: SideHints, answers: Answers, gates: list[Gate]
) -> None:
    reader(at(gates[0]))
    side.request(("job", 0), page(answers))
    gates[0].wait_entered()
    before = side.pid
    side.close()
    assert side.pid is None and answers.found == []
    gates[0].remove()
    side.request(("job", 1), page(answers))
    (answer,) = answers.wait()
    assert answer.hint is not None and side.pid != before


@pytest.mark.parametrize(
    ("wait", "problem"),
    [
        ("os._exit(3)", "ended the process that renders it (exit code 3)"),
        ("raise ValueError('no text')", "raised ValueError: no text"),
        ("__import__('threading').Event().wait()", "was not rendered within 0.5 s"),
    ],
    ids=["ends", "raises", "hangs"],
)
def test_a_plugin_that_fails_costs_its_hint_and_the_next_page_is_read(
    reader: Callable[..., None],
    side: SideHints,
    answers: Answers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wait: str,
    problem: str,
) -> None:
    monkeypatch.setattr(side_hints, "TIMEOUT_S", 0.5)
    marker = tmp_path / "bad"
    marker.touch()
    reader(f"if os.path.exists({str(marker)!r}): {wait}")
    side.request(("job", 0), page(answers))
    (answer,) = answers.wait()
    assert answer.hint is None and problem in answer.problem
    marker.unlink()
    side.request(("job", 1), page(answers))
    assert answers.wait(2)[1].hint is not None


def test_a_plugin_that_fails_again_and_again_is_not_used_any_more(
    reader: Callable[..., None], side: SideHints, answers: Answers
) -> None:
    reader("raise ValueError('no text')")
    for index in range(5):
        side.request(("job", index), page(answers))
    found = answers.wait(5)
    assert [bool(answer.problem) for answer in found] == [True, True, True, False, False]


def test_auto_stands_for_the_plugin_with_the_lowest_turn_that_can_run_here(
    reader: Callable[..., None], side: SideHints, answers: Answers
) -> None:
    reader()
    side.request(("job", 0), page(answers, "auto"))
    assert answers.wait()[0].hint.source == "reader"


def test_without_a_plugin_for_auto_no_process_is_started(
    reader: Callable[..., None], side: SideHints, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader(turn=None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    side.request(("job", 0), page(answers, "auto"))
    assert answers.wait() == [HintAnswer()]
    assert side.pid is None


def test_a_page_that_is_answered_does_not_wait_for_its_hint(
    reader: Callable[..., None], side: SideHints, sent: Answers, gates: list[Gate]
) -> None:
    reader(at(gates[0]))
    with testing.FakeClient("x") as client:
        (record,) = client.ocr(PICTURE, hint=NAME)  # it is answered at once
        assert (record.text, record.hint) == ("x", "")
        release(gates[0])
        side.request(("another", 0), page(sent))
        (answer,) = sent.wait()
    assert isinstance(answer, HintAnswer), "the hint of the page before it was not needed any more"


def test_the_late_hint_of_a_page_in_work_is_sent_with_its_job_and_number(
    reader: Callable[..., None], side: SideHints, sent: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader()
    held: list[Submit] = []
    send = testing._FakeSession.send

    def hold(session: Any, message: Any, buffers: Any = ()) -> None:
        """The page is answered when its hint has come."""
        if isinstance(message, Submit):
            held.append(message)
            return
        send(session, message, buffers)
        send(session, held.pop(), ())

    async def message(session: Any, inbox: Any, waiting: Any, timeout_s: float) -> Any:
        return inbox.take() or (sent.wait(), inbox.take())[1]

    monkeypatch.setattr(testing._FakeSession, "send", hold)
    monkeypatch.setattr(testing._FakeSession, "message", message)
    with testing.FakeClient("x") as client:
        (page_read,) = client.ocr(PICTURE, hint=NAME)
    assert page_read.text == "x"
    (late,) = sent.found
    assert late.page_index == 0 and isinstance(late.hint, PageHint)


@pytest.mark.parametrize(("cores", "option", "is_read"), [(4, "auto", True), (3, "auto", False), (1, NAME, True)])
def test_side_ocr_needs_four_cores_unless_it_is_named(
    reader: Callable[..., None],
    side: SideHints,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    option: str,
    is_read: bool,
) -> None:
    reader()
    asked: list[Any] = []
    monkeypatch.setattr(side_hints, "usable_cores", lambda: cores)
    monkeypatch.setattr(side, "request", lambda key, each: asked.append(each))
    with testing.FakeClient("x") as client:
        client.read([PICTURE, PICTURE], hint=option)
    assert [(each.plugin, each.size) for each in asked] == 2 * is_read * [(option, (30, 20))]


def test_a_source_that_fails_aside_is_reported_once_at_the_end(
    side: SideHints, reader: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader()
    monkeypatch.setattr(side, "request", lambda key, each: each.give(HintAnswer(problem="it is torn")))
    lines: list[str] = []
    with testing.FakeClient("x") as client:
        list(client.ocr([PICTURE, PICTURE], hint=NAME, on_notice=lines.append))
    assert lines == ["<image>: the hint of page 1 failed, it is read without: it is torn"]


def test_a_plugin_that_cannot_run_here_is_an_error_of_the_call_with_the_remedy() -> None:
    name = "vision" if sys.platform != "darwin" else "rapidocr"
    with pytest.raises(MissingError, match=f"the hint plugin '{name}' cannot run here: "):
        HintChoice.of(name)
