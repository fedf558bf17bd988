import pytest
from dotsctl.decoder_worker.text import TextStream, decode
from hypothesis import given, settings
from hypothesis import strategies as st

tokenizers = pytest.importorskip("tokenizers")

SPECIAL = ("<|endoftext|>", "<|imgpad|>", "[PAD]")


def byte_tokenizer() -> "tokenizers.Tokenizer":
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


TOKENIZER = byte_tokenizer()
GROUPS = st.lists(st.integers(1, 4), min_size=1, max_size=6)


def pieces(tokens: list[int], sizes: list[int]) -> tuple[list[str], TextStream]:
    stream, out, start = TextStream(TOKENIZER), [], 0
    while start < len(tokens):
        for size in sizes:
            out.append(stream.push(tokens[start : start + size]))
            start += size
    return out, stream


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30), GROUPS)
def test_pieces_together_are_the_text_and_no_piece_splits_a_character(text: str, sizes: list[int]) -> None:
    out, stream = pieces(TOKENIZER.encode(text).ids, sizes)
    assert "".join(out) == text == stream.text
    assert not any("\ufffd" in piece for piece in out)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 258), max_size=30), GROUPS)
def test_any_tokens_at_all_give_the_same_text_streamed_and_complete(tokens: list[int], sizes: list[int]) -> None:
    out, stream = pieces(tokens, sizes)
    assert "".join(out) == stream.text
    assert stream.text.rstrip("\ufffd") == decode(TOKENIZER, tokens)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([256, 257, 258, 33, 34]), max_size=20))
def test_special_tokens_give_no_text(tokens: list[int]) -> None:
    _, stream = pieces(tokens, [1])
    assert len(stream.text) == sum(token < 256 for token in tokens)


def test_a_character_that_is_never_complete_gives_no_text() -> None:
    first_bytes = TOKENIZER.encode("a中").ids[:-1]
    out, stream = pieces(first_bytes, [1])
    assert "".join(out) == "a" == stream.text == decode(TOKENIZER, first_bytes)
