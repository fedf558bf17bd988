"""``dotsctl plugins new`` and ``check``: the templates keep the contract, and each way to break it is one line."""

import tomllib
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.client.cli.main import cli
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import described
from dotsctl.tools.plugins.contract import StepOutcome, Subject, play
from dotsctl.tools.plugins.decoder_contract import DecoderContract
from dotsctl.tools.plugins.encoder_contract import EncoderContract
from dotsctl.tools.plugins.scaffold import TEMPLATES

LATE = """
class Late(list):
    def __init__(self, embeddings):
        super().__init__([""] * len(embeddings))
        self.embeddings = embeddings

    def __getitem__(self, place):
        found = [str(mean) for mean in self.embeddings.mean(axis=1)]
        return found[place]
"""
"""Answers that are computed from the array of the page only when they are asked for."""
CONTRACTS = {Role.ENCODER: EncoderContract, Role.DECODER: DecoderContract}
Problems = Callable[..., dict[str, str]]


def outcomes(role: Role, source: str) -> list[StepOutcome]:
    """All steps with a plugin of this source, in this process."""
    module = types.ModuleType("stranger")
    exec(source + LATE, module.__dict__)
    plugin = described(role, "stranger", module.__dict__[f"Template{role.capitalize()}"])
    subject = Subject(plugin, {}, demo_directory())
    return list(play(CONTRACTS[role](subject, lambda _: None).steps(), lambda _: None))


@pytest.fixture
def problems() -> Problems:
    """The problems of a template in which one text is replaced, by step."""

    def find(role: Role, old: str, new: str) -> dict[str, str]:
        source = (TEMPLATES / f"{role}.py").read_text()
        assert source.count(old) == 1, f"{source.count(old)} times {old!r}"
        return {each.step: each.found for each in outcomes(role, source.replace(old, new)) if each.problem}

    return find


@pytest.mark.parametrize("role", Role)
def test_the_templates_keep_the_contract(role: Role) -> None:
    found = outcomes(role, (TEMPLATES / f"{role}.py").read_text())
    assert not [each for each in found if each.problem or each.skipped]
    assert len(found) > 10


APPEND = "pages.append(EncodedPage(embeddings, patches.grid, patches.geometry, timings_ms))"


@pytest.mark.parametrize(
    ("old", "new", "step", "words"),
    [
        ("The mean colour of each cell of a page.", "", "description", "description.help is not one line"),
        (
            'report("reading the configuration of the model")', "raise OSError('no GPU')", "load and warm-up page",
            "raised OSError: no GPU in load",
        ),
        (", options=TemplateEncoderOptions", "", "load and warm-up page", "raised AttributeError"),
        ('"<f4", device', '"<f2", device', "load and warm-up page", "embeddings are float32, announced as '<f2'"),
        (APPEND, f"embeddings[0, 0] = float('nan'); {APPEND}", "load and warm-up page", "values are not finite"),
        ("[:, repeated]", "[1:, repeated]", "load and warm-up page", "embeddings have shape (3, 256), not (4, 256)"),
        ("patches.grid,", "patches.grid[::-1],", "page of 280x224 px", "the grid is (patches from top to bottom"),
        (
            "patches.geometry,", "__import__('dataclasses').replace(patches.geometry, source=(28, 28)),",
            "page of 56x56 px", "geometry has a page of 28x28 px, the page has 56x56 px",
        ),
        (
            "return prepare_page(image, self._limits)",
            "import threading; assert threading.current_thread() is threading.main_thread(), 'a thread'\n"
            "        return prepare_page(image, self._limits)",
            "preparation", "raised AssertionError: a thread",
        ),
        (
            "return prepare_page(image, self._limits)",
            "patches, times = prepare_page(image, self._limits)\n"
            "        shared = self.__dict__.setdefault(patches.values.shape, patches.values)\n"
            "        shared[:] = patches.values\n"
            "        return __import__('dataclasses').replace(patches, values=shared), times",
            "preparation", "prepare must change nothing that encode uses, and return arrays of its own",
        ),
        ("return pages", "raise RuntimeError('odd page')\n        return pages", "load and warm-up page", "odd page"),
        (
            "prepare_page(image, self._limits)",
            "prepare_page(__import__('dataclasses').replace(image, max_pixels=None), self._limits)",
            "max_pixels", "max_pixels is 40000, and the page is encoded with 235200 pixels",
        ),
        (
            "return np.ascontiguousarray(colours[:, repeated], np.float32)",
            "return np.random.default_rng().random((len(colours), self._width)).astype(np.float32)",
            "the same page twice", "the same page gives other embeddings",
        ),
        (
            "return np.ascontiguousarray(colours[:, repeated], np.float32)",
            "return np.ones((len(colours), self._width), np.float32)",
            "different pages", "two different pages give the same embeddings",
        ),
        ("colours[:, repeated]", "colours[::-1][:, repeated]", "order of rows", "row by row from the top left"),
        (
            "for patches, timings_ms in images:", "for patches, timings_ms in images[:1] * len(images):",
            "several images", "image 2 of a request of two has other embeddings than alone",
        ),
        ("return pages", "return None", "load and warm-up page", "encode returned None, not a list of EncodedPage"),
        (
            "        return prepare_page(",
            "        if image.content is not None:\n            raise ValueError('no file')\n"
            "        return prepare_page(",
            "damaged file", "raised ValueError: no file",
        ),
        (
            'called once, also after a failed ``load``."""', 'called once."""\n        raise KeyError("gone")',
            "close", "raised KeyError: 'gone'",
        ),
    ],
)  # fmt: skip
def test_each_fault_of_an_encoder_is_found_by_a_step_that_names_it(
    problems: Problems, old: str, new: str, step: str, words: str
) -> None:
    found = problems(Role.ENCODER, old, new)
    assert words in found.get(step, ""), found
    assert not any("\n" in problem for problem in found.values())


@pytest.mark.parametrize(
    ("old", "new", "step", "words"),
    [
        ("DecoderSpec(fingerprint(model), width, options.batch", "DecoderSpec('', width, options.batch", "load", "fi"),
        ("lambda model: TASKS", "lambda model: ('text', 'layout')", "tasks", "description.tasks gives ['layout', 'te"),
        ('" ".join(page.words[: page.limit])', '"another text"', "one page", "they must be the same text"),
        (
            "Piece(page_id, text, 1, Finish", "Piece(page_id + 1, text, 1, Finish",
            "one page", "which does not run",
        ),
        ("        del self._running[page_id]\n", "", "freed embeddings", "raised IndexError"),
        ("if prompt.task not in TASKS:", "if False:", "unknown task", "task 'no-such-task' is not refused with Page"),
        (
            "raise PageError(f\"unknown", "raise ValueError(f\"unknown",
            "unknown task", "raised TypeError",
        ),
        ("self._running.pop(page_id, None)", "self._running.pop(page_id)", "cancel", "raised KeyError"),
        ("    def cancel(", "    def prefill(self): return True\n\n    def cancel(", "prefill", "a prompt is left"),
        ("    def cancel(", "    def prefill(self): pass\n\n    def cancel(", "prefill", "prefill returned None"),
        (
            "    def cancel(",
            "    def prefill(self):\n        for page in self._running.values(): page.words[0] = 'other'\n"
            "        return False\n\n    def cancel(",
            "prefill", "the answer changes when prefill is called",
        ),
        ("self._running.pop(page_id, None)", "pass", "cancel", "has_room is false although fewer pages run"),
        (
            "[prompt.page_id] = Running(words,", "[prompt.page_id] = Running(Late(prompt.embeddings),",
            "freed embeddings", "copy them there",
        ),
        (
            "min(len(words), prompt.max_tokens or len(words))", "len(words)",
            "max_tokens", "max_tokens is 1, and the answer has",
        ),
    ],
)  # fmt: skip
def test_each_fault_of_a_decoder_is_found_by_a_step_that_names_it(
    problems: Problems, old: str, new: str, step: str, words: str
) -> None:
    found = problems(Role.DECODER, old, new)
    assert words in found.get(step, ""), found


def test_a_new_plugin_is_complete_and_named_throughout(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    made = CliRunner().invoke(cli, ["plugins", "new", "two-tone", "-o", str(folder)])
    assert made.exit_code == 0 and f"pip install -e {folder}" in made.output
    assert "dotsctl plugins check two-tone" in made.output
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"dotsctl.encoders": {"two-tone": "dotsctl_two_tone:TwoToneEncoder"}}
    source = (folder / "dotsctl_two_tone" / "__init__.py").read_text()
    assert "emplate" not in source and "class TwoToneEncoder:" in source and "--encoder two-tone:key" in source
    compile((folder / "tests" / "test_dotsctl_two_tone.py").read_text(), "test", "exec")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mlx", "a plugin 'mlx' is installed"),
        ("Two Tone", "use lower-case letters, digits and hyphens, a letter first"),
        ("../up", "cannot be the name of a plugin"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(cli, ["plugins", "new", name])
    assert refused.exit_code in (2, 7) and words in refused.output
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    refused = CliRunner().invoke(cli, ["plugins", "new", "tones", "-o", str(tmp_path)])
    assert refused.exit_code == 7 and "choose another folder with -o" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_check_names_the_plugins_that_it_could_check() -> None:
    unknown = CliRunner().invoke(cli, ["plugins", "check", "nothing"])
    assert unknown.exit_code == 2 and "there is no plugin 'nothing'" in unknown.output and "mlx" in unknown.output
    hint = CliRunner().invoke(cli, ["plugins", "check", "textlayer"])
    assert hint.exit_code == 2 and "'textlayer' is a hint plugin" in hint.output
    both = CliRunner().invoke(cli, ["plugins", "check", "fake"])
    assert both.exit_code == 2 and "choose one with --role encoder or --role decoder" in both.output
