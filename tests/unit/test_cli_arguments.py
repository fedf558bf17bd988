from pathlib import Path

import pytest
from dotsctl import testing
from dotsctl.client.cli.arguments import parse_box, read_prompt
from dotsctl.protocol.errors import UsageError

from tests.fake_client import FakeClient, call, pictures


def test_a_prompt_is_taken_as_it_stands_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Read the Überschrift.\n", encoding="utf-8")
    assert read_prompt(None) is None
    assert read_prompt("Read {box}") == "Read {box}"
    assert read_prompt(f"@{tmp_path / 'prompt.txt'}") == "Read the Überschrift."


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "not UTF-8")]
)
def test_a_prompt_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_prompt(f"@{path}")


def test_a_device_without_an_end_is_no_prompt() -> None:
    with pytest.raises(UsageError, match="is empty or larger than 1 MiB"):
        read_prompt("@/dev/zero")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--max-tokens", "1" + 30 * "0", "max_tokens: expected an integer of 64 bits"),
        ("--max-pixels", str(2**70), "max_pixels: expected an integer of 64 bits"),
        ("--dpi", "1" + 30 * "0", "dpi: expected an integer of 64 bits"),
        ("--prompt", "\udcff", "prompt is not UTF-8 text"),
        ("--prompt", "p" * (2 << 20), "prompt is longer than 1048576 bytes"),
        ("--box", "1,1,1e400,3", "is not a valid box"),
    ],
)
def test_a_value_that_no_runtime_takes_is_a_usage_error(
    client: type[FakeClient], option: str, value: str, words: str
) -> None:
    pictures("a.png")
    result = call("ocr", "a.png", option, value)
    assert result.exit_code == 2 and words in result.stderr


def test_a_question_that_is_no_text_is_a_usage_error(client: type[FakeClient]) -> None:
    pictures("a.png")
    with testing.FakeClient("x") as fake, pytest.raises(UsageError, match="prompt is not UTF-8 text"):
        fake.ask("\udcff", "a.png")


def test_times_that_the_system_cannot_wait_for_are_usage_errors(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["doctor", "--timeout"], ["up", "--timeout"], ["up", "--stall-timeout"], ["status", "--watch"]):
        assert call(*words, "1e300").exit_code == 2
    monkeypatch.setenv("DOTSCTL_PAGE_TIMEOUT", "1e300")
    result = call("up")
    assert result.exit_code == 2 and "is not a number of seconds, 1 to 31536000" in result.stderr


def test_a_box_is_four_numbers() -> None:
    assert parse_box("10,20.5,30,40") == (10, 20.5, 30, 40)
    assert parse_box(None) is None


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "5,0,5,9", "5,9,6,9", "-1,0,5,5", "0,0,nan,5"])
def test_a_box_without_an_area_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--box"):
        parse_box(text)


def test_the_options_of_a_reading_reach_the_client(client: type[FakeClient]) -> None:
    pictures("a.png")
    Path("p.txt").write_text("Read {box}")
    result = call("ocr", "a.png", "--prompt", "@p.txt", "--box", "1,2,3,4", "--no-blank-check", "--no-reread")
    assert result.exit_code == 0
    (asked,) = client.asked
    assert (asked["prompt"], asked["box"], asked["check_blank"], asked["reread"]) == (
        "Read {box}",
        (1.0, 2.0, 3.0, 4.0),
        False,
        False,
    )


@pytest.mark.parametrize("arguments", [("--box", "1,2,3"), ("--prompt", "@missing.txt")])
def test_a_mistake_in_them_starts_no_runtime(client: type[FakeClient], arguments: tuple[str, str]) -> None:
    pictures("a.png")
    assert call("ocr", "a.png", *arguments).exit_code == 2
    assert not client.created


def test_a_reading_with_other_options_is_another_reading(client: type[FakeClient]) -> None:
    pictures("a.png", "b.png")
    assert call("ocr", "a.png", "b.png", "-o", "out/").exit_code == 0
    assert "2 skipped" in call("ocr", "a.png", "b.png", "-o", "out/").stderr
    assert "2 pages read" in call("ocr", "a.png", "b.png", "-o", "out/", "--no-reread").stderr
