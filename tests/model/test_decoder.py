"""Decoding of several pages together against mlx-lm's own one-by-one greedy decoding."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.plugin import EncodedPrompt, Finish
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.protocol.errors import ErrorCode, MissingError, PageError, UsageError
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.parts import FinishReason

from tests.plugins import load_plugin

mx = pytest.importorskip("mlx.core")
ByteLevel = pytest.importorskip("tokenizers.pre_tokenizers").ByteLevel

pytestmark = pytest.mark.model
Writer = Callable[..., Path]
MARKS_FROM = 256
FREE = RowCosts(((1, 1.0),))
"""Costs at which all drafts are verified."""
GAP = 1e-4
"""Logarithm of the odds between the two best tokens below which rounding may decide."""


class Reference(NamedTuple):
    """What greedy decoding of one page alone gives."""

    tokens: list[int]
    sure: bool
    """Whether rounding can have decided nowhere."""


def make(folder: Path, **options: str) -> MLXDecoder:
    decoder = MLXDecoder()
    load_plugin(decoder, folder, options, lambda note: None)
    return decoder


@pytest.fixture(scope="module")
def endless(write_model: Writer, tensors: dict[str, np.ndarray]) -> Path:
    """A model that writes printable ASCII characters and never ends by itself."""
    head, alphabet = tensors["lm_head.weight"].copy(), sorted(ByteLevel.alphabet())
    head[[token for token in range(len(head)) if token > 255 or not "!" <= alphabet[token] <= "~"]] = 0
    return write_model(tensors=tensors | {"lm_head.weight": head}, end_ids=[271])


@pytest.fixture(scope="module")
def pages() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(n, 48)).astype(np.float32) for n in (3, 30, 1, 70, 12, 20, 5, 45)]


def alone(folder: Path, page: np.ndarray, max_tokens: int) -> Reference:
    from dotsctl.decoder_worker.model import load_model
    from dotsctl.decoder_worker.prompt import PromptBuilder
    from dotsctl.decoder_worker.splice import splice
    from dotsctl.decoder_worker.tasks import read_prompts
    from mlx_lm.generate import generate_step

    model = load_model(folder)
    prompt = PromptBuilder(model.tokenizer, read_prompts(folder), None).build("text", None, [len(page)])
    embeddings = splice(prompt, page, model.network.model.embed_tokens, model.dtype, model.width)
    tokens, sure = [], True
    steps = generate_step(mx.array(prompt.ids), model.network, max_tokens=max_tokens, input_embeddings=embeddings)
    for token, logprobs in steps:
        second, first = np.sort(np.array(logprobs))[-2:]
        sure = sure and first - second > GAP
        tokens.append(int(token))
        if int(token) in model.end_ids:
            break
    return Reference(tokens, sure)


@pytest.fixture(scope="module")
def references(endless: Path, pages: list[np.ndarray]) -> list[Reference]:
    found = [alone(endless, page, 60) for page in pages]
    assert sum(reference.sure for reference in found) >= 6
    return found


def text_of(tokens: list[int]) -> str:
    """Each token of the endless model is a printable ASCII character."""
    alphabet = sorted(ByteLevel.alphabet())
    return "".join(alphabet[token] for token in tokens)


def decode_all(
    decoder: MLXDecoder, prompts: list[EncodedPrompt], joins: dict[int, int], cancels: dict[int, int] | None = None
) -> tuple[dict[int, Finish], dict[int, str]]:
    """Admit each page when its step has come and there is room; results and streamed texts."""
    waiting = sorted(prompts, key=lambda prompt: joins.get(prompt.page_id, 0))
    results: dict[int, Finish] = {}
    streamed: dict[int, str] = {}
    open_ids: set[int] = set()
    step = 0
    while waiting or open_ids:
        while waiting and joins.get(waiting[0].page_id, 0) <= step and decoder.has_room(waiting[0]):
            open_ids.add(waiting[0].page_id)
            decoder.admit(waiting.pop(0))
        for page_id in [p for p in open_ids if cancels and cancels.get(p, 1 << 30) <= step]:
            decoder.cancel(page_id)
            open_ids.remove(page_id)
        for piece in decoder.step():
            streamed[piece.page_id] = streamed.get(piece.page_id, "") + piece.text
            if piece.finish:
                results[piece.page_id] = piece.finish
                open_ids.remove(piece.page_id)
        step += 1
        assert step < 5000
    return results, streamed


def hint_for(kind: str, tokens: list[int], seed: int) -> PageHint | None:
    truth, rng = text_of(tokens), random.Random(seed)
    text = {
        "right": truth,
        "half right": "".join(char if rng.random() > 0.2 else rng.choice("xyz") for char in truth),
        "wrong": "the quick brown fox jumps over the lazy dog " * 3,
    }.get(kind)
    return PageHint((HintBlock(text),)) if text else None


@pytest.mark.parametrize("hints", ["none", "right", "half right", "wrong", "mixed"])
@pytest.mark.parametrize(("chunk", "look_ahead"), [("16", True), ("256", False)])
def test_pages_that_join_and_leave_read_as_they_would_alone(
    endless: Path, pages: list[np.ndarray], references: list[Reference], hints: str, chunk: str, look_ahead: bool
) -> None:
    decoder = make(endless, batch="4", rows="24", prefill_chunk=chunk)
    adapter: Any = decoder._decoder.scheduler.model
    adapter.look_ahead = look_ahead
    decoder._decoder.scheduler.costs = FREE
    kinds = ["none", "right", "half right", "wrong"]
    prompts = [
        EncodedPrompt(
            page_id,
            page,
            "text",
            None,
            20 + 5 * page_id,
            hint_for(kinds[page_id % 4] if hints == "mixed" else hints, references[page_id].tokens, page_id),
        )
        for page_id, page in enumerate(pages)
    ]
    results, streamed = decode_all(decoder, prompts, {page_id: 7 * page_id for page_id in range(len(pages))})
    for page_id, reference in enumerate(references):
        expected = text_of(reference.tokens[: 20 + 5 * page_id])
        if reference.sure:
            assert results[page_id].text == expected
        assert results[page_id].text == streamed[page_id]
        assert results[page_id].reason is FinishReason.LENGTH
        assert results[page_id].completion_tokens == 20 + 5 * page_id
        assert results[page_id].prompt_tokens == len(pages[page_id]) + 10
    decoder.close()


def test_long_pages_share_the_memory_they_are_given(endless: Path, pages: list[np.ndarray]) -> None:
    decoder = make(
        endless, cache_mib="2", batch="8"
    )  # 5,461 positions of 384 bytes: two pages with 2,048 tokens to come
    prompts = [EncodedPrompt(i, page, "text", None, 5, None) for i, page in enumerate(pages)]
    decoder.admit(prompts[0])
    assert decoder.has_room(prompts[1])
    decoder.admit(prompts[1])
    assert not decoder.has_room(prompts[2])
    decoder.close()


def test_a_right_hint_saves_passes(endless: Path, pages: list[np.ndarray], references: list[Reference]) -> None:
    decoder = make(endless, batch="2", rows="16")
    scheduler = decoder._decoder.scheduler
    scheduler.costs = FREE
    before = scheduler.passes
    hint = hint_for("right", references[1].tokens, 0)
    decode_all(decoder, [EncodedPrompt(1, pages[1], "text", None, 60, hint)], {})
    assert scheduler.passes - before <= 15
    decoder.close()


@pytest.mark.parametrize(("tie_gap", "fewest", "most"), [(0.0, 0, 0), (0.3, 1, 59), (1e9, 5, 120)])
def test_tokens_that_rounding_may_decide_are_decided_by_a_pass_with_one_row(
    endless: Path, pages: list[np.ndarray], references: list[Reference], tie_gap: float, fewest: int, most: int
) -> None:
    decoder = make(endless, batch="2", rows="16")
    scheduler = decoder._decoder.scheduler
    adapter: Any = scheduler.model
    scheduler.costs, adapter.tie_gap = FREE, tie_gap
    hints = [hint_for("right", references[page].tokens, 0) for page in (1, 3)]
    prompts = [
        EncodedPrompt(page, pages[page], "text", None, 60, hint) for page, hint in zip((1, 3), hints, strict=True)
    ]
    before = scheduler.passes
    results, _ = decode_all(decoder, prompts, {})
    assert all(references[page].sure for page in (1, 3))
    assert [results[page].text for page in (1, 3)] == [text_of(references[page].tokens) for page in (1, 3)]
    assert fewest <= adapter.rescored <= most
    assert scheduler.passes - before > 2 * adapter.rescored - 1
    decoder.close()


def test_the_model_ends_a_page_with_a_token_that_is_no_text(model: Path, pages: list[np.ndarray]) -> None:
    ended = 0
    decoder = make(model)
    prompts = [EncodedPrompt(page_id, page, "text", None, 300, None) for page_id, page in enumerate(pages)]
    results, _ = decode_all(decoder, prompts, {})
    for page_id, page in enumerate(pages):
        reference = alone(model, page, 300)
        if reference.sure and results[page_id].reason is FinishReason.STOP:
            assert results[page_id].completion_tokens == len(reference.tokens)
            ended += 1
    assert ended
    decoder.close()


def test_special_tokens_never_appear_in_the_text(
    write_model: Writer, tensors: dict[str, np.ndarray], pages: list[np.ndarray]
) -> None:
    likely = tensors["lm_head.weight"].copy()
    likely[MARKS_FROM : MARKS_FROM + 9] *= 3
    folder = write_model(tensors=tensors | {"lm_head.weight": likely}, end_ids=[271])
    assert sum(token >= MARKS_FROM for token in alone(folder, pages[1], 60).tokens) > 5
    results, streamed = decode_all(make(folder), [EncodedPrompt(1, pages[1], "text", None, 60, None)], {})
    assert results[1].completion_tokens == 60
    for text in (results[1].text, streamed[1]):
        assert "<|" not in text
        assert "[PAD]" not in text


def test_a_cancelled_page_does_not_disturb_the_others(
    endless: Path, pages: list[np.ndarray], references: list[Reference]
) -> None:
    decoder = make(endless, batch="8", prefill_chunk="16")
    adapter: Any = decoder._decoder.scheduler.model
    adapter.look_ahead = True
    prompts = [EncodedPrompt(i, page, "text", None, 40, None) for i, page in enumerate(pages)]
    results, _ = decode_all(decoder, prompts, {}, cancels={0: 9, 3: 3, 5: 20})
    assert results.keys() == {1, 2, 4, 6, 7}
    for page_id, finish in results.items():
        if references[page_id].sure:
            assert finish.text == text_of(references[page_id].tokens[:40])
    decoder.cancel(12345)
    decoder.close()


@pytest.mark.parametrize("call", ["advance", "score", "_evaluate", "_join"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[metal::malloc] Resource limit (499000) exceeded.")])
def test_memory_that_runs_out_in_a_pass_costs_its_pages_and_nothing_else(
    endless: Path, pages: list[np.ndarray], references: list[Reference], call: str, error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    decoder = make(endless, batch="8", prefill_chunk="16")
    adapter: Any = decoder._decoder.scheduler.model
    original, calls = getattr(adapter, call), []

    def fail_at_the_third(*given: object, **named: object) -> object:
        calls.append(given)
        if len(calls) == 3:
            original(*given, **named)  # what it changed before it failed stays changed
            raise error
        return original(*given, **named)

    monkeypatch.setattr(adapter, call, fail_at_the_third)
    for number in (0, 1, 3, 5):
        decoder.admit(EncodedPrompt(number, pages[number], "text", None, 40, None))
    with pytest.raises(MemoryError):
        for _ in range(60):
            decoder.step()
    assert decoder.has_room(EncodedPrompt(9, pages[1], "text", None, 40, None))
    assert decoder.step() == []
    results, _ = decode_all(decoder, [EncodedPrompt(i, pages[i], "text", None, 40, None) for i in (0, 1, 3, 5)], {})
    for page_id, finish in results.items():
        if references[page_id].sure:
            assert finish.text == text_of(references[page_id].tokens[:40])
    decoder.close()


def test_another_error_of_mlx_is_not_mistaken_for_lack_of_memory(
    endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = make(endless)
    decoder.admit(EncodedPrompt(1, np.zeros((3, 48), np.float32), "text", None, 5, None))
    monkeypatch.setattr(decoder._decoder.scheduler.model, "advance", lambda _: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        decoder.step()


def looping(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights with which a token depends on the one before alone, and only two can win: a circle at once."""
    head = np.zeros_like(tensors["lm_head.weight"])
    head[66], head[67] = tensors["lm_head.weight"][66], -tensors["lm_head.weight"][66]
    blind = {f"model.layers.{layer}.self_attn.o_proj.weight": np.zeros((48, 48), np.float32) for layer in (0, 1)}
    return tensors | blind | {"lm_head.weight": head}


def test_an_answer_that_goes_round_in_circles_is_cut(
    write_model: Writer, tensors: dict[str, np.ndarray], pages: list[np.ndarray]
) -> None:
    folder = write_model(tensors=looping(tensors), max_position_embeddings=8192)
    results, streamed = decode_all(make(folder), [EncodedPrompt(1, pages[0], "text", None, None, None)], {})
    assert results[1].reason is FinishReason.LOOP
    assert len(results[1].text) <= 3
    assert 1024 < len(streamed[1]) < 1100
    assert streamed[1].startswith(results[1].text)


def test_a_page_too_long_for_the_model_is_refused_with_the_numbers(endless: Path) -> None:
    decoder = make(endless)
    page = np.zeros((1020, 48), np.float32)
    with pytest.raises(PageError, match=r"1030 tokens, 1020 of them.*1024 positions.*--max-pixels") as caught:
        decoder.admit(EncodedPrompt(1, page, "text", None, None, None))
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert decoder.step() == []
    decoder.close()


def test_the_user_may_allow_fewer_positions_than_the_model_has(endless: Path) -> None:
    decoder = make(endless, context="60")
    results, _ = decode_all(decoder, [EncodedPrompt(1, np.zeros((20, 48), np.float32), "text", None, None, None)], {})
    assert results[1].prompt_tokens + results[1].completion_tokens == 60
    assert results[1].reason is FinishReason.LENGTH
    with pytest.raises(PageError, match=r"there are 60 positions .* --max-pixels \d+ would do") as caught:
        decoder.admit(EncodedPrompt(1, np.zeros((60, 48), np.float32), "text", None, None, None))
    assert caught.value.code is ErrorCode.TOO_LARGE
    decoder.close()


def test_an_answer_ends_where_the_positions_of_the_model_end(endless: Path) -> None:
    decoder = make(endless, rows="16")
    page = np.random.default_rng(0).normal(size=(1000, 48)).astype(np.float32)
    results, _ = decode_all(
        decoder, [EncodedPrompt(1, page, "text", None, None, PageHint((HintBlock("some hint"),)))], {}
    )
    assert results[1].reason is FinishReason.LENGTH
    assert results[1].prompt_tokens + results[1].completion_tokens == 1024
    decoder.close()


@pytest.mark.parametrize("shape", [(4, 47), (0, 48), (2, 2, 48)])
def test_embeddings_of_another_shape_are_refused(endless: Path, shape: tuple[int, ...]) -> None:
    decoder = make(endless)
    with pytest.raises(PageError) as caught:
        decoder.admit(EncodedPrompt(1, np.zeros(shape, np.float32), "text", None, 5, None))
    assert caught.value.code is ErrorCode.BAD_EMBED
    assert decoder.has_room(EncodedPrompt(1, np.zeros((1, 48), np.float32), "text", None, 5, None))
    decoder.close()


def test_embeddings_in_bfloat16_bits_read_as_their_values(endless: Path, pages: list[np.ndarray]) -> None:
    rounded = mx.array(pages[1]).astype(mx.bfloat16)
    bits = np.array(rounded.view(mx.uint16))
    values = np.array(rounded.astype(mx.float32))
    prompts = [EncodedPrompt(i, page, "text", None, 30, None) for i, page in enumerate((bits, values))]
    results, _ = decode_all(make(endless), prompts, {})
    assert results[0].text == results[1].text


def test_the_page_may_be_overwritten_after_admission(endless: Path, pages: list[np.ndarray]) -> None:
    decoder = make(endless)
    kept, lent = pages[3], pages[3].copy()
    decoder.admit(EncodedPrompt(1, lent, "text", None, 20, None))
    lent[:] = 7
    ends = {}
    while not ends:
        ends = {piece.page_id: piece.finish for piece in decoder.step() if piece.finish}
    results, _ = decode_all(decoder, [EncodedPrompt(2, kept, "text", None, 20, None)], {})
    assert ends[1].text == results[2].text
    decoder.close()


def test_load_states_width_capacity_and_tasks(model: Path) -> None:
    spec = load_plugin(MLXDecoder(), model, {"batch": "3"}, lambda note: None)
    assert (spec.width, spec.capacity, spec.tasks) == (48, 3, ("text",))


@pytest.mark.parametrize("options", [{"batches": "3"}, {"batch": "0"}, {"rows": "many"}])
def test_wrong_options_are_refused(model: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="decoder mlx"):
        load_plugin(MLXDecoder(), model, options, lambda note: None)


def test_end_tokens_may_be_one_number_and_must_be_there(write_model: Writer) -> None:
    from dotsctl.decoder_worker.model import load_model

    folder = write_model()
    (folder / "generation_config.json").write_text('{"eos_token_id": 256}')
    assert load_model(folder).end_ids == {256}
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(MissingError, match="eos_token_id"):
        load_model(folder)


def test_a_text_tensor_that_is_missing_is_named(write_model: Writer, tensors: dict[str, np.ndarray]) -> None:
    less = {name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"}
    with pytest.raises(MissingError, match=r"norm\.weight"):
        load_plugin(MLXDecoder(), write_model(tensors=less), {}, lambda note: None)


def test_without_mlx_the_error_states_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dotsctl.decoder_worker.")]:
        if name.rsplit(".", 1)[1] in ("page_decoder", "adapter", "model", "splice"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    with pytest.raises(MissingError, match=r"pip install --force-reinstall dotsctl"):
        load_plugin(MLXDecoder(), model, {}, lambda note: None)


def test_close_works_before_load() -> None:
    decoder: Any = MLXDecoder()
    decoder.close()
