"""The tree of errors and the exit codes of the command line."""

import inspect

import pytest
from dotsctl.protocol import errors
from dotsctl.protocol.errors import DotsctlError, ErrorCode, ExitCode, PageError, ProtocolError

CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, DotsctlError)}


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
        name: (int(cls.exit_code), None if cls is DotsctlError else cls.__bases__[0].__name__)
        for name, cls in CLASSES.items()
    }
    assert drawn == actual


def test_exit_codes_are_the_published_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0, "SOME_FAILED": 1, "USAGE": 2, "MISSING": 3, "NO_INPUT": 4, "OUTPUT": 5, "RUNTIME": 6, "COMMAND": 7,
        "ALREADY_RUNNING": 8, "INTERRUPTED": 130, "BROKEN_PIPE": 141,
    }  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_the_text_of_an_error_is_its_whole_message(name: str) -> None:
    error = CLASSES[name]("3 of 4 pages are gone: look for them")
    assert str(error) == "3 of 4 pages are gone: look for them"
    assert error.exit_code in set(ExitCode) - {ExitCode.OK}


def test_errors_on_the_wire_carry_their_code() -> None:
    assert PageError("x").code is ErrorCode.BAD_IMAGE
    assert PageError("x", ErrorCode.POISON).code is ErrorCode.POISON
    assert ProtocolError("x").code is ErrorCode.SCHEMA


def test_codes_on_the_wire_are_their_names() -> None:
    assert all(code.value == f"E_{code.name}" for code in ErrorCode)
