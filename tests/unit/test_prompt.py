import json
from pathlib import Path

import pytest
from dotsctl.decoder_worker.prompt import OWN_PROMPTS, PromptBuilder, plain_ids, read_prompts
from dotsctl.protocol.errors import ErrorCode, MissingError, PageError, UsageError
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


def builder(prompts: dict[str, str] | None = None) -> PromptBuilder:
    return PromptBuilder(TOKENIZER, prompts or {"text": "Read."}, PAD)


def test_the_prompt_has_the_served_form_with_one_placeholder_an_embedding() -> None:
    built = builder().build("text", None, 3)
    read = TOKENIZER.encode("Read.").ids
    assert built.ids == [USER, IMG, PAD, PAD, PAD, END_IMG, *read, END_USER, ASSISTANT]
    assert built.placeholder == PAD


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*MARKS, "a", " ", "é", "<|"])).map("".join), st.integers(1, 5))
def test_marks_inside_a_prompt_are_plain_text(text: str, num_embeddings: int) -> None:
    ids = builder().build("text", text, num_embeddings).ids
    assert ids.count(PAD) == num_embeddings
    assert sum(token >= 256 for token in ids) == num_embeddings + 5
    assert TOKENIZER.decode(plain_ids(TOKENIZER, text)) == text


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PageError, match=r"no task 'poem'; it has text") as caught:
        builder().build("poem", None, 1)
    assert caught.value.code is ErrorCode.UNKNOWN_TASK


def test_a_given_prompt_replaces_that_of_the_task() -> None:
    ids = builder().build("text", "Hi", 1).ids
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


def test_prompts_come_from_the_model_directory(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps({"text": "Lies!"}))
    assert read_prompts(tmp_path) == {"text": "Lies!"}


def test_a_model_without_prompts_gets_our_wording(tmp_path: Path) -> None:
    assert read_prompts(tmp_path) == OWN_PROMPTS
    assert builder(read_prompts(tmp_path)).tasks == ("layout", "text", "layout-only")


@pytest.mark.parametrize("content", [{}, {"text": 5}])
def test_prompts_that_are_no_texts_are_refused(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="names and texts"):
        read_prompts(tmp_path)
