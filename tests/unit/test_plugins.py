"""What plugins state about themselves: options, memory, device, and whether they can run here."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dotsctl.client.cli.main import cli
from dotsctl.client.settings.choices import choose, find_model_for, runtime_config
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.loading import load_decoder
from dotsctl.encoder_worker.loading import load_encoder
from dotsctl.encoder_worker.plugin import encode_images
from dotsctl.encoder_worker.plugins.fake import FakeEncoder
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import Device, Role
from dotsctl.protocol.worker.gpu_faults import REFUSED_TEXTS
from dotsctl.protocol.worker.plugin_faults import load_faults
from dotsctl.protocol.worker.plugin_options import MemoryPart, memory_options, option, option_facts, parse_options
from dotsctl.protocol.worker.plugins import described, find_plugin, installed

PLUGINS = [(role, name) for role in Role for name in installed(role)]


class Mode(StrEnum):
    FAST = "fast"
    EXACT = "exact"


@dataclass(frozen=True)
class SampleOptions:
    rows: int = option(1, "rows of a page", minimum=1, maximum=9)
    offset: int | None = option(None, "where it starts")
    share: float = option(0.5, "share of a page", minimum=0, maximum=1)
    fused: bool | None = option(None, "fused kernels", shown_default="on where they help")
    mode: Mode = option(Mode.FAST, "way to compute")
    kind: str = option("a", "kind of weights", choices=("a", "b"))
    path: str = option("", "file that is written")
    buckets: tuple[int, ...] = option((), "page sizes", minimum=4)
    cache_mib: int = option(8, "MiB of freed buffers", memory=MemoryPart.FREED)

    def __post_init__(self) -> None:
        if self.kind == "b" and not self.path:
            raise ValueError("kind=b needs a path: write kind=b,path=FILE")


@pytest.mark.parametrize(
    ("texts", "field", "value"),
    [
        ({"rows": "9"}, "rows", 9),
        ({"offset": "-3"}, "offset", -3),
        ({"share": "1"}, "share", 1.0),
        ({"fused": "off"}, "fused", False),
        ({"mode": "exact"}, "mode", Mode.EXACT),
        ({"kind": "b", "path": "x"}, "kind", "b"),
        ({"path": "a=b"}, "path", "a=b"),
        ({"buckets": "960+336+960"}, "buckets", (336, 960)),
        ({}, "rows", 1),
    ],
)
def test_an_option_is_read_in_its_type(texts: dict[str, str], field: str, value: object) -> None:
    found = getattr(parse_options(SampleOptions, texts, "encoder sample"), field)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("texts", "problem", "remedy"),
    [
        ({"rows": "0"}, "encoder sample: rows='0' is not a whole number, 1 to 9", "leave rows out (default: 1)"),
        ({"rows": "1.5"}, "rows='1.5' is not a whole number", "correct it"),
        ({"rows": "٣"}, "is not a whole number", "correct it"),
        ({"share": "nan"}, "share='nan' is not a number, 0 to 1", "(default: 0.5)"),
        ({"share": "2"}, "share='2' is not a number, 0 to 1", ""),
        ({"fused": "yes"}, "fused='yes' is not on or off", "(default: on where they help)"),
        ({"mode": "slow"}, "mode='slow' is not fast or exact", "'dotsctl plugins' explains all options"),
        ({"kind": "c"}, "kind='c' is not a or b", ""),
        ({"buckets": "336,2"}, "is not whole numbers joined by +, as 336+960", "(default: none)"),
        ({"buckets": "2"}, "buckets='2' is not whole numbers", ""),
        ({"row": "2"}, "encoder sample has no option 'row'", "write rows"),
        ({"zzz": "2"}, "has no option 'zzz'", "use rows, offset, share, fused, mode, kind, path, buckets, cache_mib"),
        ({"kind": "b"}, "encoder sample: kind=b needs a path: write kind=b,path=FILE", ""),
    ],
)
def test_a_wrong_option_is_refused_with_its_value_limits_and_remedy(
    texts: dict[str, str], problem: str, remedy: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(SampleOptions, texts, "encoder sample")
    assert problem in caught.value.problem and remedy in caught.value.remedy


def test_an_option_that_sets_a_part_of_the_memory_is_known_by_that_part() -> None:
    assert memory_options(SampleOptions) == {MemoryPart.FREED: "cache_mib"}
    assert memory_options(None) == {}


@pytest.mark.parametrize(("role", "name"), PLUGINS)
def test_a_plugin_of_ours_states_help_and_options_with_help_and_limits(role: Role, name: str) -> None:
    about = find_plugin(role, name).description
    assert about.help.endswith(".") and about.options is not None
    facts = option_facts(about.options)
    assert facts and all(each.help and each.limits and each.default for each in facts.values())
    assert about.options() == parse_options(about.options, {}, name), "the defaults are options too"


def test_descriptions_are_read_without_a_framework_or_numpy() -> None:
    program = (
        "import sys; from dotsctl.tools.plugins.listing import render_plugins; render_plugins(True);"
        "print(sorted({'numpy', 'PIL', 'mlx', 'mlx_lm', 'coremltools', 'zmq'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "[]\n"


def test_plugins_are_listed_with_options_limits_and_why_one_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    found = json.loads(CliRunner().invoke(cli, ["plugins", "--json"], catch_exceptions=False).stdout)
    encoders = {each["name"]: each for each in found["encoders"]}
    assert {"coreml", "fake", "mlx"} <= encoders.keys() and {"fake", "mlx"} <= {e["name"] for e in found["decoders"]}
    assert "this is Linux" in encoders["coreml"]["problem"] and encoders["coreml"]["device"] == "ne"
    assert (encoders["fake"]["needs_model"], encoders["fake"]["reads_pages"]) == (False, False)
    hints = {each["name"]: each for each in found["hints"]}
    assert "text layer" in hints["textlayer"]["help"].lower() and hints["textlayer"]["problem"] == ""
    dtype = next(each for each in encoders["mlx"]["options"] if each["name"] == "dtype")
    assert dtype["limits"] == "float32, bfloat16 or float16" and "GPU" in dtype["default"]
    text = CliRunner().invoke(cli, ["plugins"], catch_exceptions=False).stdout
    assert "encoders: --encoder NAME" in text and "cannot run here: compute_units=cpu_and_ne needs" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_plugin_that_cannot_be_imported_is_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("print('hello')\nraise RuntimeError('no licence')")
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (tmp_path / "broken-1.dist-info" / "entry_points.txt").write_text("[dotsctl.encoders]\nzzz = broken_plugin:X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = CliRunner().invoke(cli, ["plugins", "--json"], catch_exceptions=False)
    last = json.loads(result.stdout)["encoders"][-1]
    assert last["name"] == "zzz" and "RuntimeError" in last["problem"] and "no licence" in last["problem"]


def test_without_mlx_its_plugins_cannot_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = find_plugin(Role.DECODER, "mlx")
    assert plugin.unavailable({}) == ""
    monkeypatch.setattr("dotsctl.protocol.worker.mlx.find_spec", lambda _: None)
    assert plugin.unavailable({}) == "MLX is not installed: pip install --force-reinstall dotsctl"


def test_the_device_is_known_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find_plugin(Role.ENCODER, "mlx").device_of({}) is Device.GPU
    assert find_plugin(Role.ENCODER, "coreml").device_of({"compute_units": "cpu_and_gpu"}) is Device.GPU
    assert find_plugin(Role.ENCODER, "fake").device_of({"device": "ne"}) is Device.NE


def test_plugins_that_need_no_model_get_none_and_their_options_are_checked() -> None:
    fake, mlx = PluginChoice("fake"), PluginChoice("mlx")
    assert find_model_for(None, [fake], [fake]) == ("fake", None)
    assert find_model_for("demo", [fake], [fake])[0] == "demo"
    assert find_model_for("demo", [fake], [mlx])[0] == "demo"
    with pytest.raises(UsageError, match="decoder fake: batch='0' is not a whole number, at least 1"):
        find_model_for(None, [fake], [PluginChoice("fake", {"batch": "0"})])
    with pytest.raises(
        UsageError, match=r"no plugin 'flax' in dotsctl\.decoders: use one that is installed: fake, mlx"
    ):
        find_model_for(None, [fake], [PluginChoice("flax")])


def test_a_wrong_option_is_reported_before_anything_is_started() -> None:
    chosen = choose(encoder="fake:encode_ms=soon", decoder="fake", environment={}, files=())
    with pytest.raises(UsageError, match="encode_ms='soon' is not a number, at least 0"):
        runtime_config(chosen, "name")


def test_a_description_that_raises_is_a_fault_of_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(FakeEncoder.description, available=lambda _: 1 // 0, memory=lambda facts, _: facts.absent)
    monkeypatch.setattr(FakeEncoder, "description", broken)
    plugin = find_plugin(Role.ENCODER, "fake")
    with pytest.raises(CommandFailedError, match=r"'fake' raised ZeroDivisionError: .* in description\.available"):
        plugin.unavailable({})
    with pytest.raises(CommandFailedError, match=r"encoder 'fake' raised AttributeError: .* in description\.memory"):
        plugin.need(validate_checkpoint(demo_directory()), {})
    found = json.loads(CliRunner().invoke(cli, ["plugins", "--json"], catch_exceptions=False).stdout)
    assert "ZeroDivisionError" in next(each for each in found["encoders"] if each["name"] == "fake")["problem"]


class Undeclared:
    """An encoder without a description."""

    def load(self, model: Path, options: Any, report: Any) -> Any:
        self.fake = FakeEncoder()
        size = float(options.get("size", "1"))
        return self.fake.load(model, find_plugin(Role.ENCODER, "fake").options({"embed_mib": str(size / 256)}), report)

    def encode(self, images: Any) -> Any:
        return encode_images(self.fake, images)

    def close(self) -> None:
        pass


def test_an_option_that_a_plugin_without_declared_options_does_not_look_up_is_refused() -> None:
    plugin = described(Role.ENCODER, "old", Undeclared)
    load_encoder(plugin, Path(), {"size": "2"}, lambda _: None)
    with pytest.raises(UsageError, match="encoder 'old' has no option 'colour': it did not look it up"):
        load_encoder(plugin, Path(), {"size": "2", "colour": "blue"}, lambda _: None)


def test_a_plugin_is_closed_after_a_failed_load_whatever_close_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Undeclared):
        def encode(self, images: Any) -> Any:
            raise RuntimeError("cannot find GPU")

        def close(self) -> None:
            raise ValueError("close fails too")

    with pytest.raises(CommandFailedError, match=r"encoder 'old' raised RuntimeError: cannot find GPU in the warm-up"):
        load_encoder(described(Role.ENCODER, "old", Failing), Path(), {}, lambda _: None)
    assert "close fails too" in caplog.text


def test_a_gpu_that_refuses_work_while_loading_is_no_fault_of_the_plugin() -> None:
    with pytest.raises(RuntimeError, match="Ignored"), load_faults("encoder 'x'", "load"):
        raise RuntimeError(REFUSED_TEXTS[1])
    with pytest.raises(CommandFailedError, match="raised RuntimeError"), load_faults("encoder 'x'", "load"):
        raise RuntimeError("another fault")


def test_a_missing_module_is_reported_with_what_to_install() -> None:
    with pytest.raises(MissingError, match="needs the module 'no_such_module'"), load_faults("encoder 'x'", "load"):
        __import__("no_such_module")


def test_the_decoder_is_loaded_with_the_same_rules() -> None:
    plugin = find_plugin(Role.DECODER, "fake")
    assert load_decoder(plugin, Path(), {"batch": "3"}, lambda _: None)[1].capacity == 3
    with pytest.raises(UsageError, match="has no option 'batches': write batch"):
        load_decoder(plugin, Path(), {"batches": "3"}, lambda _: None)
