"""Help texts, manuals and docstrings keep to plain technical English: lengths, first words, retired phrases."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner
from dotsctl.client.cli.main import cli
from dotsctl.tools.dev.manual_commands import MANUALS
from dotsctl.tools.doctor_coreml.main import cli as doctor_coreml

ROOT = Path(__file__).parents[2]
FOLDERS = ("client", "decoder_worker", "encoder_worker", "protocol", "tools")
LONGEST_FIRST_LINE = 60
LONGEST_SENTENCE_WORDS = 30
FRAGMENT = re.compile(
    r"(After|Against|As|At|Before|Between|By|For|From|How|In|Likewise|None|Not|Of|On|Only|Over|Since|So|That|To|Told"
    r"|Under|Up|What|When|Where|Which|Who|Whose|Why|With|Without)\b"
)
"""The first word of a docstring that is neither a verb nor a noun phrase."""


class Retired(NamedTuple):
    """A phrase that texts no longer use."""

    pattern: str
    instead: str
    where: str


class Command(NamedTuple):
    """A command with the words that call it."""

    words: tuple[str, ...]
    command: click.Command


def retired() -> list[Retired]:
    lines = (Path(__file__).parent / "retired.txt").read_text("utf-8").splitlines()
    return [Retired(*map(str.strip, line.rsplit("|", 2))) for line in lines if line and not line.startswith("#")]


def walk(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[Command]:
    yield Command(words, command)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, (*words, name))


COMMANDS = [*walk(cli), Command(("doctor", "--coreml"), doctor_coreml)]
IDS = [" ".join(each.words) or "dotsctl" for each in COMMANDS]
HELP = {
    " ".join(each.words): [
        each.command.help or "",
        *(option.help or "" for option in each.command.params if isinstance(option, click.Option)),
    ]
    for each in COMMANDS
}


def sentences(text: str) -> Iterator[str]:
    """Sentences of prose; blocks of code, tables, headings and examples are left out."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\x08.*?(?=\n\n|\Z)", "", text, flags=re.DOTALL)
    kept = [line for line in text.splitlines() if not line.startswith(("|", "#", "    ", "!["))]
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d+\. )", "\n".join(kept)):
        yield from re.split(r"(?<=[.!?:;])\s+", re.sub(r"\s+", " ", paragraph))


def source_files() -> list[Path]:
    """Return the files of the program; those below ``import_root`` are links to files of other folders."""
    files = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    return sorted(file for file in files if "import_root" not in file.parts)


def names_in(source: str) -> set[str]:
    """Return the names that a file gives to classes, functions, arguments, attributes and variables."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return found


@functools.cache
def names_by_file() -> dict[str, set[str]]:
    """Return the names of each file of the program, with its own name."""
    return {str(file.relative_to(ROOT)): {file.stem, *names_in(file.read_text("utf-8"))} for file in source_files()}


def words_of(name: str) -> str:
    """Return the words of a name, in lower case: ``in slot`` of ``InSlot`` and of ``IN_SLOT``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).lower().strip()


def fragments(source: str) -> list[str]:
    """Docstrings, those of attributes included, that begin with a fragment; those of functions also with "Whether"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for place, each in enumerate(node.body if isinstance(getattr(node, "body", None), list) else []):
            if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)):
                continue
            text = str(each.value.value).lstrip()
            is_of_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and place == 0
            if FRAGMENT.match(text) or (is_of_function and text.startswith("Whether ")):
                found.append(text)
    return found


@pytest.mark.parametrize("each", COMMANDS, ids=IDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_answers_both_forms_of_help(each: Command, flag: str) -> None:
    shown = CliRunner().invoke(cli, [*each.words, flag])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("Usage:")


@pytest.mark.parametrize("each", COMMANDS, ids=IDS)
def test_the_first_line_of_help_is_a_short_imperative_sentence(each: Command) -> None:
    first = (each.command.help or "").strip().splitlines()[0]
    assert len(first) <= LONGEST_FIRST_LINE
    assert re.fullmatch(r"[A-Z][a-z]+ .*\.", first), first
    assert not first.startswith(("The ", "A ", "Of ", "What ")), first


@pytest.mark.parametrize("each", COMMANDS, ids=IDS)
def test_every_option_has_a_help_that_begins_as_a_phrase(each: Command) -> None:
    for option in each.command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert re.match(r"[A-Z]|auto", option.help), option.help
            assert not option.help.startswith(("Of ", "What ", "For ", "Which ")), option.help


@pytest.mark.parametrize("name", [*HELP, "README.md", "CHANGELOG.md"])
def test_sentences_are_short(name: str) -> None:
    texts = HELP.get(name) or [(ROOT / name).read_text("utf-8")]
    long = [s for text in texts for s in sentences(text) if len(s.split()) >= LONGEST_SENTENCE_WORDS]
    assert long == []


@pytest.mark.parametrize("phrase", [each for each in retired() if each.where != "names"], ids=lambda each: each.pattern)
def test_retired_phrases_are_not_used(phrase: Retired) -> None:
    texts: dict[str, str] = {}
    if phrase.where in ("help", "all"):
        texts |= {name: "\n".join(parts) for name, parts in HELP.items()}
    if phrase.where in ("manuals", "all"):
        texts |= {name: (ROOT / name).read_text("utf-8") for name in (*MANUALS, "CHANGELOG.md")}
    if phrase.where in ("source", "all"):
        texts |= {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in source_files()}
    found = [name for name, text in texts.items() if re.search(phrase.pattern, " ".join(text.split()), re.IGNORECASE)]
    assert found == [], f"write: {phrase.instead}"


@pytest.mark.parametrize("phrase", [each for each in retired() if each.where == "names"], ids=lambda each: each.pattern)
def test_names_use_the_standard_terms(phrase: Retired) -> None:
    found = {
        file: used
        for file, names in names_by_file().items()
        if (used := [name for name in names if re.search(phrase.pattern, words_of(name))])
    }
    assert found == {}, f"write: {phrase.instead}"


def test_every_kind_of_name_is_noticed() -> None:
    source = (
        "class InSeat:\n    def is_told(self, beside: int, *, blame: str) -> None:\n        self.seat, LONELY = 1, 2\n"
    )
    assert names_in(source) == {"InSeat", "is_told", "self", "beside", "blame", "seat", "LONELY"}
    assert [words_of(name) for name in ("InSeat", "is_told", "LONELY")] == ["in seat", "is told", "lonely"]
    assert any(re.search(each.pattern, words_of("InSeat")) for each in retired() if each.where == "names")
    assert "client/runtime/worker_slots.py" in names_by_file()


def test_docstrings_begin_with_a_verb_or_a_noun_phrase() -> None:
    files = source_files()
    assert all(any(file.is_relative_to(ROOT / folder) for file in files) for folder in FOLDERS)
    assert {str(file.relative_to(ROOT)): found for file in files if (found := fragments(file.read_text("utf-8")))} == {}


def test_a_fragment_in_any_kind_of_docstring_is_noticed() -> None:
    attribute = 'class A:\n    """A class."""\n    x: int\n    """Of a page."""\n'
    assert fragments(attribute) == ["Of a page."]
    assert fragments('"""What it is.\n\nMore."""\n') == ["What it is.\n\nMore."]
    function = 'def f():\n    """{} it is."""\n    x = 1\n    """Whether it is one."""\n'
    assert fragments(function.format("Whether")) == ["Whether it is."]
    assert fragments(function.format("Return whether")) == []
    assert fragments('"""Format of a page."""\n') == []


def test_the_rules_notice_what_they_are_for() -> None:
    assert any(len(s.split()) >= LONGEST_SENTENCE_WORDS for s in sentences("word " * 30 + "."))
    assert [s for s in sentences("One. Two\nthree. ```\n") if s.startswith("Two three")]
    assert len(MANUALS) == 7 and len(retired()) > 20
