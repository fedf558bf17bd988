import json

import pytest
from dotsctl.decoder_worker.prompt import PromptBuilder, plain_ids
from dotsctl.protocol.errors import ErrorCode, MissingError, PageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.model.tasks import ASK
from dotsctl.tools.random_checkpoint.tokenizer import tokenizer_json
from hypothesis import given, settings
from hypothesis import strategies as st

tokenizers = pytest.importorskip("tokenizers")

MARKS = ("<|user|>", "<|img|>", "<|imgpad|>", "<|endofimg|>", "<|endofuser|>", "<|assistant|>")
USER, IMG, PAD, END_IMG, END_USER, ASSISTANT = range(256, 262)


def tokenizer(marks: tuple[str, ...] = MARKS) -> "tokenizers.Tokenizer":
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_tokens([tokenizers.AddedToken(mark, special=True, normalized=False) for mark in marks])
    return made


TOKENIZER = tokenizer()
GEOMETRY = PageGeometry(source=(100, 100), orientation=1, resized=(200, 300), scale=(2.0, 3.0))


def builder(prompts: dict[str, str] | None = None) -> PromptBuilder:
    return PromptBuilder(TOKENIZER, prompts or {"text": "Read."}, PAD)


def test_the_prompt_has_the_served_form_with_one_placeholder_an_embedding() -> None:
    built = builder().build("text", None, [3])
    read = TOKENIZER.encode("Read.").ids
    assert built.ids == [USER, IMG, PAD, PAD, PAD, END_IMG, *read, END_USER, ASSISTANT]
    assert built.placeholder == PAD


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*MARKS, "a", " ", "é", "<|"])).map("".join), st.integers(1, 5))
def test_marks_inside_a_prompt_are_plain_text(text: str, num_embeddings: int) -> None:
    ids = builder().build("text", text, [num_embeddings]).ids
    assert ids.count(PAD) == num_embeddings
    assert sum(token >= 256 for token in ids) == num_embeddings + 5
    assert TOKENIZER.decode(plain_ids(TOKENIZER, text)) == text


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PageError, match=r"no task 'poem'; it has text") as caught:
        builder().build("poem", None, [1])
    assert caught.value.code is ErrorCode.UNKNOWN_TASK


def test_a_given_prompt_replaces_that_of_the_task() -> None:
    ids = builder().build("text", "Hi", [1]).ids
    assert ids[4:-2] == TOKENIZER.encode("Hi").ids


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (["text", "a", "layout"], ("layout", "text", "a")),
        (["z", "text"], ("text", "z")),
        (["z", "b"], ("b", "z")),
    ],
)
def test_the_default_task_comes_first(tasks: list[str], expected: tuple[str, ...]) -> None:
    assert builder(dict.fromkeys(tasks, "x")).tasks == expected


def test_a_tokenizer_without_a_mark_is_refused() -> None:
    with pytest.raises(MissingError, match=r"no token <\|endofimg\|>"):
        PromptBuilder(tokenizer(tuple(mark for mark in MARKS if mark != "<|endofimg|>")), {"text": "x"}, None)


def test_a_configuration_with_another_placeholder_is_refused() -> None:
    with pytest.raises(MissingError, match=r"id 5, tokenizer\.json 258"):
        PromptBuilder(TOKENIZER, {"text": "x"}, 5)


def test_several_images_stand_before_the_text_in_their_order() -> None:
    ids = builder().build("text", "Hi", [2, 1]).ids
    assert ids[:8] == [USER, IMG, PAD, PAD, END_IMG, IMG, PAD, END_IMG]
    assert ids[-2:] == [END_USER, ASSISTANT]


def test_a_question_has_a_system_turn_of_plain_text_before_it() -> None:
    ids = builder({"ask": "Describe."}).build("ask", "Why?", [1]).ids
    system = TOKENIZER.encode(f"<|system|>{ASK.system}<|endofsystem|>\n").ids
    assert ids == [*system, USER, IMG, PAD, END_IMG, *TOKENIZER.encode("Why?").ids, END_USER, ASSISTANT]


def test_a_box_is_written_in_pixels_of_the_image_that_the_model_sees() -> None:
    made = builder({"ground": "Read {box}"})
    ids = made.build("ground", None, [1], GEOMETRY, (10, 20, 60, 50)).ids
    assert TOKENIZER.decode(ids[4:-2]) == "Read [20, 60, 120, 150]"


def test_a_given_prompt_may_hold_braces() -> None:
    ids = builder({"ask": "x"}).build("ask", "What is {width}?", [1], GEOMETRY).ids
    assert "What is {width}?" in TOKENIZER.decode(ids)
    with_box = builder().build("text", "Read {box} of {width}", [1], GEOMETRY, (0, 0, 1, 1)).ids
    assert TOKENIZER.decode(with_box[4:-2]) == "Read [0, 0, 2, 3] of 200"


def test_the_ids_are_those_with_which_the_real_model_is_served() -> None:
    """Numbers of the marks: tokenizer_config.json of rednote-hilab/dots.ocr; the order: a log of its server."""
    real = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(real_ids=True)))
    ids = PromptBuilder(real, {"text": "Read."}, 151665).build("text", None, [3]).ids
    asked = real.encode("Read.", add_special_tokens=False).ids
    assert ids == [151670, 151666, 151665, 151665, 151665, 151667, *asked, 151671, 151672]
    system = real.encode(f"<|system|>{ASK.system}<|endofsystem|>\n", add_special_tokens=False).ids
    with_system = PromptBuilder(real, {"ask": "Describe."}, 151665).build("ask", "Why?", [1]).ids
    assert with_system[: len(system) + 4] == [*system, 151670, 151666, 151665, 151667]
