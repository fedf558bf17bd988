"""Options of a page: what a quality means, and which values are refused."""

from dataclasses import Field, dataclass, fields
from typing import get_type_hints

import click
import numpy as np
import pytest
from dotsctl.client.cli.options import _click_option
from dotsctl.client.cli.reading import ocr
from dotsctl.client.jobs.page_options import FLAG, IN_KEY, Flag, ReadingOptions, ReadOptions, StreamOptions
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.parts import PageOptions, Quality

from tests.readings import reading


def options(**chosen: object) -> PageOptions:
    return ReadingOptions(**chosen).for_model("demo", ("text", "ground"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quality", "max_pixels", "limit"),
    [
        ("full", None, None),
        ("full", 500_000, 500_000),
        ("balanced", None, 1_600_000),
        ("balanced", 500_000, 500_000),
        ("fast", None, 1_000_000),
        ("fast", 1_200_000, 1_000_000),
    ],
)
def test_a_quality_limits_pixels_and_max_pixels_lowers_them_further(
    quality: str, max_pixels: int | None, limit: int | None
) -> None:
    assert options(quality=quality, max_pixels=max_pixels).pixel_limit == limit


def test_margins_are_trimmed_below_full_quality_and_never_where_a_box_is_read() -> None:
    assert [options(quality=str(quality)).trims_margins for quality in Quality] == [False, True, True]
    assert not options(quality="fast", box=(1.0, 2.0, 3.0, 4.0)).trims_margins


def test_an_unknown_quality_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="unknown quality 'best': choose one of full, balanced, fast"):
        options(quality="best")


def test_the_keyword_arguments_are_the_fields_of_the_record() -> None:
    declared, checked = get_type_hints(ReadOptions), get_type_hints(ReadingOptions)
    assert declared == {**checked, "quality": str | None}  # a str becomes a Quality


@pytest.mark.parametrize("each", fields(ReadingOptions), ids=lambda each: each.name)
def test_every_option_states_whether_results_depend_on_it(each: "Field[object]") -> None:
    assert isinstance(each.metadata.get(IN_KEY), bool), "declare it with metadata=option(in_key=...)"
    chosen = {"pages": "1", "box": (1, 2, 3, 4), "quality": "fast", "dpi": 90, "hint": "x"}
    other = not each.default if isinstance(each.default, bool) else 900 if "int" in str(each.type) else "x"
    changed = chosen.get(each.name, other)
    is_in_key = ReadingOptions(**{each.name: changed}).key() != ReadingOptions().key()  # type: ignore[arg-type]
    assert is_in_key == each.metadata[IN_KEY]


def test_an_option_without_a_decision_about_the_key_is_noticed() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Longer(ReadingOptions):
        sharpen: bool = False

    with pytest.raises(KeyError):
        Longer().key()


def test_the_key_is_that_of_earlier_versions_and_the_default_task_has_no_name_in_it() -> None:
    assert ReadingOptions(task="layout").key() == {**ReadingOptions().key(), "task": "layout"}
    assert ReadingOptions(task="layout").key(default_task="layout") == ReadingOptions().key()
    assert ReadingOptions().key()["task"] == ""
    assert ReadingOptions(box=(1, 2, 3, 4)).key()["task"] == "ground"
    stored = reading("f" * 64, "mlx", "mlx", task="text", dpi=300, password="secret", hint="words")
    assert stored.key("d" * 64, "md") == "f98f547ab740c1dd3bd0e85acb772ee260db7929dbd941464d4117b14bbfc3f5"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_tokens": "5"}, "max_tokens: expected an integer"),
        ({"max_tokens": 0}, "max_tokens 0 is below 1"),
        ({"max_pixels": 9}, "max_pixels 9 is below 784"),
        ({"quality": 3}, "quality: expected one of full"),
        ({"box": (4, 3, 2, 1)}, "box .* is not x0,y0,x1,y1"),
        ({"box": "1,2,3,4"}, "box: expected an array of 4"),
        ({"dpi": 1}, "1 dpi is not between 36 and 1200"),
        ({"pages": "0"}, "pages are counted from 1"),
        ({"pages": 3}, "pages: expected a string"),
        ({"reread": "no"}, "reread: expected true or false"),
        ({"task": 1}, "task: expected a string"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ReadingOptions.of(wrong)


def test_numbers_of_numpy_are_numbers() -> None:
    chosen = ReadingOptions(box=tuple(np.array([1.0, 2.0, 3.0, 4.0])), max_tokens=np.int64(5))  # type: ignore[arg-type]
    assert (chosen.box, chosen.max_tokens) == ((1.0, 2.0, 3.0, 4.0), 5)
    assert {type(side) for side in chosen.box or ()} == {float} and type(chosen.max_tokens) is int


def test_an_option_that_the_call_does_not_have_is_a_type_error_that_lists_those_that_it_has() -> None:
    with pytest.raises(TypeError, match=r"'maxtokens' is not an option of this call; the options are: .*max_tokens"):
        ReadingOptions.of({"maxtokens": 5})
    with pytest.raises(TypeError, match="'reread' is not an option"):
        ReadingOptions.of({"reread": False}, StreamOptions)


@pytest.mark.parametrize(
    ("default", "words", "expected"), [(False, ["--strip"], True), (True, [], True), (False, [], False)]
)
def test_an_option_that_is_true_or_false_is_a_flag(default: bool, words: list[str], expected: bool) -> None:
    flag = Flag("Strip.", switches_off="--no-strip" if default else "")
    command = click.command()(_click_option("strip", default, flag)(lambda strip: None))
    value = command.make_context("x", words).params["strip"]
    assert (not value if flag.switches_off else value) == expected


def test_a_password_is_not_printed() -> None:
    assert "secret" not in repr(ReadingOptions(password="secret"))


def test_every_flag_of_the_command_line_belongs_to_an_option() -> None:
    names = {parameter.name for parameter in ocr.params}
    assert {each.name for each in fields(ReadingOptions) if each.metadata[FLAG]} <= names
    flags = {word for parameter in ocr.params for word in parameter.opts}
    assert {"--no-blank-check", "--no-reread", "--max-pixels", "--box"} <= flags
