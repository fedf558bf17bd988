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


@pytest.mark.parametrize(
    ("reported", "shown"),
    [
        ({}, {"prepare_wait": 4.0, "encode": 6.0}),
        ({"open": 20.0, "resize": 3.0}, {"open": 20.0, "resize": 3.0, "prepare_wait": 4.0, "encode": 6.0}),
        ({"open": 2.0, "encode": 5.5}, {"open": 2.0, "prepare_wait": 4.0, "encode": 5.5}),
    ],
)
def test_a_preparation_beside_another_page_is_no_part_of_the_encoders_time(
    reported: dict[str, float], shown: dict[str, float]
) -> None:
    assert with_total(reported, 10.0, 4.0) == {**shown, "encode_total": 10.0}
