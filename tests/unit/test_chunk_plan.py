"""Where the tower is cut into packages, and the options that a conversion takes."""

from itertools import combinations, pairwise
from typing import Any

import pytest
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.coreml.chunk_plan import DENSE_LIMIT_BYTES, PlannedChunk, cut, plan_chunks
from dotsctl.tools.coreml.options import ConversionOptions
from hypothesis import given, settings
from hypothesis import strategies as st

REAL = VisionConfig(1536, 1536, 4224, 42, 12, 1e-5, False, True)
PARAMETERS = 1_262_091_264


def plan(**options: Any) -> list[PlannedChunk]:
    return plan_chunks(REAL, ConversionOptions(**options))


@pytest.mark.parametrize(
    ("options", "packages", "bytes_a_parameter"),
    [
        ({}, 6, 2),
        ({"precision": "float32"}, 11, 4),
        ({"weights": "int8"}, 6, 1),
        ({"weights": "int4"}, 6, 0.57),
        ({"weights": "palette6"}, 6, 0.76),
        ({"chunks": 7}, 7, 2),
    ],
)
def test_the_real_tower_takes_few_packages_below_the_limit_of_expanded_weights(
    options: dict[str, Any], packages: int, bytes_a_parameter: float
) -> None:
    found = plan(**options)
    assert len(found) == packages
    assert [part.first_layer for part in found] == [0, *(part.end_layer for part in found[:-1])]
    assert found[-1].end_layer == 42
    assert all(part.first_layer < part.end_layer and part.dense_bytes < DENSE_LIMIT_BYTES for part in found)
    if packages == 6:
        assert sorted(part.end_layer - part.first_layer for part in found) == [6, 7, 7, 7, 7, 8]
    assert sum(part.stored_bytes for part in found) == pytest.approx(PARAMETERS * bytes_a_parameter, rel=0.02)
    dense = PARAMETERS * (4 if options.get("precision") == "float32" else 2)
    assert sum(part.dense_bytes for part in found) == pytest.approx(dense, rel=0.02)


@pytest.mark.parametrize("weights", ["same", "int4"])
@pytest.mark.parametrize("chunks", [1, 5])
def test_too_few_packages_for_the_limit_are_refused_with_the_numbers(chunks: int, weights: str) -> None:
    with pytest.raises(UsageError, match=rf"with {chunks} chunks .* bytes of expanded weights.*500,000,000"):
        plan(chunks=chunks, weights=weights)


def test_more_packages_than_layers_are_refused() -> None:
    assert len(plan(chunks=42)) == 42
    with pytest.raises(UsageError, match="43 chunks: the tower has only 42 layers"):
        plan(chunks=43)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=8), st.data())
def test_the_largest_package_is_as_small_as_it_can_be(sizes: list[int], data: st.DataObject) -> None:
    number = data.draw(st.integers(1, len(sizes)))
    ends = cut(sizes, number)
    assert len(ends) == number
    assert ends == sorted(set(ends)) and ends[-1] == len(sizes)

    def largest(ends: list[int]) -> int:
        return max(sum(sizes[first:end]) for first, end in pairwise([0, *ends]))

    every = (largest([*cuts, len(sizes)]) for cuts in combinations(range(1, len(sizes)), number - 1))
    assert largest(ends) == min(every)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"precision": "bfloat16"}, r"precision 'bfloat16' is none of float16, float32"),
        ({"weights": "int3"}, r"weights 'int3' is none of same, int8, int8-per-tensor, int4, palette6"),
        ({"compute_units": "ane"}, "compute_units 'ane' is none of cpu_and_ne"),
        ({"buckets": (30,)}, "bucket of 30 patches"),
        ({"query_tile": 0}, "query tile of 0"),
        ({"chunks": 0}, "0 chunks"),
        ({"name": ".hidden"}, "no name of a folder"),
        ({"name": "a/b"}, "no name of a folder"),
    ],
)
def test_an_option_that_there_is_not_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        ConversionOptions(**options)


def test_a_build_is_named_after_its_precision_and_weights() -> None:
    assert ConversionOptions().build_name == "float16"
    assert ConversionOptions("float32", "int8").build_name == "float32-int8"
    assert ConversionOptions(name="mine").build_name == "mine"
    assert ConversionOptions(buckets=(160, 96)).buckets == (96, 160)
