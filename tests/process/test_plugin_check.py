"""``dotsctl plugins check`` in a child process: what a plugin does to its process is a line of the report."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.tools.plugins.scaffold import TEMPLATES

from tests.process.conftest import dotsctl

pytestmark = pytest.mark.process
ENCODER = (TEMPLATES / "encoder.py").read_text()
CALL = "        pages = []\n"
PREPARATION = "        return prepare_page(image, self._limits)\n"


def check(*words: str) -> tuple[int, list[str]]:
    """Exit code and lines of the command."""
    process = dotsctl("plugins", "check", "digest", *words)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out.splitlines()


@pytest.fixture
def plugin(install: Callable[..., None]) -> Callable[[str], None]:
    """Install the template of an encoder with statements at the beginning of ``encode``, or of ``prepare`` if they are
    about the image."""

    def make(statements: str) -> None:
        call = PREPARATION if "image." in statements else CALL
        source = ENCODER.replace(call, f"        {statements}\n{call}")
        install("stranger_plugin", source, cls="TemplateEncoder")

    return make


def test_a_sound_plugin_passes_with_exit_code_0(plugin: Callable[[str], None]) -> None:
    plugin("pass")
    code, lines = check()
    assert code == 0, lines
    assert lines[-1] == "18 ok, 0 skipped, 0 FAIL: encoder 'digest' keeps the contract"


@pytest.mark.parametrize(
    ("statements", "step", "words"),
    [
        ("import os; os._exit(3)", "load and warm-up page", "its process ended by exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "load and warm-up page", "its process ended by signal SIGSEGV"),
        ("import threading; threading.Event().wait()", "load and warm-up page", "hangs: no answer within 4 s"),
        (
            "if image.max_pixels: import os; os.abort()",
            "max_pixels", "its process ended by signal SIGABRT",
        ),
        ("print('hello', flush=True)", "standard output", "bytes to standard output: use logging"),
    ],
)  # fmt: skip
def test_what_ends_or_disturbs_the_process_is_one_line(
    plugin: Callable[[str], None], statements: str, step: str, words: str
) -> None:
    plugin(statements)
    code, lines = check("--timeout", "4")
    (failed,) = [line for line in lines if line.startswith("FAIL")]
    assert code == 7 and step in failed and "encoder 'digest'" in failed and words in failed, lines
    assert "breaks the contract" in lines[-1]


def test_a_plugin_that_cannot_be_imported_is_a_line_of_the_json(install: Callable[..., None]) -> None:
    install("stranger_plugin", "import missing_library")
    code, lines = check("--json")
    report = json.loads("\n".join(lines))
    assert code == 7 and not report["ok"]
    assert "needs the module 'missing_library'" in report["steps"][0]["found"]


def test_a_model_that_is_not_there_is_named(plugin: Callable[[str], None], tmp_path: Path) -> None:
    plugin("pass")
    process = dotsctl("plugins", "check", "digest", "--model", str(tmp_path / "none"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3 and "none" in err
