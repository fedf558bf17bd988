"""Generated pages as a PDF with a text layer."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dotsctl.tools.dev.page_pdf import DPI, main

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pypdfium2 = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")


def test_a_pdf_holds_the_pages_with_their_words_behind_them(tmp_path: Path) -> None:
    target = tmp_path / "long.pdf"
    outcome = CliRunner().invoke(main, ["--pages", "4", "--style", "full", "--noise", "0", str(target)])
    assert outcome.exit_code == 0, outcome.output
    truths = [json.loads(line) for line in target.with_suffix(".jsonl").read_text().splitlines()]
    with pypdfium2.PdfDocument(target) as document:
        assert len(document) == len(truths) == 4
        for sheet, truth in zip(document, truths, strict=True):
            layer = sheet.get_textpage()
            assert layer.get_text_range().split() == truth["text"].split()
            pixels = np.asarray(sheet.render(scale=DPI / 72, grayscale=True).to_pil())
            rows = np.nonzero((pixels < 160).any(1))[0]
            assert abs(rows.min() - min(cell["bbox"][1] for cell in truth["cells"])) <= 3
            assert abs(rows.max() - max(cell["bbox"][3] for cell in truth["cells"])) <= 3
            layer.close()
            sheet.close()


def test_words_can_be_found_where_they_are_printed(tmp_path: Path) -> None:
    target = tmp_path / "some.pdf"
    arguments = ["--pages", "6", "--style", "full", "--noise", "0", "--seed", "3", str(target)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    truths = list(map(json.loads, target.with_suffix(".jsonl").read_text().splitlines()))
    texts = [(page, cell) for page, truth in enumerate(truths) for cell in truth["cells"] if cell["category"] == "Text"]
    assert texts
    with pypdfium2.PdfDocument(target) as document:
        for page, cell in texts:
            x0, y0, x1, y1 = (side * 72 / DPI for side in cell["bbox"])
            sheet = document[page]
            layer, height = sheet.get_textpage(), sheet.get_height()
            inside = layer.get_text_bounded(x0 - 1, height - y1 - 1, x1 + 1, height - y0 + 1).split()
            layer.close()
            sheet.close()
            found = len(set(inside) & set(cell["text"].split()))
            assert found >= 0.8 * len(set(cell["text"].split()))
