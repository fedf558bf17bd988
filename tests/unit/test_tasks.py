import json
from pathlib import Path

import pytest
from dotsctl.decoder_worker.tasks import OWN_PROMPTS, fill, read_prompts
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.tasks import DOCUMENT_TASKS, SCENE_TASKS

GEOMETRY = PageGeometry(source=(100, 50), orientation=6, resized=(56, 84), scale=(56 / 50, 84 / 100), offset=(3.0, 4.0))


def model(folder: Path, prompts: object = None, **preprocessor: object) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    if prompts is not None:
        (folder / "prompts.json").write_text(json.dumps(prompts))
    return folder


def test_a_model_with_prompts_has_exactly_their_tasks(tmp_path: Path) -> None:
    assert read_prompts(model(tmp_path, {"text": "Lies!"})) == {"text": "Lies!"}


def test_null_stands_for_our_wording(tmp_path: Path) -> None:
    assert read_prompts(model(tmp_path, {"text": "Lies!", "svg": None})) == {"text": "Lies!", "svg": OWN_PROMPTS["svg"]}


def test_dots_ocr_without_prompts_has_the_tasks_of_documents_in_our_words(tmp_path: Path) -> None:
    assert read_prompts(model(tmp_path)) == {task: OWN_PROMPTS[task] for task in DOCUMENT_TASKS}


def test_dots_mocr_without_prompts_has_all_tasks(tmp_path: Path) -> None:
    known = read_prompts(model(tmp_path, auto_map={"AutoProcessor": "configuration_dots.DotsVLProcessor"}))
    assert known == OWN_PROMPTS
    assert next(iter(known)) == "layout" and set(SCENE_TASKS) < known.keys()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [({}, "names no task"), ({"text": 5}, "'text' is 5"), ({"poem": None}, "or null for our wording of layout")],
)
def test_prompts_that_are_no_texts_are_refused(tmp_path: Path, prompts: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_prompts(model(tmp_path, prompts))


def test_a_template_without_marks_stays_as_it_is() -> None:
    assert fill("{a} 100 %", None, None) == "{a} 100 %"


def test_the_size_is_that_of_the_image_which_the_model_sees() -> None:
    assert fill("0 0 {width} {height}", GEOMETRY, None) == "0 0 56 84"


def test_a_box_is_clamped_to_the_page_before_it_is_mapped() -> None:
    assert fill("{box}", GEOMETRY, (0, 0, 25, 9999)) == "[3, 4, 31, 88]"


@pytest.mark.parametrize(
    ("geometry", "box", "words"),
    [
        (GEOMETRY, None, "--box x0,y0,x1,y1"),
        (GEOMETRY, (50.0, 0.0, 60.0, 10.0), "outside of the page of 50x100 px"),
        (None, (0.0, 0.0, 1.0, 1.0), "the encoder gave none"),
    ],
)
def test_a_box_that_cannot_be_used_is_refused(
    geometry: PageGeometry | None, box: tuple[float, float, float, float] | None, words: str
) -> None:
    with pytest.raises(PageError, match=words):
        fill("Read {box}", geometry, box)
