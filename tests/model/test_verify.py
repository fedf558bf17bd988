"""The comparison with references: that it passes for us, and that it notices what is wrong."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dotsctl.protocol.errors import DotsctlError, MissingError, UsageError
from dotsctl.tools.dev.verify import main as verify
from dotsctl.tools.dev.verify import own as verify_own
from dotsctl.tools.dev.verify import peer as verify_peer
from dotsctl.tools.dev.verify import references as verify_references
from dotsctl.tools.dev.verify import run as verify_run
from dotsctl.tools.dev.verify import stored as verify_stored
from dotsctl.tools.dev.verify.compare import bfloat16_rows, errors, float32_rows, table
from dotsctl.tools.dev.verify.pages import draw, make_pages, prompt_ids, read_tokenizer
from dotsctl.tools.dev.verify.stages import STAGES, Inputs, Results
from dotsctl.tools.dev.verify.stored import STORED, TINY
from dotsctl.tools.random_checkpoint.tokenizer import tokenizer_json
from tokenizers import Tokenizer

pytestmark = pytest.mark.model
Options = list[str]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return verify_stored.write_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def run(tiny: Path) -> Run:
    def start(*options: str, model: Path = tiny) -> Result:
        return CliRunner().invoke(verify.cli, ["--model", str(model), *options])

    return start


@pytest.fixture
def nothing_else_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_peer, "installed", lambda: None)
    monkeypatch.setattr(verify_references, "torch_version", lambda: None)


def test_tower_logits_and_answers_equal_what_mlx_vlm_gave_and_what_the_formulas_give(run: Run) -> None:
    result = run("--against", "stored,float64")
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if " match" in line]
    assert [line.split("  ")[0] for line in rows] == ["stored"] * 7 + ["float64"] * 5
    assert "8 of 8 pages equal" in result.output
    assert "NO MATCH" not in result.output


def test_in_bfloat16_the_tower_is_compared_with_float64(run: Run) -> None:
    result = run("--against", "float64", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    assert result.output.count("relative <= 0.02") == 5


@pytest.mark.usefixtures("nothing_else_installed")
def test_without_a_choice_what_is_not_installed_is_left_out_and_reported(run: Run) -> None:
    result = run("--pages", "1")
    assert result.exit_code == 0, result.output
    assert "pip install mlx-vlm" in result.output
    assert "pip install torch" in result.output


@pytest.mark.usefixtures("nothing_else_installed")
@pytest.mark.parametrize("name", ["mlx-vlm", "torch"])
def test_a_requested_reference_that_is_not_installed_is_exit_code_3_before_anything_is_computed(
    tiny: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify", "--model", str(tiny), "--against", f"float64,{name}"])
    with pytest.raises(SystemExit) as ended:
        verify.main()
    assert ended.value.code == 3
    shown = capsys.readouterr()
    assert f"pip install {name}" in shown.err
    assert "computing" not in shown.out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--against", "float64,mlx"], None, "mlx is unknown; choose among stored, float64, mlx-vlm, torch"),
        (["--against", "stored", "--dtype", "bfloat16"], UsageError, "stored is in float32"),
        (["--against", "mlx-vlm", "--dtype", "bfloat16"], UsageError, "add it to --against"),
        (["--store", "x.npz", "--dtype", "bfloat16"], UsageError, "leave --dtype away"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(
    run: Run, options: Options, error: type[DotsctlError] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_peer, "installed", lambda: "1.0")
    result = run(*options)
    assert result.exit_code != 0
    assert message in (result.output if error is None else str(result.exception))
    assert error is None or isinstance(result.exception, error)


def test_a_folder_without_a_model_is_refused(run: Run, tmp_path: Path) -> None:
    assert isinstance(run(model=tmp_path).exception, MissingError)


def test_stored_activations_of_another_model_are_refused(run: Run, model: Path) -> None:
    result = run("--against", "stored", "--pages", "1", model=model)
    assert isinstance(result.exception, UsageError)
    assert "omit --model" in str(result.exception)


def test_stored_activations_that_are_not_there_are_missing(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--store"):
        verify_stored.stored_results(tmp_path / "absent.npz", tiny, [])


def own(tiny: Path) -> Results:
    return verify_own.own_results(tiny, make_pages(read_tokenizer(tiny), 2), "float32", 8)


def spoil(results: Results, component: str) -> Results:
    """The same with a fault in one component."""
    stages = dict(results.stages)
    if component in STAGES:
        stages[component] = stages[component] + np.float32(2e-5)
    logits = results.logits + np.float32(2e-3 * (component == "first-step logits"))  # type: ignore[operator]
    tokens = [list(answer) for answer in results.tokens or []]
    if component == "answers of 2 pages":
        tokens[1][3] += 1
    inputs = [Inputs(list(page.ids), page.patches.copy()) for page in results.inputs or []]
    if component == "inputs of 2 pages":
        inputs[1].patches[0, 0] += np.float32(1e-6)
    return Results(stages, logits, inputs, tokens)


@pytest.mark.parametrize("component", [*STAGES, "first-step logits", "inputs of 2 pages", "answers of 2 pages"])
def test_a_fault_is_found_in_its_component_and_ends_with_exit_code_1(
    run: Run, tiny: Path, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = own(tiny)
    monkeypatch.setattr(verify_run, "own_results", lambda *_: spoil(truth, component))
    monkeypatch.setattr(verify_stored, "stored_results", lambda *_: truth)
    result = run("--against", "stored", "--pages", "2")
    assert result.exit_code == 1
    (wrong,) = [line for line in result.output.splitlines() if "NO MATCH" in line]
    assert component in wrong
    assert component != "answers of 2 pages" or "page 2 from token 4 on" in wrong


def test_a_tower_with_more_error_than_mlx_vlm_does_not_match() -> None:
    rng = np.random.default_rng(0)
    truth = {stage: rng.normal(size=(8, 4)) for stage in STAGES}
    noise = {stage: rng.normal(size=(8, 4)) * 1e-3 for stage in STAGES}
    peer = Results({stage: truth[stage] + noise[stage] for stage in STAGES})
    for factor, expected in [(1.1, True), (1.3, False)]:
        ours = Results({stage: truth[stage] + factor * noise[stage] for stage in STAGES})
        rows = bfloat16_rows(ours, Results(truth), peer)
        assert [row.match for row in rows] == [True] * 5 + [expected] * 5
        assert f"{factor:.3f} times its own" in rows[-1].note


def test_numbers_that_are_not_finite_or_of_another_shape_never_match() -> None:
    stages = {stage: np.ones((4, 4), np.float32) for stage in STAGES}
    for broken in (np.full((4, 4), np.nan), np.full((4, 4), np.inf), np.ones((4, 3))):
        rows = float32_rows("r", Results(stages | {"merger": broken}), Results(stages))
        assert [row.match for row in rows] == [True, True, True, True, False]
        assert "inf" in table(rows)


def test_errors_are_measured_against_the_reference() -> None:
    found = errors(np.array([1.0, 2.0, 3.5]), np.array([1.0, 2.0, 3.0]))
    assert found.max_abs == 0.5
    assert found.mean_abs == pytest.approx(0.5 / 3)
    assert found.relative == pytest.approx(0.5 / 6)
    assert 0.99 < found.cosine < 1
    assert errors(np.zeros(3), np.zeros(3)).cosine == 1


def test_metadata_and_plots_are_left_in_the_output_folder(run: Run, tmp_path: Path) -> None:
    result = run("--against", "float64", "--pages", "1", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["match"] is True
    assert len(metadata["rows"]) == 5
    assert metadata["rows"][0]["errors"]["mean_abs"] < 1e-5
    assert metadata["dtype"] == "float32"
    assert {"numpy", "mlx", "python"} <= metadata["versions"].keys()
    assert len(metadata["model"]["fingerprint"]) == 64
    for name in ("errors.png", "merger.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_what_is_stored_is_read_back(tiny: Path, tmp_path: Path) -> None:
    pages, truth = make_pages(read_tokenizer(tiny), 2), own(tiny)
    file = tmp_path / "stored.npz"
    assert verify_stored.store(file, tiny, pages, truth, {"mlx-vlm": "1"}) == file.stat().st_size
    found = verify_stored.stored_results(file, tiny, pages)
    assert found.tokens == truth.tokens
    assert np.array_equal(found.logits, truth.logits)  # type: ignore[arg-type]
    assert all(np.array_equal(found.stages[stage], truth.stages[stage]) for stage in STAGES)
    other = [replace(pages[0], ids=pages[0].ids[1:])]
    with pytest.raises(UsageError, match="other prompts"):
        verify_stored.stored_results(file, tiny, other)


def test_the_stored_file_is_small_and_names_the_version_of_mlx_vlm() -> None:
    assert STORED.stat().st_size <= 300_000
    with np.load(STORED, allow_pickle=False) as content:
        about = json.loads(str(content["about"]))
    assert about["versions"]["mlx-vlm"]


def test_the_tiny_model_has_several_layers_and_heads() -> None:
    assert TINY.vision.num_hidden_layers > 1
    assert TINY.vision.num_attention_heads > 1
    assert TINY.text.num_attention_heads > TINY.text.num_key_value_heads > 1


def test_a_prompt_has_the_form_of_the_models_own_processor() -> None:
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(real_ids=True)))
    ids, placeholder = prompt_ids(tokenizer, 3, "Read <|user|> this.")
    assert placeholder == 151_665
    assert ids[:6] == [220, 151_666, 151_665, 151_665, 151_665, 151_667]
    assert ids[-1] == 151_672
    assert 151_670 not in ids


def test_pages_are_different_and_the_same_each_time() -> None:
    first, again, other = draw(0, (56, 84)), draw(0, (56, 84)), draw(1, (56, 84))
    assert first.size == (56, 84)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert np.ptp(np.asarray(first)) > 150


def test_a_reference_that_cannot_be_imported_names_what_to_install(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: Any = make_pages(read_tokenizer(tiny), 1)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "mlx_vlm.utils", None)
    with pytest.raises(MissingError, match="pip install torch"):
        verify_references.torch_results(tiny, pages[0], with_logits=False)
    with pytest.raises(MissingError, match="pip install mlx-vlm"):
        verify_peer.peer_results(tiny, pages, "float32", 1)
