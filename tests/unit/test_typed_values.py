"""Stored JSON becomes a value of the declared type, or an error that names the field."""

from dataclasses import dataclass
from typing import Any

import pytest
from dotsctl.protocol.typed_values import WrongValueError, from_json


@dataclass(frozen=True)
class Example:
    name: str
    sizes: tuple[int, ...]
    share: float | None = None


def test_a_value_is_read_and_fields_with_a_default_may_be_absent() -> None:
    assert from_json(Example, b'{"name": "a", "sizes": [1, 2]}') == Example("a", (1, 2))
    assert from_json(Example, b'{"name": "a", "sizes": [], "share": 1}') == Example("a", (), 1.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"name": "\\ud800", "sizes": []}', "not JSON"),
        (b'{"name": "a", "sizes": [' + b"9" * 5000 + b"]}", "not JSON"),
        (b"[]", "Example: expected a map"),
        (b'{"name": "a"}', "missing key 'sizes'"),
        (b'{"name": "a", "sizes": [], "more": 1}', "unknown key 'more'"),
        (b'{"name": 1, "sizes": []}', "Example.name: expected a string"),
        (b'{"name": "a", "sizes": [1, "2"]}', r"Example.sizes\[1\]: expected an integer"),
        (b'{"name": "a", "sizes": [], "share": NaN}', "Example.share: expected a finite number"),
        (b'{"name": "a", "sizes": [], "share": 1' + b"0" * 400 + b"}", "Example.share: expected a finite number"),
    ],
)
def test_everything_else_is_refused_with_the_field(text: bytes, problem: str) -> None:
    with pytest.raises(WrongValueError, match=problem):
        from_json(Example, text)


def test_keys_of_another_program_may_be_left_out_and_other_types_than_dataclasses_be_read() -> None:
    text = b'{"name": "a", "sizes": [], "more": 1}'
    assert from_json(Example, text, ignore_unknown=True) == Example("a", ())
    assert from_json(dict[str, float], b'{"96": 1}') == {"96": 1.0}
    assert from_json(dict[str, Any], b'{"a": [null]}') == {"a": [None]}
