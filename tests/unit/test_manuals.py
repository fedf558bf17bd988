"""The manuals are true: commands are understood, Python runs, links, tables and trees fit the code."""

import importlib
import importlib.util
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import pytest
from dotsctl.client.cli.configured import configurable
from dotsctl.client.cli.main import cli
from dotsctl.client.cli.reading import ocr
from dotsctl.client.results.page import Page
from dotsctl.client.settings.files import FILE_KEYS
from dotsctl.testing import FakeAsyncClient, FakeClient
from dotsctl.tools.dev.manual_commands import MANUALS, blocks, commands
from PIL import Image

ROOT = Path(__file__).parents[2]
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in MANUALS}
README = TEXTS["README.md"]
INSTALLS = [line for line in README.splitlines() if line.startswith("python3 -m venv")]


COMMANDS = [(each.manual, shlex.split(each.line)) for manual in MANUALS for each in commands(manual)]
DOTSCTL = [(manual, words) for manual, words in COMMANDS if words[0] == "dotsctl"]
TOOLS = [(manual, words) for manual, words in COMMANDS if words[0] == "python"]


def test_exactly_two_commands_of_the_readme_install_something() -> None:
    assert len(INSTALLS) == 2
    assert INSTALLS[0].endswith("install -q -c constraints.txt . && .venv/bin/dotsctl demo")
    assert INSTALLS[1].endswith("&& .venv/bin/pytest -n auto")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    parts = INSTALLS[1].replace("python3 -m venv", "python3 -m venv --clear").split(" && ")
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert [line for line in lines if line in parts] == parts


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize(("manual", "words"), DOTSCTL, ids=[f"{m}: {' '.join(w)}" for m, w in DOTSCTL])
def test_every_command_is_understood(manual: str, words: list[str]) -> None:
    command: click.Command = cli
    words = words[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, manual
        command = found
    if isinstance(command, click.Group):
        return
    parent = cli.make_context("dotsctl", [], resilient_parsing=True)  # a command remembers its forms of --help
    with command.make_context("command", words, parent, resilient_parsing=False) as context:
        assert isinstance(context, click.Context)


@pytest.mark.parametrize("module", sorted({words[3] for _, words in TOOLS}))
def test_every_tool_is_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_there_are_many_commands_to_check() -> None:
    assert len(DOTSCTL) > 45
    assert len(TOOLS) > 20


SNIPPETS = [
    (name, code) for name, text in TEXTS.items() if name != "protocol/README.md" for code in blocks(text, "python")
]


@pytest.mark.parametrize(
    ("manual", "code"), SNIPPETS, ids=[f"{name} {number}" for number, (name, _) in enumerate(SNIPPETS)]
)
def test_the_python_of_the_manuals_runs_as_a_script(
    manual: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "client" / "sample_pages", tmp_path / "client" / "sample_pages")
    sheet = Image.new("RGB", (280, 224), "white")
    sheet.save(tmp_path / "report.pdf", save_all=True, append_images=[sheet])
    monkeypatch.chdir(tmp_path)
    answer = '[{"bbox": [1, 2, 30, 40], "category": "Text", "text": "the text"}]' if "cells" in code else "the text"
    monkeypatch.setattr("dotsctl.Client", lambda model: FakeClient(answer))
    monkeypatch.setattr("dotsctl.AsyncClient", lambda model: FakeAsyncClient(answer))
    exec(compile(code, manual, "exec"), {"__name__": "__main__"})
    assert "the text" in capsys.readouterr().out


def test_there_are_ten_recipes_for_the_library() -> None:
    assert len(blocks(TEXTS["client/README.md"], "python")) >= 10


def test_links_between_the_manuals_lead_somewhere() -> None:
    missing = []
    for manual, text in TEXTS.items():
        for link in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = link.partition("#")
            if "://" in path:
                continue
            target = (ROOT / manual).parent / path if path else ROOT / manual
            if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
                missing.append((manual, link))
    assert missing == []


def anchors(text: str) -> set[str]:
    """Anchors of a manual: its headings as GitHub names them, and those that are set."""
    headings = re.findall(r"^#+ (?:<a name=\"[^\"]+\"></a>)?(.*)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings)
    return {*words, *re.findall(r"<a name=\"([^\"]+)\"", text)}


def table_keys(text: str, heading: str) -> list[str]:
    """Names in backquotes in the first column of the first table below a heading."""
    section = text[text.index(f"## {heading}\n") :]
    table = re.search(r"^\|.*?(?=\n\n)", section, re.DOTALL | re.MULTILINE)
    assert table
    return [name for row in table[0].splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_reference_of_the_json_has_every_field_of_a_record() -> None:
    record = Page("a.png", None, 1, 1, "ok").record()
    assert sorted(table_keys(TEXTS["client/README.md"], "JSON")) == sorted(record)


def test_the_table_of_the_configuration_has_every_key_and_its_file_is_read() -> None:
    assert sorted(table_keys(TEXTS["client/README.md"], "Configuration")) == sorted(FILE_KEYS)
    (example,) = blocks(TEXTS["client/README.md"], "toml")
    table = tomllib.loads(example)
    assert table.pop("ocr").keys() <= configurable(ocr).keys()
    assert table.keys() <= set(FILE_KEYS)


def test_the_modules_that_plugins_may_import_are_there() -> None:
    text = TEXTS["encoder_worker/README.md"]
    paragraph = text[text.index("These imports are for plugins") :].split("\n\n")[0]
    modules = re.findall(r"`(dotsctl\.[\w.]+)`(?:\s+\(([^)]*)\))?", paragraph)
    assert len(modules) >= 10
    for module, names in modules:
        found = importlib.import_module(module)
        assert all(hasattr(found, name) for name in re.findall(r"`(\w+)`", names)), module


def test_the_map_of_the_code_shows_the_folders_that_exist() -> None:
    tree = re.search(r"```\n(protocol/ .*?)```", TEXTS["CONTRIBUTING.md"], re.DOTALL)
    assert tree
    shown: set[str] = set()
    place: list[str] = []
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        place[depth:] = [line.strip().split("/")[0]]
        shown.add("/".join(place))
    missing = [folder for folder in shown if not (ROOT / folder).is_dir()]
    assert not missing
    packages = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/**/__init__.py")}
    hidden = ("tests/", "tools/import_root", "tools/dev/", "tools/plugins/template", ".venv", "build")
    assert {p for p in packages if not p.startswith(hidden)} - shown == set()


def test_the_files_in_the_life_of_a_request_exist() -> None:
    section = TEXTS["CONTRIBUTING.md"].partition("### The life of a request")[2].partition("\n## ")[0]
    names = re.findall(r"`([\w/]+(?:\.py|/))`", section)
    assert len(names) > 15
    places = [ROOT, ROOT / "client" / "runtime", ROOT / "encoder_worker", ROOT / "decoder_worker"]
    assert [name for name in names if not any((place / name).exists() for place in places)] == []
