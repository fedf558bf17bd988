"""What a page's record says of an encoder that times itself, or does not."""

import pytest
from dotsctl.encoder_worker.service import with_total


@pytest.mark.parametrize(
    ("reported", "shown"),
    [
        ({}, {"encode": 10.0}),
        ({"open": 2.0, "resize": 3.0}, {"open": 2.0, "resize": 3.0, "encode": 5.0}),
        ({"open": 2.0, "encode": 7.5}, {"open": 2.0, "encode": 7.5}),
        ({"open": 11.0}, {"open": 11.0, "encode": 0.0}),
    ],
)
def test_what_a_plugin_does_not_name_was_its_encoding(reported: dict[str, float], shown: dict[str, float]) -> None:
    assert with_total(reported, 10.0) == {**shown, "encode_total": 10.0}
