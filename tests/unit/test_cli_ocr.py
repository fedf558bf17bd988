import json
import os
import threading
from pathlib import Path

import pytest
from dotsctl.client.jobs.page_options import ReadingOptions, ReadOptions
from dotsctl.protocol.errors import (
    AlreadyRunningError,
    CommandFailedError,
    DotsctlError,
    MissingError,
    RuntimeLostError,
)

from tests.fake_client import FakeClient, call, pictures

pytestmark = pytest.mark.usefixtures("client")


# --- ocr: what is printed and written --------------------------------------------------------------------------------


def test_one_page_is_printed_and_nothing_else() -> None:
    pictures("a.png")
    result = call("ocr", "a.png")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "text of a.png\n", "")


def test_several_pages_are_printed_in_order_and_counted_on_stderr() -> None:
    pictures("b.png", "a.png")
    result = call("ocr", "b.png", "a.png")
    assert result.stdout == "==> b.png <==\ntext of b.png\n\n==> a.png <==\ntext of a.png\n"
    assert result.stderr == "2 pages read\n"


def test_quiet_leaves_only_errors_on_stderr(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.failing["b.png"] = "E_OOM"
    assert call("ocr", "-q", "a.png", "b.png").stderr == "b.png:1: it failed\n"


def test_verbose_reports_each_page() -> None:
    pictures("a.png")
    lines = call("ocr", "-v", "a.png").stderr.splitlines()
    assert lines == ["model demo, encoder mlx, decoder mlx", "a.png:1: ok, 0 tokens"]


def test_standard_input_is_read() -> None:
    pictures("a.png")
    result = call("ocr", "-", "-f", "json", stdin=Path("a.png").read_bytes())
    assert json.loads(result.stdout)["path"] == "-"


def test_a_folder_becomes_a_folder_of_texts_and_is_skipped_the_next_time(client: type[FakeClient]) -> None:
    pictures("in/a.png", "in/sub/b.png")
    assert call("ocr", "in", "-o", "out").stdout == ""
    assert Path("out/sub/b.md").read_text() == "text of b.png\n"
    result = call("ocr", "in", "-o", "out")
    assert (result.exit_code, result.stderr) == (
        0,
        "0 pages read, 2 skipped (already done; --force reads them again)\n",
    )
    assert call("ocr", "in", "-o", "out", "--force").stderr == "2 pages read\n"


def test_a_run_with_everything_done_starts_no_runtime(client: type[FakeClient]) -> None:
    from dotsctl.protocol.model.directory import find_model, fingerprint

    client.fingerprint = fingerprint(find_model("small")[1])  # as the runtime would say
    pictures("a.png", "b.png")
    call("ocr", "a.png", "b.png", "-o", "out")
    result = call("ocr", "a.png", "b.png", "-o", "out")
    assert (result.exit_code, len(client.created)) == (0, 1)
    assert "2 skipped" in result.stderr


def test_another_task_is_read_again(client: type[FakeClient]) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/")
    assert "1 skipped" in call("ocr", "a.png", "-o", "out/", "--task", "text").stderr
    assert "skipped" not in call("ocr", "a.png", "-o", "out/", "--task", "layout").stderr


def test_the_options_reach_the_client(client: type[FakeClient]) -> None:
    pictures("a.png")
    options = "--model m --encoder e:k=v --decoder d --name n -j 3 --memory 3G --task layout --prompt P --max-tokens 5"
    assert call("ocr", "a.png", *options.split(), "--max-pixels", "1000", "--quality", "fast").exit_code == 0
    assert client.created == [
        {
            "model": "m",
            "encoder": "e:k=v",
            "decoder": "d",
            "name": "n",
            "window": 3,
            "memory": "3G",
            "readiness_page": None,
        }
    ]
    (asked,) = client.asked
    assert callable(asked.pop("on_notice"))
    expected = {"task": "layout", "prompt": "P", "max_tokens": 5, "max_pixels": 1000, "check_blank": True}
    unchosen = ReadingOptions().given(ReadOptions)
    assert asked == {**unchosen, **expected, "quality": "fast"}
    assert client.closed == 1


def test_a_prompt_from_a_fifo_is_read_once_and_reaches_the_client(client: type[FakeClient]) -> None:
    pictures("a.png")
    os.mkfifo("prompt")
    writer = threading.Thread(target=Path("prompt").write_text, args=("hi there\n",), daemon=True)
    writer.start()
    result = call("ocr", "a.png", "--prompt", "@prompt", "-o", "out/")
    writer.join(20)
    assert (result.exit_code, [asked["prompt"] for asked in client.asked]) == (0, ["hi there"]), result.stderr


def test_a_truncated_page_is_reported_but_is_no_failure(client: type[FakeClient]) -> None:
    pictures("a.png")
    client.statuses["a.png"] = "length"
    result = call("ocr", "a.png")
    assert (result.exit_code, result.stdout) == (0, "text of a.png\n")
    assert result.stderr == (
        "a.png:1: partial: the text was truncated at the token limit\n"
        "1 page read, 1 of them partial (text is missing)\n"
    )


def test_a_partial_page_is_a_failure_where_that_is_requested(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.statuses["a.png"] = "length"
    assert call("ocr", "a.png", "b.png", "--strict").exit_code == 1
    assert call("ocr", "b.png", "--strict").exit_code == 0


def test_blank_pages_are_counted_and_named(client: type[FakeClient]) -> None:
    pictures(*(f"{name}.png" for name in "abcdefgh"))
    client.statuses |= {f"{name}.png": "blank" for name in "abcdef"}
    assert call("ocr", "a.png").stderr == "1 page read, 1 blank (a.png:1)\n"
    summary = "8 pages read, 6 blank (a.png:1, b.png:1, c.png:1, d.png:1, e.png:1, ...)\n"
    assert call("ocr", ".", "-o", "out").stderr.endswith(summary)


def test_lost_resolution_is_reported_once_a_run_with_the_figures_and_the_remedy(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png", "c.png")
    client.losses |= {"a.png": 0.03, "b.png": 0.46, "c.png": 0.5}
    result = call("ocr", "a.png", "b.png", "c.png", "-o", "out/")
    (line,) = [line for line in result.stderr.splitlines() if "resolution" in line]
    assert line.startswith(
        "b.png:1: encoder mlx has no page size for it: read with 46% less resolution, at 896x1260 px. "
        "Choose --quality balanced or --encoder mlx."
    )
    assert "resolution" not in call("ocr", "b.png", "-o", "out/", "--force", "-q").stderr


def test_a_lower_quality_that_was_chosen_is_reported_unless_the_call_is_quiet(client: type[FakeClient]) -> None:
    pictures("a.png")
    client.notices.append("pages of 2480x3508 px: reading at balanced quality")
    assert "pages of 2480x3508 px: reading at balanced quality\n" in call("ocr", "a.png").stderr
    assert call("ocr", "a.png", "-q").stderr == ""


# --- ocr: exit codes -------------------------------------------------------------------------------------------------


def test_a_failed_page_is_one_line_and_exit_1(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.failing["a.png"] = "E_OOM"
    result = call("ocr", "a.png", "b.png")
    assert (result.exit_code, result.stderr) == (1, "a.png:1: it failed\n1 page read, 1 failed\n")
    assert result.stdout == "==> b.png <==\ntext of b.png\n"


def test_the_only_page_failing_in_a_worker_is_exit_1(client: type[FakeClient]) -> None:
    pictures("a.png")
    client.failing["a.png"] = "E_POISON"
    assert call("ocr", "a.png").exit_code == 1


def test_no_readable_input_is_exit_4_without_starting_a_runtime(client: type[FakeClient]) -> None:
    Path("empty").mkdir()
    Path("text.png").write_text("no picture")
    result = call("ocr", "missing.png", "empty", "text.png", "*.tif")
    assert (result.exit_code, client.created, result.stdout) == (4, [], "")
    reported = [line.split(":")[0] for line in result.stderr.splitlines()]
    assert reported == ["missing.png", "empty", "text.png", "*.tif", "0 pages read, 4 failed"]


def test_a_page_that_only_the_encoder_finds_unreadable_is_exit_4(client: type[FakeClient]) -> None:
    pictures("a.png")
    client.failing["a.png"] = "E_BAD_IMAGE"
    assert call("ocr", "a.png").exit_code == 4


def test_an_unreadable_input_beside_a_finished_one_is_exit_1(client: type[FakeClient]) -> None:
    pictures("a.png")
    call("ocr", "a.png", "-o", "out/")
    assert call("ocr", "a.png", "missing.png", "-o", "out").exit_code == 1


def test_an_unknown_task_is_a_usage_error_that_lists_the_known_ones(client: type[FakeClient]) -> None:
    pictures("a.png")
    result = call("ocr", "a.png", "--task", "poem")
    assert (result.exit_code, client.closed) == (2, 1)
    assert result.stderr == "dotsctl: unknown task 'poem'; the model 'demo' has: text, layout\n"


@pytest.mark.parametrize("arguments", [["ocr"], ["ocr", "a.png", "--max-pixels", "9"], ["frobnicate"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_an_output_that_cannot_be_written_is_exit_5_before_a_runtime_starts(client: type[FakeClient]) -> None:
    pictures("a.png")
    Path("file").touch()
    result = call("ocr", "a.png", "-o", "file/out/")
    assert (result.exit_code, client.created) == (5, [])
    assert "dotsctl: cannot write file/out: Not a directory" in result.stderr


def test_an_output_that_cannot_be_written_is_the_failure_of_its_document_alone() -> None:
    pictures("a.png", "b.png", "c.png")
    Path("out/b.md").mkdir(parents=True)
    result = call("ocr", "a.png", "b.png", "c.png", "-o", "out")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "3 pages read, 1 result not written")
    assert "b.png: cannot write out/b.md: Is a directory" in result.stderr
    assert [Path(f"out/{name}.md").read_text() for name in "ac"] == ["text of a.png\n", "text of c.png\n"]
    result = call("ocr", "a.png", "b.png", "c.png", "-o", "out", "--retry-failed")
    assert result.exit_code == 1 and "2 inputs skipped (no recorded failure)" in result.stderr
    Path("out/b.md").rmdir()
    result = call("ocr", "a.png", "b.png", "c.png", "-o", "out")
    assert (result.exit_code, Path("out/b.md").read_text()) == (0, "text of b.png\n")
    assert result.stderr.startswith("0 pages read, 1 resumed from an interrupted run"), "its page was kept"


@pytest.mark.parametrize(("error", "code"), [(RuntimeLostError("gone"), 6), (KeyboardInterrupt(), 130)])
def test_a_run_that_breaks_off_keeps_what_was_read(client: type[FakeClient], error: BaseException, code: int) -> None:
    pictures("a.png", "b.png")
    client.raising, client.raise_after = error, 1
    result = call("ocr", "a.png", "b.png", "-o", "all.md")
    assert (result.exit_code, client.closed) == (code, 1)
    assert Path("all.md").read_text() == "==> a.png <==\ntext of a.png\n"


def test_an_interrupted_folder_resumes_where_it_stopped(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.raising, client.raise_after = KeyboardInterrupt(), 1
    assert "interrupted after 1 page;" in call("ocr", "a.png", "b.png", "-o", "out").stderr
    client.raising = None
    assert call("ocr", "a.png", "b.png", "-o", "out").stderr.startswith("1 page read, 1 skipped")


@pytest.mark.parametrize("error", [MissingError("no model"), AlreadyRunningError("runs"), CommandFailedError("no")])
def test_every_error_has_its_exit_code_and_no_traceback(monkeypatch: pytest.MonkeyPatch, error: DotsctlError) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr("dotsctl.client.api.Client", refuse)
    pictures("a.png")
    result = call("ocr", "a.png")
    assert (result.exit_code, result.stderr) == (error.exit_code, f"dotsctl: {error}\n")
    assert "Traceback" in call("ocr", "-v", "a.png").stderr
    assert "Traceback" in call("-v", "ocr", "a.png").stderr


# --- ocr: what failed before -----------------------------------------------------------------------------------------


def test_retry_failed_reads_only_what_failed_before(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.failing["a.png"] = "E_OOM"
    assert call("ocr", "a.png", "b.png", "-o", "out").exit_code == 1
    pictures("new.png")
    result = call("ocr", "a.png", "b.png", "new.png", "-o", "out", "--retry-failed")
    assert (result.exit_code, Path("out/new.md").exists()) == (1, False)
    assert result.stderr.splitlines() == [
        "a.png:1: it failed",
        "0 pages read, 1 failed, 2 inputs skipped (no recorded failure)",
    ]
    client.failing.clear()
    result = call("ocr", "a.png", "b.png", "new.png", "-o", "out", "--retry-failed", "--max-tokens", "9")
    assert (result.exit_code, Path("out/a.md").read_text()) == (0, "text of a.png\n"), "other options are allowed"
    result = call("ocr", "a.png", "b.png", "new.png", "-o", "out", "--retry-failed")
    assert (result.exit_code, result.stderr) == (0, "0 pages read, 3 inputs skipped (no recorded failure)\n")


def test_without_retry_failed_a_failure_is_tried_again_beside_what_is_new(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.failing["a.png"] = "E_OOM"
    call("ocr", "a.png", "b.png", "-o", "out")
    client.failing.clear()
    pictures("new.png")
    assert call("ocr", "a.png", "b.png", "new.png", "-o", "out").stderr.startswith("2 pages read, 1 skipped")


def test_a_page_that_the_end_of_the_run_cut_off_has_not_failed(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    client.failing["a.png"] = "E_CANCELLED"  # as the runtime answers when it is stopped
    call("ocr", "a.png", "b.png", "-o", "out")
    assert (
        "2 inputs skipped (no recorded failure)" in call("ocr", "a.png", "b.png", "-o", "out", "--retry-failed").stderr
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["-o", "out/", "--force"], "leave one of them out"), ([], "folder"), (["-o", "a.md"], "-o")],
)
def test_retry_failed_needs_a_folder_and_no_force(options: list[str], problem: str) -> None:
    pictures("a.png")
    result = call("ocr", "a.png", "--retry-failed", *options)
    assert result.exit_code == 2 and problem in result.stderr


def test_a_link_to_another_input_is_named_and_read_once(client: type[FakeClient]) -> None:
    pictures("in/a.png")
    Path("in/b.png").symlink_to("a.png")
    result = call("ocr", "in", "-o", "out/")
    assert (result.exit_code, [path.name for path in Path("out").glob("*.md")]) == (0, ["a.md"])
    assert "in/b.png: the same file under another name; it is read once, as in/a.png" in result.stderr
    assert "in/b.png" not in call("ocr", "in", "-o", "quiet/", "--quiet").stderr
