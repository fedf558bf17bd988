"""Answers with drafts have the tokens of those without, whatever the kind of weights."""

import pytest
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.dev.draft_equality.main import KIND_NAMES

from tests.conftest import sample

pytest.importorskip("mlx.core")

from dotsctl.tools.dev.draft_equality.comparing import compare

pytestmark = pytest.mark.model


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_drafts_change_no_token_with_any_kind_of_weights(kind: str) -> None:
    (outcome,) = compare(demo_directory(), sample(2, 40), [kind])
    assert outcome.equal == outcome.pages, outcome.line()
    assert outcome.tokens > 20 * outcome.pages
    assert outcome.passes < 0.6 * outcome.tokens
