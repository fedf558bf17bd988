"""A page with a text layer through the decoder plugin: fewer passes, the same answer."""

from collections.abc import Iterator

import numpy as np
import pytest
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.plugin import EncodedPrompt, Finish
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.encoder_worker.plugin import EncodedPage, PageImage
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.tools.measuring.encoding import PageEncoder, kept
from dotsctl.tools.pages.truths import Truth, printed_pages
from PIL import Image

from tests.plugins import load_plugin

pytest.importorskip("mlx.core")
pytestmark = pytest.mark.model
SEED = 7_000_000


@pytest.fixture(scope="module")
def page() -> Truth:
    return next(page for page in printed_pages(20, SEED) if page.elements and len(page.text) > 60)


@pytest.fixture(scope="module")
def encoded(page: Truth) -> EncodedPage:
    encoder = PageEncoder(PluginChoice("mlx"), demo_directory(), lambda note: None)
    assert isinstance(page.image, Image.Image)
    found = kept(encoder.encode_image(PageImage(None, np.asarray(page.image.convert("RGB")), None)))
    encoder.close()
    return found


@pytest.fixture
def decoder(run_folder: object) -> Iterator[MLXDecoder]:
    made = MLXDecoder()
    load_plugin(made, demo_directory(), {}, lambda note: None)
    made._decoder.scheduler.costs = RowCosts.linear(0.06)
    yield made
    made.close()


def hint_of(page: Truth) -> PageHint:
    assert page.elements is not None and isinstance(page.image, Image.Image)
    x, y = page.image.size
    blocks = (HintBlock(each.plain, (*map(float, each.box),)) for each in page.elements if each.plain)
    return PageHint(tuple(blocks), (float(x), float(y)), "textlayer")


def read(decoder: MLXDecoder, encoded: EncodedPage, task: str, hint: PageHint | None) -> tuple[Finish, int]:
    """The answer, and the passes that it took."""
    scheduler = decoder._decoder.scheduler
    before = scheduler.passes
    decoder.admit(EncodedPrompt(1, encoded.embeddings, task, None, None, hint, geometry=encoded.geometry))
    while True:
        for piece in decoder.step():
            if piece.finish is not None:
                return piece.finish, scheduler.passes - before


@pytest.mark.parametrize(("task", "tokens_a_pass"), [("text", 2.8), ("layout", 2.2)])
def test_a_text_layer_saves_passes_and_changes_nothing(
    decoder: MLXDecoder, encoded: EncodedPage, page: Truth, task: str, tokens_a_pass: float
) -> None:
    plain, plain_passes = read(decoder, encoded, task, None)
    hinted, passes = read(decoder, encoded, task, hint_of(page))
    assert hinted == plain
    assert passes < 0.7 * plain_passes
    assert hinted.completion_tokens / passes >= tokens_a_pass
