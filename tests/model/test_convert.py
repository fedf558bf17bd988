"""Quantised decoders: what is in them, what the report says of them, and that they read through real processes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dotsctl import Client
from dotsctl.client.outputs.output_base import Reading
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.decoder_worker.quantised import MANIFEST, open_quantised
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import CommandFailedError, MissingError, NoInputError, UsageError
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.protocol.model.quantisation import KINDS, Quantisation

mx = pytest.importorskip("mlx.core")

from dotsctl.tools.convert import decoder as convert_decoder  # noqa: E402 - needs MLX
from dotsctl.tools.convert import main as tool  # noqa: E402 - needs MLX
from dotsctl.tools.convert import quantisation_report  # noqa: E402 - needs MLX
from dotsctl.tools.measuring import reading  # noqa: E402 - needs MLX
from dotsctl.tools.measuring.encoding import kept  # noqa: E402 - as above
from dotsctl.tools.measuring.scores import edit_distance  # noqa: E402 - as above
from dotsctl.tools.pages.fonts import EVERYWHERE  # noqa: E402 - as above
from dotsctl.tools.pages.truths import generated_pages  # noqa: E402 - as above
from PIL import Image  # noqa: E402 - as above

from tests.plugins import load_plugin  # noqa: E402

pytestmark = pytest.mark.model
PAGES = Path(__file__).parents[2] / "client" / "sample_pages"
LETTER = PAGES / "letter.png"
Writer = Callable[..., Path]


@pytest.fixture(autouse=True)
def models(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def quantise(model: Path, quantisation: Quantisation = KINDS["8"], **options: Any) -> convert_decoder.Conversion:
    return convert_decoder.convert("m", model, fingerprint(model), quantisation, lambda _: None, **options)


def run(model: str = "demo", **options: Any) -> None:
    defaults = {"decoder_bits": "8", "group_size": None, "pages": (), "skip_report": False, "force": False}
    tool.run(**defaults | {"model": model, "encoder": None, "as_json": False} | options)


def tensors_of(files: list[Path]) -> dict[str, Any]:
    return {name: tensor for file in files for name, tensor in mx.load(str(file)).items()}


@pytest.fixture
def encoded() -> list[EncodedPage]:
    """Two sample pages."""
    encoder = tool.PageEncoder(tool.PluginChoice("mlx"), demo_directory(), lambda _: None)
    pages = tool.readable_pages((str(LETTER), str(PAGES / "invoice.png")))
    found = [kept(encoder.encode(page, None)) for page in pages]
    encoder.close()
    return found


@pytest.mark.parametrize("quantisation", [*KINDS.values(), Quantisation(4, 32)])
def test_every_matrix_is_quantised_and_all_else_is_unchanged(quantisation: Quantisation) -> None:
    conversion = quantise(demo_directory(), quantisation)
    made = tensors_of(list(conversion.decoder.files))
    source = tensors_of([demo_directory() / "model.safetensors"])
    source = {name: tensor for name, tensor in source.items() if name.startswith(("model.", "lm_head."))}
    matrices = set(conversion.decoder.manifest["quantised"])
    assert {"model.embed_tokens", "lm_head", "model.layers.2.mlp.down_proj"} <= matrices
    assert matrices == {name.removesuffix(".weight") for name, tensor in source.items() if tensor.ndim == 2}
    for name, tensor in source.items():
        if (matrix := name.removesuffix(".weight")) not in matrices:
            assert mx.array_equal(made[name], tensor), name
            continue
        expected = mx.quantize(tensor, quantisation.group_size, quantisation.bits, quantisation.mode)
        found = [made[f"{matrix}{part}"] for part in quantisation.parts]
        assert all(mx.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True)), name


def test_the_manifest_has_the_true_sizes() -> None:
    conversion = quantise(demo_directory())
    manifest = json.loads((conversion.folder / MANIFEST).read_text())
    made = tensors_of(list(conversion.decoder.files))
    assert manifest["size_bytes"] == sum(tensor.nbytes for tensor in made.values())
    assert 0.5 < manifest["size_bytes"] / manifest["source_bytes"] < 0.56
    assert sorted(manifest["files"]) == sorted(file.name for file in conversion.folder.glob("*.safetensors"))


def test_an_existing_decoder_is_kept_unless_it_is_damaged_or_force_is_given() -> None:
    assert quantise(demo_directory()).is_new
    kept = quantise(demo_directory())
    assert not kept.is_new
    (kept.folder / "lm_head.safetensors").write_bytes(b"cut")
    assert quantise(demo_directory()).is_new
    assert quantise(demo_directory(), force=True).is_new


def test_a_conversion_that_breaks_off_leaves_what_was_there(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, files = mx.save_safetensors, list[str]()

    def save_three(path: str, tensors: dict[str, Any]) -> None:
        files.append(path)
        if len(files) == 3:
            raise KeyboardInterrupt
        save(path, tensors)

    monkeypatch.setattr(mx, "save_safetensors", save_three)
    with pytest.raises(KeyboardInterrupt):
        quantise(demo_directory())
    assert not list(models.rglob("*.safetensors")) and not list(models.rglob("decoder*"))
    monkeypatch.setattr(mx, "save_safetensors", save)
    quantise(demo_directory())
    files.clear()
    monkeypatch.setattr(mx, "save_safetensors", save_three)
    with pytest.raises(KeyboardInterrupt):
        quantise(demo_directory(), force=True)
    open_quantised(demo_directory(), fingerprint(demo_directory()), KINDS["8"])


def test_a_layer_that_was_written_is_freed_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    save, active_bytes = mx.save_safetensors, list[int]()

    def save_measured(path: str, tensors: dict[str, Any]) -> None:
        active_bytes.append(mx.get_active_memory())
        save(path, tensors)

    monkeypatch.setattr(mx, "save_safetensors", save_measured)
    quantise(demo_directory())
    assert len(active_bytes) == 7
    assert max(active_bytes) - active_bytes[0] < 100_000  # a layer has 470 kB


def test_a_full_disk_is_refused_before_anything_is_written(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CommandFailedError, match=r"decoder of m in 8bit takes 2.39 MB, and .* has 1 kB free"):
        quantise(demo_directory())
    assert not models.exists()


def test_a_group_that_divides_no_row_is_refused_with_the_name_of_the_matrix(write_model: Writer) -> None:
    with pytest.raises(UsageError, match=r"has rows of 48 weights, not a multiple of 64: this model cannot"):
        quantise(write_model())


def test_a_smaller_group_is_proposed_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = convert_decoder.read_network(demo_directory(), None)
    network.lm_head.weight = mx.zeros((8, 96))
    with pytest.raises(UsageError, match=r"lm_head has rows of 96 weights.* 64: take --group-size 32$"):
        convert_decoder._to_quantise(network, KINDS["8"])


def test_a_model_whose_head_is_its_table_of_embeddings_is_converted_too(tmp_path: Path) -> None:
    source = mx.load(str(demo_directory() / "model.safetensors"))
    model = tmp_path / "tied"
    model.mkdir()
    for file in demo_directory().glob("*.json"):
        (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text()) | {"tie_word_embeddings": True}
    (model / "config.json").write_text(json.dumps(config))
    del source["lm_head.weight"]
    mx.save_safetensors(str(model / "model.safetensors"), source)
    assert "lm_head" not in quantise(model).decoder.manifest["quantised"]
    assert load_plugin(MLXDecoder(), model, {"bits": "8"}, lambda _: None).width == 256


def test_a_report_of_equal_decoders_finds_no_difference(
    encoded: list[EncodedPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = reading.load_model
    monkeypatch.setattr(reading, "load_model", lambda model, quantised: load(model))
    report = quantisation_report.compare(demo_directory(), quantise(demo_directory()).decoder, encoded)
    assert (report.token_agreement, report.error_rate, report.logit_difference) == (1, 0, 0)
    assert (report.pages, report.same_answers) == (2, 2)
    assert report.characters > 300 and report.logit_magnitude > 1
    assert report.warnings() == []


def test_a_decoder_led_along_its_own_answer_chooses_every_token_of_it(encoded: list[EncodedPage]) -> None:
    """So a position of the report is that of the token before which it stands."""
    reader = reading.Reader(demo_directory())
    answer = reader.read(encoded[0])
    led = reader.lead(encoded[0], answer)
    assert answer.has_end and led.best[:-1] == answer.tokens
    assert led.best[-1] in reader._model.end_ids
    assert led.logits.shape == (32, 929)


def test_fewer_bits_differ_more_and_the_user_is_warned(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, truth in enumerate(generated_pages(3, 7, "full", EVERYWHERE, 0.0, vocabulary="random")):
        assert isinstance(truth.image, Image.Image)
        truth.image.save(tmp_path / f"{number}.png")
    pages = (str(tmp_path),)
    reports = {}
    for bits in ("8", "4"):
        run(decoder_bits=bits, pages=pages, as_json=True)
        reported = capfd.readouterr()
        reports[bits] = json.loads(reported.out)["report"]
        assert reported.err.count("WARNING: ") == {"8": 0, "4": 2}[bits]  # tokens, and characters
    assert reports["8"]["token_agreement"] > 0.99 > reports["4"]["token_agreement"]
    assert reports["8"]["error_rate"] <= 0.02 < reports["4"]["error_rate"]
    assert reports["8"]["logit_difference"] < 0.2 * reports["4"]["logit_difference"]


def test_the_report_is_kept_in_the_manifest_and_can_be_made_later(capfd: pytest.CaptureFixture[str]) -> None:
    run(skip_report=True)
    assert "same tokens" not in capfd.readouterr().out
    run(pages=(str(LETTER),), as_json=True)
    shown = json.loads(capfd.readouterr().out)
    stored = json.loads((Path(shown["folder"]) / MANIFEST).read_text())
    assert shown["report"] == stored["report"]
    assert stored["report"]["pages"] == 1 and stored["report"]["token_agreement"] > 0.95
    run()
    told = capfd.readouterr()
    assert "same tokens" in told.out and "exists already" in told.err


def test_a_model_without_pages_gets_no_report_and_the_way_to_one(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo_directory(), models / "mine")
    run("mine")
    reported = capfd.readouterr()
    assert (
        "there is no page to compare the decoders on: dotsctl convert mine --decoder-bits 8 --pages FILE"
        in reported.err
    )
    assert "same tokens" not in reported.out


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"decoder_bits": None}, UsageError, "choose one form of the model"),
        ({"pages": (str(LETTER),), "skip_report": True}, UsageError, "give one of the two"),
        ({"pages": ("-",)}, UsageError, "no standard input"),
        ({"pages": ("missing.png",)}, NoInputError, "missing.png: there is no such file"),
        ({"model": "missing"}, MissingError, "there is no model 'missing'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_made(
    models: Path, options: dict[str, Any], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        run(**options)
    assert not models.exists()


def test_a_converted_model_reads_a_page_and_its_records_say_so() -> None:
    """Through the command line and real workers; without the conversion the command that makes it is named."""
    with pytest.raises(MissingError, match=r"dotsctl convert demo --decoder-bits 8$"):
        Client(model="demo", decoder="mlx:bits=8", private=True)
    command = [sys.executable, "-P", "-m", "dotsctl", "convert", "demo", "--decoder-bits", "8", "--skip-report"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "--decoder mlx:bits=8" in done.stdout
    with Client(model="demo", decoder="mlx:bits=8", private=True) as client:
        (page,) = client.ocr([LETTER], task="text")
        assert client.fingerprint == fingerprint(demo_directory())
    assert page.decoder == "mlx:bits=8" and page.error is None
    truth = LETTER.with_suffix(".txt").read_text()
    assert edit_distance(truth, page.text) < 0.15 * len(truth)


def test_results_of_a_quantised_decoder_are_not_mistaken_for_those_of_the_original() -> None:
    readings = [Reading("f", "mlx", decoder, {"task": "text"}) for decoder in ("mlx", "mlx:bits=8", "mlx:bits=4")]
    assert len({reading.key("digest", "md") for reading in readings}) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "coreml", "decoder_bits": "8"}, "choose one form of the model"),
        (
            {"encoder": "coreml", "decoder_bits": None, "group_size": "32"},
            "--group-size has no effect on the encoder",
        ),
        ({"encoder": None, "decoder_bits": "8", "query_tile": 128}, "--query-tile has no effect on the decoder"),
    ],
)
def test_options_of_the_other_half_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tool.run("demo", force=False, as_json=False, **options)
