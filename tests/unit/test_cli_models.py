"""``dotsctl ls`` and ``show``."""

import json
from pathlib import Path

import pytest
from dotsctl.client.models.record import write_record
from dotsctl.protocol.model.directory import DEMO, demo_directory, fingerprint

from tests.fake_hub import safetensors
from tests.local_models import CONFIG, RECORD, WEIGHTS, call, derive, install, refused

pytestmark = pytest.mark.usefixtures("models")
# --- ls --------------------------------------------------------------------------------------------------------------


def test_ls_shows_models_with_their_origin_and_marks_the_default(models: Path, tmp_path: Path) -> None:
    write_record(install(models / "small"), RECORD)
    digest = fingerprint(models / "small")
    derive(digest)
    lines = [line.split() for line in call("ls").stdout.splitlines()]
    assert lines[0] == ["NAME", "SIZE", "DERIVED", "FROM", "FINGERPRINT"]
    assert lines[1] == ["*", "small", "14.6", "kB", "5", "kB", "a/Dots@c0ffee000000", digest[:12]]
    assert lines[2][0] == DEMO
    assert lines[2][-1] == fingerprint(demo_directory())[:12]
    (models / "linked").symlink_to(install(tmp_path / "elsewhere"))
    text = call("ls").stdout
    assert f"link to {tmp_path / 'elsewhere'}" in text
    assert "*" not in text


def test_ls_json_has_what_the_table_has(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(install(models / "small"), RECORD)
    monkeypatch.setenv("DOTSCTL_MODEL", DEMO)
    content = json.loads(call("ls", "--json").stdout)
    small, demo = content["models"]
    assert (content["folder"], content["default"]) == (str(models), DEMO)
    assert (small["name"], small["repo"], small["licence"], small["default"]) == ("small", "a/Dots", "mit", False)
    assert small["size_bytes"] == sum(path.stat().st_size for path in (models / "small").iterdir())
    assert (demo["default"], demo["repo"], demo["derived"]) == (True, None, [])


def test_ls_does_not_hash_a_large_model(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(models / "large")
    derive("0" * 64)
    monkeypatch.setattr("dotsctl.client.models.facts.CHEAP_BYTES", 10)
    assert call("ls").stdout.splitlines()[1].split() == ["*", "large", "14.4", "kB", "?", "-", "?"]
    assert "--unused" not in call("ls").stdout  # it may belong to the model that is not known
    digest = fingerprint(models / "large")
    assert digest[:12] in call("ls").stdout
    assert "--unused" in call("ls").stdout


def test_ls_reports_what_lies_about(models: Path) -> None:
    (models / ".half.partial").mkdir(parents=True)
    (models / ".half.partial" / "config.json").write_bytes(bytes(3000))
    derive("0" * 64, 7000)
    lines = call("ls").stdout.splitlines()
    assert "unfinished: .half.partial, 3 kB; 'dotsctl rm half' removes it" in lines
    assert "derived from models that are no longer installed: 7 kB; 'dotsctl rm --unused' removes it" in lines
    assert len(lines) == 4


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_reports_what_is_in_a_model(models: Path) -> None:
    folder = install(models / "small")
    (folder / "prompts.json").write_text('{"text": "Read.", "ground": "Read {box}.", "svg": null}')
    write_record(folder, RECORD)
    derive(fingerprint(folder))
    shown = dict(line.split(maxsplit=1) for line in call("show", "small").stdout.splitlines())
    assert shown["from"] == f"a/Dots@{RECORD.commit}, pulled {RECORD.date}"
    assert shown["fingerprint"] == fingerprint(folder)
    assert shown["licence"] == "mit"
    assert shown["parameters"] == "encoder 0.00 M (2 kB), decoder 0.00 M (12 kB), together 0.00 M"
    assert shown["type"] == "F32 75%, BF16 25%"
    assert shown["encoder"] == "2 layers of width 64, 4 heads"
    assert shown["decoder"] == "3 layers of width 96, ? heads"
    assert shown["pages"] == "3136 to 7840 pixels"
    assert shown["context"] == "2048 tokens"
    assert shown["tasks"] == "text, ground (prompts: model card)"
    assert "             svg (prompts: dotsctl)" in call("show", "small").stdout.splitlines()
    assert shown["derived"] == "coreml, 5 kB"
    facts = json.loads(call("show", "small", "--json").stdout)
    assert (facts["encoder_parameters"], facts["decoder_parameters"]) == (1000, 3000)
    assert (facts["encoder_bytes"], facts["decoder_bytes"]) == (2000, 12_000)
    assert facts["parameters_by_type"] == {"BF16": 1000, "F32": 3000}
    assert facts["tasks"] == {"text": "model card", "ground": "model card", "svg": "dotsctl"}
    assert facts["derived"] == [{"name": "coreml", "size_bytes": 5000}]


PACKED = {
    "vision_tower.a": ("BF16", [10, 100], 2000),
    "language_model.model.lm_head.weight": ("U32", [30, 16], 1920),
    "language_model.model.lm_head.scales": ("BF16", [30, 2], 120),
    "language_model.model.lm_head.biases": ("BF16", [30, 2], 120),
    "language_model.model.norm.weight": ("BF16", [128], 256),
}
"""A head of 30 x 128 weights of 4 bits in groups of 64."""


def test_show_counts_packed_weights_as_what_they_are_and_their_bytes_as_stored(models: Path) -> None:
    folder = install(models / "small", safetensors(PACKED))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization": {"bits": 4, "group_size": 64}}))
    facts = json.loads(call("show", "small", "--json").stdout)
    assert (facts["encoder_parameters"], facts["decoder_parameters"]) == (1000, 30 * 128 + 128)
    assert (facts["encoder_bytes"], facts["decoder_bytes"]) == (2000, 1920 + 240 + 256)
    assert facts["parameters_by_type"] == {"BF16": 1128, "4bit": 3840}
    assert "type         4bit 77%, BF16 23%" in call("show", "small").stdout.splitlines()


def test_show_counts_packed_weights_as_stored_where_config_json_does_not_say_how(models: Path) -> None:
    install(models / "small", safetensors(PACKED))
    facts = json.loads(call("show", "small", "--json").stdout)
    assert facts["parameters_by_type"] == {"BF16": 1128, "U32": 480}


def test_show_takes_a_path_and_the_demo_model(tmp_path: Path) -> None:
    folder = install(tmp_path / "elsewhere")
    assert "unknown (not pulled" in call("show", str(folder)).stdout
    facts = json.loads(call("show", DEMO, "--json").stdout)
    assert facts["encoder_parameters"] > 1_000_000
    assert facts["tasks"] == dict.fromkeys(("layout", "text", "layout-only"), "prompts.json")


@pytest.mark.parametrize(
    "weights",
    [b"", b"short", b"\xff" * 40, b"\x02" + bytes(7) + b"[]", b"\x0b" + bytes(7) + b'{"a": {"a"}', WEIGHTS[:90]],
)
def test_show_names_a_damaged_file(models: Path, weights: bytes) -> None:
    install(models / "small", weights)
    message = refused(3, "show", "small")
    assert f"{models / 'small' / 'model.safetensors'} is not a complete .safetensors file" in message


def test_show_of_nothing_is_exit_3() -> None:
    assert "there is no model 'nothing'" in refused(3, "show", "nothing")
