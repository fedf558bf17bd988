"""``python -P -m dotsctl.tools.dev.drafts`` plays drafts on a recorded answer."""

import base64
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.dev.drafts.hints import read_hint, texts_of, with_errors
from dotsctl.tools.dev.drafts.main import cli
from dotsctl.tools.dev.drafts.splitting import PIECES, read_tokenizer
from reportlab.pdfgen.canvas import Canvas
from tokenizers import Regex, pre_tokenizers

from tests.drafted_pages import drafted_page

PAGE = drafted_page(3)


def write_pdf(file: Path, pages: list[str]) -> None:
    canvas = Canvas(str(file))
    for text in pages:
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "answer.txt").write_text(PAGE.layout)
    (tmp_path / "hint.json").write_text(json.dumps(asdict(PAGE.hint)))
    (tmp_path / "hint.txt").write_text(PAGE.hint.text)
    return tmp_path


def lines(*arguments: str) -> list[str]:
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_an_answer_is_played_as_layout_and_as_text_with_each_hint_and_without(files: Path) -> None:
    found = lines(
        "--answer", str(files / "answer.txt"), "--hint", str(files / "hint.json"), "--tokenizer", "qwen2-split",
        "--cost", "0.06",
    )  # fmt: skip
    assert found[0].startswith("tokenizer: Qwen2's split")
    assert [line.split(":")[0] for line in found if not line.startswith(" ")] == ["tokenizer", "layout", "text"]
    names = ["no hint", "hint.json", "hint.json, 5% errors", "hint.json, 10% errors"]
    shown = [line for line in found if line.startswith(" ")]
    assert [line.split(", a row")[0].strip() for line in shown] == 2 * names
    speeds = [float(line.split()[-4]) for line in shown]
    assert speeds[1] > speeds[2] > speeds[3] > speeds[0] >= 1


def test_a_text_as_hint_and_the_tokenizer_of_a_model_are_played_as_well(files: Path) -> None:
    found = lines(
        "--answer", str(files / "answer.txt"), "--hint", str(files / "hint.txt"), "--tokenizer", str(demo_directory()),
        "--cost", "0.3", "--cost", "0", "--pages", "2",
    )  # fmt: skip
    assert len(found) == 3 + 2 * 2 * 4
    assert "0.30" in found[2] and "0.00" in found[3]


def test_an_answer_that_is_no_list_of_cells_is_played_as_text(files: Path) -> None:
    (files / "plain.txt").write_text(PAGE.text)
    found = lines("--answer", str(files / "plain.txt"), "--tokenizer", "qwen2-split", "--cost", "0.1")
    assert [line.split(":")[0] for line in found if not line.startswith(" ")] == ["tokenizer", "text"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [("hint.json", "[]", "is no hint"), ("hint.json", "{", "is no hint"), ("hint.txt", None, "cannot be read")],
)
def test_a_hint_that_is_none_is_refused(tmp_path: Path, name: str, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=problem):
        read_hint(tmp_path / name)


def test_the_text_layer_of_a_page_is_a_hint(tmp_path: Path) -> None:
    write_pdf(tmp_path / "pages.pdf", ["first page", "the second page"])
    hint = read_hint(tmp_path / "pages.pdf", 2)
    assert [block.text for block in hint.blocks] == ["the second page"]
    assert hint.blocks[0].box is not None and hint.size is not None
    with pytest.raises(UsageError, match=r"has 2 pages: give --page 1 to 2"):
        read_hint(tmp_path / "pages.pdf", 3)
    (tmp_path / "broken.pdf").write_text("no PDF")
    for name in ("broken.pdf", "absent.pdf"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_hint(tmp_path / name)
    write_pdf(tmp_path / "blank.pdf", [""])
    with pytest.raises(UsageError, match=r"page 1 of .* has no text layer"):
        read_hint(tmp_path / "blank.pdf")


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "ranks.tiktoken").write_text("no ranks")
    for name, problem in (("absent", "does not exist"), ("tokenizer.json", "is not a tok"), ("ranks.tiktoken", "no r")):
        with pytest.raises(UsageError, match=problem):
            read_tokenizer(str(tmp_path / name), [])


def test_ranks_become_the_tokenizer_whose_merges_they_are(tmp_path: Path) -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"ab", b"cd", b"abcd", " é".encode(), b"bc"]
    lines = (f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens))
    (tmp_path / "r.tiktoken").write_text("\n".join(lines))
    tokenizer, _ = read_tokenizer(str(tmp_path / "r.tiktoken"), [])
    assert tokenizer.encode("abcd").ids == [258]
    assert tokenizer.encode("abc").ids == [256, ord("c")]
    assert tokenizer.decode(tokenizer.encode("12 abcd é\n").ids) == "12 abcd é\n"


def test_digits_stand_alone_in_qwen2s_split() -> None:
    split = pre_tokenizers.Split(Regex(PIECES), "isolated").pre_tokenize_str('[{"bbox": [140, 7]')
    assert [piece for piece, _ in split] == ['[{"', "bbox", '":', " [", "1", "4", "0", ",", " ", "7", "]"]


def test_errors_are_as_many_as_stated_and_leave_boxes_alone() -> None:
    damaged = with_errors(PAGE.hint, 0.1, 1)
    pairs = [
        (one, other)
        for before, after in zip(PAGE.hint.blocks, damaged.blocks, strict=True)
        for one, other in zip(before.text, after.text, strict=True)
        if one.isalnum()
    ]
    assert 0.06 < sum(one != other for one, other in pairs) / len(pairs) < 0.14
    assert [block.box for block in damaged.blocks] == [block.box for block in PAGE.hint.blocks]


def test_texts_of_an_answer_are_those_of_its_cells() -> None:
    assert texts_of(PAGE.layout) == PAGE.text
    assert texts_of(PAGE.layout.rstrip("]") + "\n") == PAGE.text  # as recorded answers of the real model end
    assert texts_of("plain") == ""
