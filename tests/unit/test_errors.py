"""The tree of errors, and the one table of their exit codes and HTTP statuses."""

import ast
import copy
import inspect
from pathlib import Path

import pytest
from dotsctl.protocol import errors
from dotsctl.protocol.errors import ANSWERS, DotsctlError, ErrorCode, ExitCode, PageError, ProtocolError

CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, DotsctlError)}
ROOT = Path(__file__).parents[2]


def test_the_drawn_tree_is_the_tree() -> None:
    drawn: dict[str, tuple[int, str | None]] = {}
    stem: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("├──", "   ").replace("└──", "   ").replace("│", " ").split()
        if not words or not words[0].endswith("Error"):
            continue
        depth = line.index(words[0])
        stem = [entry for entry in stem if entry[0] < depth]
        drawn[words[0]] = (int(words[1]), stem[-1][1] if stem else None)
        stem.append((depth, words[0]))
    actual = {
        name: (int(cls("x").exit_code), None if cls is DotsctlError else cls.__bases__[0].__name__)
        for name, cls in CLASSES.items()
    }
    assert drawn == actual


def test_exit_codes_are_the_published_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0, "SOME_FAILED": 1, "USAGE": 2, "MISSING": 3, "NO_INPUT": 4, "OUTPUT": 5, "RUNTIME": 6, "COMMAND": 7,
        "ALREADY_RUNNING": 8, "INTERRUPTED": 130, "BROKEN_PIPE": 141,
    }  # fmt: skip


def test_the_table_has_each_code_of_the_wire_and_of_a_class_and_no_other() -> None:
    assert set(ANSWERS) == {*ErrorCode, *(cls.code for cls in CLASSES.values())}
    assert {answer.exit_code for answer in ANSWERS.values()} <= set(ExitCode) - {ExitCode.OK}
    assert {answer.http_status for answer in ANSWERS.values()} <= {400, 404, 413, 422, 429, 500, 503, 504}


def test_no_two_classes_share_a_code() -> None:
    assert len({cls.code for cls in CLASSES.values()}) == len(CLASSES)


def _names(node: ast.AST | None) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node else set()


def _deciding_lines(path: Path) -> list[str]:
    """Where a handler of our errors names an exit code, or a class has one of its own."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler) and _names(node.type) & set(CLASSES):
            found += [each for line in node.body for each in ast.walk(line) if "ExitCode" in _names(each)][:1]
        if isinstance(node, ast.ClassDef):
            names = {name for line in node.body if isinstance(line, ast.Assign) for name in _names(line)}
            found += [node] if "exit_code" in names else []
    return [f"{path.relative_to(ROOT)}:{node.lineno}" for node in found if isinstance(node, ast.stmt | ast.expr)]


def test_the_exit_code_of_an_error_is_decided_in_the_table_alone() -> None:
    folders = ("client", "protocol", "encoder_worker", "decoder_worker", "tools")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 300
    assert [line for path in files for line in _deciding_lines(path)] == []


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_has_problem_and_remedy_and_its_text_is_both(name: str) -> None:
    error = CLASSES[name]("3 of 4 pages are gone", "look for them")
    assert (error.problem, error.remedy) == ("3 of 4 pages are gone", "look for them")
    assert str(error) == "3 of 4 pages are gone: look for them"
    assert error.paragraph() == "3 of 4 pages are gone\nWhat to do: look for them"


def test_a_list_of_problems_has_the_remedy_on_a_line_of_its_own() -> None:
    assert str(DotsctlError("2 problems:\n  a\n  b", "correct them")).endswith("  b\nWhat to do: correct them")


def test_an_error_without_a_remedy_is_its_problem() -> None:
    assert (str(DotsctlError("it broke")), DotsctlError("it broke").paragraph()) == ("it broke", "it broke")


def test_errors_on_the_wire_carry_their_code() -> None:
    assert PageError("x").code is ErrorCode.BAD_IMAGE
    assert PageError("x", code=ErrorCode.POISON).code is ErrorCode.POISON
    assert ProtocolError("x").code is ErrorCode.SCHEMA


def test_a_copy_of_an_error_has_the_same_fields() -> None:
    error = copy.copy(PageError("broken", "scan it again", code=ErrorCode.OOM))
    assert (error.problem, error.remedy, error.code) == ("broken", "scan it again", ErrorCode.OOM)


def test_codes_on_the_wire_are_their_names() -> None:
    assert all(code.value == f"E_{code.name}" for code in ErrorCode)
