from pathlib import Path

import pytest
from dotsctl.client.cli_arguments import parse_box, read_prompt
from dotsctl.protocol.errors import UsageError

from tests.fake_client import FakeClient, call, pictures


def test_a_prompt_is_taken_as_it_stands_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Read the Überschrift.\n", encoding="utf-8")
    assert read_prompt(None) is None
    assert read_prompt("Read {box}") == "Read {box}"
    assert read_prompt(f"@{tmp_path / 'prompt.txt'}") == "Read the Überschrift."


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "no UTF-8")]
)
def test_a_prompt_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_prompt(f"@{path}")


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
