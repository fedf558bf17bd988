import ast
import json
from pathlib import Path

import pytest
from dotsctl.decoder_worker.tasks import fill, read_prompts
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.model.tasks import DOTS_OCR, TASKS, TEXT, answer_kind

GEOMETRY = PageGeometry(source=(100, 50), orientation=6, resized=(56, 84), scale=(56 / 50, 84 / 100), offset=(3.0, 4.0))


def model(folder: Path, prompts: object = None, **preprocessor: object) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    if prompts is not None:
        (folder / "prompts.json").write_text(json.dumps(prompts))
    return folder


def test_a_model_with_prompts_has_exactly_their_tasks(tmp_path: Path) -> None:
    assert read_prompts(model(tmp_path, {"text": "Lies!"})) == {"text": "Lies!"}


def test_null_stands_for_the_prompt_of_dotsctl(tmp_path: Path) -> None:
    assert read_prompts(model(tmp_path, {"text": "Lies!", "svg": None})) == {
        "text": "Lies!",
        "svg": TASKS["svg"].prompt,
    }


def test_dots_ocr_without_prompts_has_the_tasks_of_documents_with_the_prompts_of_dotsctl(tmp_path: Path) -> None:
    assert read_prompts(model(tmp_path)) == {
        name: task.prompt for name, task in TASKS.items() if DOTS_OCR in task.families
    }


def test_dots_mocr_without_prompts_has_all_tasks(tmp_path: Path) -> None:
    known = read_prompts(model(tmp_path, auto_map={"AutoProcessor": "configuration_dots.DotsVLProcessor"}))
    assert known == {name: task.prompt for name, task in TASKS.items()}
    assert next(iter(known)) == "layout" and {"text", "ground", "web", "scene", "svg", "ask"} < known.keys()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({}, "names no task"),
        ({"text": 5}, "'text' is 5"),
        ({"poem": None}, "or null for dotsctl's prompt of layout"),
    ],
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


ROOT = Path(__file__).parents[2]
PRODUCT = [
    path
    for folder in ("client", "decoder_worker", "encoder_worker", "protocol")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.relative_to(ROOT).as_posix() != "protocol/model/tasks.py"
]


def task_literals(source: str) -> list[str]:
    """Names of tasks that stand as literals in code.

    ``text`` is also a key of the model's JSON, so it counts only where it is compared, or given to something whose
    name speaks of tasks.
    """
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in TASKS):
            continue
        parent = parents[node]
        is_given = isinstance(parent, ast.keyword) and parent.arg is not None and "task" in parent.arg
        is_compared = isinstance(parent, ast.Compare) and "task" in ast.unparse(parent)
        is_assigned = isinstance(parent, ast.Assign | ast.AnnAssign) and "task" in ast.unparse(parent).lower()
        if node.value != TEXT.name or is_given or is_compared or is_assigned:
            found.append(f"{node.lineno}: {node.value}")
    return found


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_task_is_named_outside_its_declaration(path: Path) -> None:
    assert task_literals(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ['if task == "text": pass', 'read(task="text")', 'TASK = "text"', 'x = {"ground": 1}', 'kind in ("layout",)'],
)
def test_a_task_that_is_named_is_found(line: str) -> None:
    assert len(task_literals(line)) == 1
    assert task_literals('cell["text"], cell.get("text"), {"text": 1}') == []


def test_every_task_is_complete_and_names_are_unique() -> None:
    assert len({task.card_name for task in TASKS.values()}) == len(TASKS)
    for name, task in TASKS.items():
        assert name == task.name and task.prompt and task.families
        assert task.needs_box == ("{box}" in task.prompt)


@pytest.mark.parametrize(
    ("task", "kind"), [("layout-of-mine", "cells"), ("poem", "other"), ("web", "cells"), ("scene", "lines")]
)
def test_an_answer_is_read_by_the_kind_of_its_task(task: str, kind: str) -> None:
    assert answer_kind(task) == kind
