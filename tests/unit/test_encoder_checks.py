"""What an encoder answers is checked before it is sent, whatever it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.checks import check_spec, checked
from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import PageGeometry

SPEC = EncoderSpec("digest", 3, "<f4")
GEOMETRY = PageGeometry((56, 28), 1, (56, 28), (1.0, 1.0))
PAGE = EncodedPage(np.zeros((2, 3), "<f4"), (2, 4), GEOMETRY)
NAN = np.array([[0, 1, np.nan], [0, 0, 0]], "<f4")


def test_the_images_of_a_request_are_joined_in_order() -> None:
    other = replace(PAGE, embeddings=np.ones((4, 3), "<f4"), grid=(4, 4))
    joined, header = checked([PAGE, other], 2, SPEC)
    assert header.shape == (6, 3) and joined.sum() == 12


def test_the_block_that_becomes_one_embedding_is_what_the_encoder_states() -> None:
    page = replace(PAGE, embeddings=np.zeros((8, 3), "<f4"))
    assert checked([page], 1, replace(SPEC, merge=1))[1].shape == (8, 3)
    page = replace(PAGE, embeddings=np.zeros((2, 3), "<f4"), grid=(3, 6))
    assert checked([page], 1, replace(SPEC, merge=3))[1].shape == (2, 3)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "encode returned None, not a list of EncodedPage"),
        ([PAGE.embeddings], "encode returned a list of ndarray, not"),
        ([PAGE, PAGE], "encode returned 2 pages for 1 images"),
        ([], "encode returned 0 pages for 1 images"),
        ([replace(PAGE, embeddings=[[0.0]])], "embeddings are a list of list, not a numpy array"),
        ([replace(PAGE, embeddings=PAGE.embeddings.astype("f8"))], "embeddings are float64, announced as '<f4'"),
        ([replace(PAGE, embeddings=PAGE.embeddings[:1])], r"shape \(1, 3\), not \(2, 3\) as grid 2x4"),
        ([replace(PAGE, embeddings=np.zeros((2, 4), "<f4"))], r"shape \(2, 4\), not \(2, 3\)"),
        ([replace(PAGE, embeddings=np.zeros((3, 2), "<f4").T)], "not a contiguous matrix"),
        ([replace(PAGE, embeddings=NAN)], "1 of 6 embedding values are not finite"),
        ([replace(PAGE, geometry=None)], "geometry is None, not a PageGeometry"),
        ([replace(PAGE, grid=(2, 3))], "grid 2x3 is not made of blocks of 2x2 patches"),
        ([replace(PAGE, grid=8)], "grid 8 is not two positive whole numbers"),
        ([replace(PAGE, grid=(-2, -4))], "is not two positive whole numbers"),
    ],
)
def test_a_wrong_answer_is_refused_with_what_is_wrong(answer: Any, problem: str) -> None:
    with pytest.raises(PageError, match=problem) as caught:
        checked(answer, 1, SPEC)
    assert caught.value.code is ErrorCode.BAD_EMBED


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (None, "load returned None, not an EncoderSpec"),
        (replace(SPEC, dtype="float32"), "dtype 'float32', not one of <f2, <f4, bf16"),
        (replace(SPEC, width=0), "width 0"),
        (replace(SPEC, merge="2"), "merge '2'"),
        (replace(SPEC, fingerprint=""), "fingerprint ''"),
    ],
)
def test_a_wrong_specification_is_refused_with_what_is_wrong(spec: Any, problem: str) -> None:
    check_spec(SPEC)
    with pytest.raises(PageError, match=problem):
        check_spec(spec)


@pytest.mark.parametrize("field", [{"scale": (float("nan"), 1.0)}, {"offset": (float("inf"), 0)}, {"resized": (0, 1)}])
def test_a_geometry_without_meaning_cannot_be_made(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"positive|not finite"):
        replace(GEOMETRY, **field)
