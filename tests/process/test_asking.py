"""Questions about several images, and pages that are read a second time, through the library and the command line."""

import json
from pathlib import Path

import pytest
from dotsctl import Client, PageRestarted, UsageError
from dotsctl.client.inputs.pages import pages_of
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import PageError

from tests.decoding import text_of_files
from tests.process.conftest import START_S, dotsctl
from tests.process.test_library import picture, stored
from tests.process.test_pdf import stored as pdf_of

pytestmark = pytest.mark.process
FAKES = ("--encoder", "fake", "--decoder", "fake")


def client(decoder: str = "fake") -> Client:
    return Client(encoder="fake", decoder=decoder, private=True, timeout_s=START_S)


def half(content: bytes) -> str:
    return text_of_files(content, tokens=4)


def test_a_question_about_several_inputs_is_one_prompt_in_their_order(run_folder: Path, tmp_path: Path) -> None:
    contents = [stored(picture(1)), stored(picture(2)), stored(picture(3))]
    (tmp_path / "a.png").write_bytes(contents[1])
    with client() as one:
        answer = one.ask("Which is red?", [contents[0], tmp_path / "a.png", contents[2]])
        assert (answer.text, answer.task) == (text_of_files(*contents), "ask")
        with pytest.raises(UsageError, match="the question is empty"):
            one.ask("  ", contents)
        with pytest.raises(PageError, match="no images were given"):
            one.ask("Why?", [])
        with pytest.raises(PageError, match="more than 16 images"):
            one.ask("Why?", contents * 6)
        missing = one.ask("Why?", [contents[0], tmp_path / "missing.png"])
        assert missing.error is not None and "no such file" in missing.error.message.lower()


def test_the_command_ask_prints_the_answer_alone(run_folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for colour, path in enumerate(paths):
        path.write_bytes(stored(picture(colour)))
    expected = text_of_files(*(path.read_bytes() for path in paths))
    process = dotsctl("ask", "Which?", *map(str, paths), *FAKES)
    out, err = process.communicate(timeout=START_S)
    assert (process.returncode, out) == (0, expected + "\n"), err
    process = dotsctl("ask", "Which?", *map(str, paths), *FAKES, "--json")
    out, err = process.communicate(timeout=START_S)
    record = json.loads(out)
    assert (record["raw"], record["task"], record["status"]) == (expected, "ask", "ok"), err


def test_the_pages_of_a_pdf_are_asked_about_together(run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "three.pdf"
    path.write_bytes(pdf_of(3))
    contents = [page.load()[1] for page in pages_of(path)]
    process = dotsctl("ask", "How many?", str(path), *FAKES)
    out, err = process.communicate(timeout=START_S)
    assert (process.returncode, out.strip()) == (0, fake_text(*contents)), err


def test_an_image_that_cannot_be_read_stops_a_question_before_a_model_is_loaded(
    run_folder: Path, tmp_path: Path
) -> None:
    process = dotsctl("ask", "Why?", str(tmp_path / "missing.png"), *FAKES)
    out, err = process.communicate(timeout=START_S)
    assert (process.returncode, out) == (1, ""), err
    assert "missing.png" in err


def test_a_page_that_loops_is_read_again_a_little_smaller_and_reported(run_folder: Path) -> None:
    contents = [stored(picture(colour)) for colour in range(4)]
    restarts: list[PageRestarted] = []
    with client("fake:fault=loop-once,batch=2") as one:
        pages = sorted(
            one.ocr(
                contents, on_event=lambda event: restarts.append(event) if isinstance(event, PageRestarted) else None
            ),
            key=lambda page: page.index,
        )
        assert one.status().counters["done"] == 8
    assert [page.text for page in pages] == [text_of_files(content) for content in contents]
    assert {(page.status, page.finish_reason, page.reread) for page in pages} == {("ok", "stop", "loop")}
    assert sorted(restart.index for restart in restarts) == [0, 1, 2, 3]
    assert all("read again at full quality, at most" in restart.reason for restart in restarts)


@pytest.mark.parametrize(("fault", "reason"), [("loop-once", "loop"), ("damage-once", "damaged")])
def test_a_page_that_fails_below_full_quality_is_read_again_at_full(fault: str, reason: str, run_folder: Path) -> None:
    content = stored(picture(1))
    with Client(encoder="fake:side_px=2000", decoder=f"fake:fault={fault}", private=True, timeout_s=START_S) as one:
        (page,) = one.ocr([content], task="layout", quality="balanced")
        (again,) = one.ocr([content], task="layout", quality="balanced")
        assert one.status().counters["done"] == 3
    assert (page.text, page.status, page.reread) == (text_of_files(content), "ok", reason)
    assert (page.quality, page.input_width) == ("full", 1988)
    assert (again.quality, again.input_width, again.reread) == ("balanced", 1260, "")


def test_a_damaged_page_is_kept_where_no_second_reading_is_allowed(run_folder: Path) -> None:
    with Client(encoder="fake:side_px=2000", decoder="fake:fault=damage-once", private=True, timeout_s=START_S) as one:
        (page,) = one.ocr([stored(picture(1))], task="layout", quality="fast", reread=False)
    assert (page.status, page.quality, page.input_width, page.reread) == ("partial", "fast", 980, "")


def test_a_page_that_always_loops_is_reported_as_partial_after_two_readings(run_folder: Path) -> None:
    content = stored(picture(1))
    with client("fake:fault=loop") as one:
        (page,) = one.ocr([content])
        assert one.status().counters["done"] == 2
        (unrepeated,) = one.ocr([content], reread=False)
        assert one.status().counters["done"] == 3
    assert (page.text, page.status, page.finish_reason, page.reread) == (half(content), "partial", "loop", "loop")
    assert (unrepeated.text, unrepeated.status, unrepeated.reread) == (half(content), "partial", "")


def test_a_text_that_the_user_limited_is_not_read_again(run_folder: Path) -> None:
    with client() as one:
        (page,) = one.ocr([stored(picture(1))], max_tokens=2)
        assert one.status().counters["done"] == 1
    assert (page.finish_reason, page.reread) == ("length", "")


def test_a_box_chooses_the_task_and_is_checked(run_folder: Path) -> None:
    with client() as one:
        (page,) = one.ocr([stored(picture(1))], box=(0, 0, 10, 10))
        assert page.task == "ground"
        with pytest.raises(UsageError, match="reads complete pages"):
            list(one.ocr([stored(picture(1))], task="text", box=(0, 0, 10, 10)))
        with pytest.raises(UsageError, match="x0 < x1"):
            list(one.ocr([stored(picture(1))], box=(10, 0, 10, 10)))
