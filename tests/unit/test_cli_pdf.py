"""``dotsctl ocr`` with documents of several pages."""

import json
from pathlib import Path

import pytest
from dotsctl.protocol.errors import RuntimeLostError
from PIL import Image

from tests.fake_client import FakeClient, call, pictures

pytestmark = pytest.mark.usefixtures("client")


def document(name: str, pages: int) -> None:
    blank = [Image.new("L", (40, 30), shade) for shade in range(pages)]
    blank[0].save(name, save_all=True, append_images=blank[1:])


def test_the_chosen_pages_of_a_pdf_are_one_document_in_their_order() -> None:
    document("report.pdf", 9)
    assert call("ocr", "report.pdf", "--pages", "7-,1", "-o", "report.jsonl").stderr == "4 pages read\n"
    records = [json.loads(line) for line in Path("report.jsonl").read_text().splitlines()]
    assert [(record["page"], record["num_pages"]) for record in records] == [(n, 9) for n in (1, 7, 8, 9)]
    assert call("ocr", "report.pdf", "--pages", "2-3").stdout == "text of report.pdf\n\ntext of report.pdf\n"


def test_a_pdf_between_pictures_is_printed_in_its_place() -> None:
    pictures("a.png", "c.png")
    document("b.pdf", 5)
    parts = [
        "==> a.png <==\ntext of a.png",
        "==> b.pdf <==\ntext of b.pdf",
        "text of b.pdf",
        "==> c.png <==\ntext of c.png",
    ]
    assert call("ocr", "a.png", "b.pdf", "c.png", "--pages", "2,4").stdout == "\n\n".join(parts) + "\n"


def test_a_pdf_is_read_from_standard_input() -> None:
    document("in.pdf", 3)
    result = call("ocr", "-", "--pages", "2-", "-f", "json", stdin=Path("in.pdf").read_bytes())
    assert [(record["path"], record["page"]) for record in json.loads(result.stdout)] == [("-", 2), ("-", 3)]


def test_a_pdf_is_skipped_until_other_pages_or_another_resolution_are_asked_for() -> None:
    document("in.pdf", 4)
    pictures("a.png")
    first = ("ocr", "in.pdf", "a.png", "-o", "out/", "--pages", "2-3")
    assert call(*first).stderr == "3 pages read\n"
    assert call(*first).stderr.startswith("0 pages read, 2 skipped")
    assert call(*first, "--password", "irrelevant").stderr.startswith("0 pages read, 2 skipped")
    assert call(*first, "--dpi", "100").stderr.startswith("2 pages read, 1 skipped")
    assert call(*first[:-2]).stderr.startswith("4 pages read, 1 skipped")


def test_an_interrupted_selection_notes_the_chosen_pages_alone(client: type[FakeClient]) -> None:
    document("in.pdf", 9)
    client.raising, client.raise_after = RuntimeLostError("gone"), 1
    assert call("ocr", "in.pdf", "--pages", "2,5", "-o", "out/").exit_code == 6
    note = "<!-- page 5 failed: E_CANCELLED: the run ended before this page was read -->"
    assert Path("out/in.md").read_text() == f"text of in.pdf\n\n{note}\n"


def test_pages_that_a_pdf_does_not_have_are_one_line_and_exit_1() -> None:
    document("in.pdf", 2)
    result = call("ocr", "in.pdf", "--pages", "2-9")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, "text of in.pdf")
    assert result.stderr == "in.pdf:3: pages 3-9 do not exist (the document has 2 pages): choose among these\n"
    assert call("ocr", "in.pdf", "--pages", "9").exit_code == 4


@pytest.mark.parametrize("options", [["--pages", "3-1"], ["--pages", "x"], ["--dpi", "9"], ["--dpi", "x"]])
def test_wrong_pages_and_resolutions_are_exit_2(client: type[FakeClient], options: list[str]) -> None:
    document("in.pdf", 1)
    assert (call("ocr", "in.pdf", *options).exit_code, client.created) == (2, [])


def test_a_password_is_taken_from_the_environment_and_stands_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(Path(__file__).parents[1] / "files" / "encrypted.pdf")
    assert call("ocr", path).exit_code == 4
    wrong = call("ocr", "-v", path, "--password", "hunter2")
    assert wrong.exit_code == 4 and "hunter2" not in wrong.output
    monkeypatch.setenv("DOTSCTL_PASSWORD", "secret")
    assert call("ocr", path, "-o", "out/", "-f", "json").exit_code == 0
    assert all(b"secret" not in file.read_bytes() for file in Path("out").iterdir())
