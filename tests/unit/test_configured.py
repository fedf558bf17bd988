"""Options of ``dotsctl ocr`` from the table ``[ocr]`` of the configuration files, and ``dotsctl config show``."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from dotsctl.client.cli import ocr as ocr_module
from dotsctl.client.cli.configured import configurable, configured_options
from dotsctl.client.cli.main import cli
from dotsctl.client.cli.ocr import OcrOptions
from dotsctl.client.cli.reading import ocr
from dotsctl.client.settings.files import LOCAL_FILE, user_file
from dotsctl.protocol.errors import ExitCode


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[OcrOptions]:
    """The options of the runs of ``dotsctl ocr``, which read nothing."""
    found: list[OcrOptions] = []

    def run(options: OcrOptions) -> ExitCode:
        found.append(options)
        return ExitCode.OK

    monkeypatch.setattr(ocr_module, "run", run)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def write(text: str, path: Path | None = None) -> None:
    path = path or Path(LOCAL_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_table_sets_what_the_command_line_does_not(runs: list[OcrOptions]) -> None:
    write('[ocr]\ndpi = 300\noutput = "texts/"\nno-header-footer = true\nno-blank-check = true\nmax_pixels = 90000')
    assert run("ocr", "a.png", "--dpi", "150").exit_code == 0
    (options,) = runs
    assert (options.output, options.no_header_footer) == ("texts/", True)
    assert (options.reading.dpi, options.reading.max_pixels, options.reading.check_blank) == (150, 90000, False)


def test_the_file_of_the_folder_wins_over_that_of_the_user(runs: list[OcrOptions]) -> None:
    write("[ocr]\ndpi = 300\nstrict = true", user_file())
    write("[ocr]\ndpi = 200")
    assert run("ocr", "a.png").exit_code == 0
    assert (runs[0].reading.dpi, runs[0].strict) == (200, True)


def values() -> dict[str, Any]:
    """A value for every option that a table may have."""
    given = {
        "box": "1,2,30,40",
        "pages": "1-3",
        "format": "json",
        "images": "none",
        "quality": "fast",
        "task": "text",
        "hint": "none",
    }
    found: dict[str, Any] = {}
    for key, option in configurable(ocr).items():
        number = 900 if isinstance(option.type, click.types.IntParamType) else "x"
        found[key] = given.get(key, True if option.is_flag else number)
    return found


def test_every_option_of_the_command_but_the_settings_can_stand_in_the_table(runs: list[OcrOptions]) -> None:
    chosen = values()
    assert {"output", "dpi", "no-reread", "overwrite", "jobs", "password"} <= chosen.keys()
    assert not {"model", "encoder", "decoder", "memory", "name", "help", "verbose"} & chosen.keys()
    write("[ocr]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in chosen.items()))
    assert {each.key for each in configured_options(ocr)} == chosen.keys()
    outcome = run("ocr", "a.png")
    assert outcome.exit_code == 0, outcome.output
    assert runs[0].reading.box == (1, 2, 30, 40)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[ocr]\ndpi = "x"', "[ocr] dpi: 'x' is not a valid integer"),
        ('[ocr]\nmodel = "demo"', "write model above [ocr]"),
        ("[ocr]\nstrict = 1", "strict = 1 is not true or false"),
        ("[ocr]\ndpi = true", "dpi = True is not a text or a number"),
        ("[ocr]\ndpi = [1]", "dpi = [1] is not a text or a number"),
        ('[ocr]\nformat = "docx"', "format: 'docx' is not one of 'md'"),
        ("[ocr]\nspeed = 1", "unknown key 'speed'"),
        ("ocr = 1", "ocr is not a table"),
    ],
)
def test_a_mistake_is_named_with_its_file(text: str, problem: str, runs: list[OcrOptions]) -> None:
    write(text)
    outcome = run("ocr", "a.png")
    assert outcome.exit_code == 2
    assert problem in outcome.stderr and LOCAL_FILE in outcome.stderr
    assert runs == []
    assert run("ocr", "--help").exit_code == 0, "the help is needed to correct it"


def test_every_setting_is_shown_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    write('memory = "8G"\n[ocr]\nformat = "json"\npassword = "secret"', user_file())
    monkeypatch.setenv("DOTSCTL_MODEL", "demo")
    outcome = run("config", "show", "--json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert found["settings"]["model"] == {"value": "demo", "from": "DOTSCTL_MODEL"}
    assert found["settings"]["memory"] == {"value": 8 << 30, "from": str(user_file())}
    assert found["settings"]["encoder"] == {"value": "auto", "from": "default"}
    assert found["ocr"]["format"] == {"value": "json", "from": str(user_file())}
    assert "secret" not in outcome.stdout
    assert found["folders"]["configuration"] == str(user_file().parent)
    shown = run("config", "show").stdout
    assert all(word in shown for word in ("DOTSCTL_MODEL", str(user_file()), "[ocr] format", "models"))
    assert "secret" not in shown
