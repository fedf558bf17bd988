"""Prompts from model cards; the sentences are of this file."""

import pytest
from dotsctl.client.models.card import BY_CARD_NAME, prompts_of
from hypothesis import given, settings
from hypothesis import strategies as st

ASSIGNMENTS = '''
# A model

```python
from somewhere import run

prompt_ocr = "Copy the letters."
prompt_layout_only_en = (
    "Show the boxes, "
    "one each."
)
PROMPTS: dict = {
    "prompt_layout_all_en": """Tell me of every part:
1. its bbox
2. its category and {text}, such as $\\\\frac{a}{b}$
""",
    'prompt_scene_spotting': 'Read the signs.' + ' All of them.',
    "prompt_web_parsing": make_prompt(),
}
run(image, prompt_image_to_svg="Draw it in {width} by {height}.")
```
'''


def test_assignments_entries_and_arguments_are_found() -> None:
    assert prompts_of(ASSIGNMENTS) == {
        "text": "Copy the letters.",
        "layout-only": "Show the boxes, one each.",
        "layout": "Tell me of every part:\n1. its bbox\n2. its category and {text}, such as $\\frac{a}{b}$\n",
        "scene": "Read the signs. All of them.",
        "svg": "Draw it in {width} by {height}.",
    }


def test_a_block_that_is_no_python_is_searched_all_the_same() -> None:
    card = """
~~~
$ python run.py
  ...
  prompt_ocr: 'It\\'s all yours.',   # and so on
  "prompt_general" = \"\"\"Answer
this.\"\"\"
  prompt_web_parsing = 7
~~~
"""
    assert prompts_of(card) == {"text": "It's all yours.", "ask": "Answer\nthis."}


def test_a_plain_prompt_is_the_layout_prompt_if_it_speaks_of_boxes_and_categories() -> None:
    card = '```python\nprompt = """Give bbox and category of all."""\n```\n'
    assert prompts_of(card) == {"layout": "Give bbox and category of all."}
    assert prompts_of(card.replace("category", "place")) == {}
    named = '```\nprompt_layout_all_en = "The named one."\n```\n'
    assert prompts_of(card + named) == prompts_of(named + card) == {"layout": "The named one."}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Read what is in the box", "Read what is in the box {box}"),
        ("Read this box:\\n", "Read this box:\n{box}"),
        ("Read {box} only.", "Read {box} only."),
    ],
)
def test_a_grounding_prompt_has_a_place_for_the_box(text: str, stored: str) -> None:
    assert prompts_of(f'```\nprompt_grounding_ocr = "{text}"\n```') == {"ground": stored}


def test_the_first_text_of_a_name_counts_and_empty_ones_do_not() -> None:
    card = '```\nprompt_ocr = " "\nprompt_ocr = "One."\n```\n```\nprompt_ocr = "Two."\n```'
    assert prompts_of(card) == {"text": "One."}


@pytest.mark.parametrize(
    "card",
    [
        "",
        'prompt_ocr = "Outside of code."',
        "```\nprompt_ocr = f'Computed {x}.'\n```",
        '```\nmy_prompt_ocr = "Another name."\n```',
        '```\nsome.prompt_ocr = "Not a variable" if a else b\n```',
        "```\nprompt_ocr = open('secret').read()\n```",
    ],
)
def test_what_is_no_prompt_is_not_mistaken_for_one(card: str) -> None:
    assert prompts_of(card) == {}


def test_windows_lines_quotes_and_an_open_fence_are_read() -> None:
    assert prompts_of('> ```py\r\n> x\r\n> ```\r\n```py\r\nprompt_ocr = """A\r\nB"""\r\n') == {"text": "A\nB"}


@pytest.mark.parametrize(
    "code", ["(" * 20_000, "-" * 50_000 + "1", "\0", "prompt_ocr = '\\N{no such sign}'", "x = '\\d'"]
)
def test_code_that_breaks_parsers_breaks_nothing(code: str) -> None:
    assert prompts_of(f"```\n{code}\n```\n```\nprompt_ocr = 'Found.'\n```") == {"text": "Found."}


PIECES = st.sampled_from(
    [
        "```",
        "```python\n",
        "~~~\n",
        "\n",
        "prompt",
        "prompt_ocr",
        " = ",
        ": ",
        "'",
        '"',
        '"""',
        "\\",
        "(",
        "{",
        "}",
        "bbox category",
    ]
)


@settings(max_examples=100)
@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join))
def test_no_card_breaks_the_parser(card: str) -> None:
    found = prompts_of(card)
    assert set(found) <= set(BY_CARD_NAME.values())
    assert all(text.strip() for text in found.values())


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(set(BY_CARD_NAME) - {"prompt_grounding_ocr"})),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(
        lambda text: text.strip() and "```" not in text
    ),
    st.booleans(),
)
def test_a_text_arrives_as_it_was_written(name: str, text: str, whole: bool) -> None:
    line = f"{name} = {text!r}" if whole else f"$ {name}: {text!r}"
    assert prompts_of(f"```python\n{line}\n```\n") == {BY_CARD_NAME[name]: text}
