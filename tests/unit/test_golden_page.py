"""The page that shows whether a machine computes embeddings right."""

import hashlib

from dotsctl.encoder_worker.coreml.golden_page import draw_page


def test_the_drawn_page_is_the_same_everywhere_and_no_part_of_it_is_empty() -> None:
    page = draw_page(264)
    assert page.values.shape == (264, 588) and page.grid in ((12, 22), (22, 12))
    assert hashlib.sha256(page.values.tobytes()).hexdigest().startswith("af94e7dff9e7f6d0")
    inked = (page.values.min(axis=1) < 0).reshape(-1, 4).any(axis=1)  # of each embedding
    assert inked.all()
