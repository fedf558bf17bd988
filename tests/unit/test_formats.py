"""The registry of formats, and what it must be enough for."""

from pathlib import Path

import pytest
from dotsctl.client.cli.reading import ocr
from dotsctl.client.formats import registry
from dotsctl.client.formats.format import FileFormat, TextBody, TextFormat
from dotsctl.client.formats.registry import FORMATS, format_named, format_of
from dotsctl.client.inputs.sources import OF_RESULTS
from dotsctl.client.results.page import Page

FOLDER = Path(registry.__file__).parent


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_complete(name: str) -> None:
    chosen = format_named(name)
    assert isinstance(chosen, TextFormat | FileFormat)
    assert chosen.ending and not chosen.ending.startswith(".")
    assert format_of(Path(f"out.{chosen.ending}")) == format_of(Path(f"out.{name}")) == name
    if isinstance(chosen, TextFormat):
        assert issubclass(chosen.body, TextBody)
    else:
        assert chosen.content


@pytest.mark.parametrize("name", FORMATS)
def test_a_later_run_over_the_folder_reads_no_output_that_looks_like_a_scan(name: str) -> None:
    ending = format_named(name).ending
    assert not ending.endswith((".png", ".pdf")) or OF_RESULTS.search(f"scans/a.{ending}")


def test_every_module_with_a_format_is_registered() -> None:
    declared = {path.stem for path in FOLDER.glob("*.py") if "\nFORMAT = " in path.read_text("utf-8")}
    assert declared == set(FORMATS)


def test_the_command_line_offers_the_formats_of_the_registry() -> None:
    (option,) = (parameter for parameter in ocr.params if parameter.name == "format_")
    assert list(option.type.choices) == list(FORMATS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.md", "md"),
        ("A.JSON", "json"),
        ("a.overlay.png", "overlay"),
        ("a.png", None),
        ("md", None),
        ("a.tar.gz", None),
    ],
)
def test_the_ending_chooses_the_format(path: str, name: str | None) -> None:
    assert format_of(Path(path)) == name


def test_a_format_that_is_added_is_found_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Names(TextBody):
        def page(self, page: Page) -> str:
            return f"{page.source}\n"

    class NamesFormat(TextFormat):
        ending = "names"
        body = Names

    monkeypatch.setattr(registry, "FORMATS", (*FORMATS, "names"))
    monkeypatch.setattr(registry, "format_named", lambda name: NamesFormat() if name == "names" else format_named(name))
    assert format_of(Path("out.names")) == "names"
