"""The plan behind --encoder auto: what is known of Core ML packages on this machine before anything is loaded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.settings import auto_encoder
from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.auto_encoder import AutoPlan, choose_encoder
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol.machine import identity as machines
from dotsctl.protocol.machine import measured_costs
from dotsctl.protocol.machine.identity import Machine, framework_versions
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.machine.verdicts import Trial, Verdict, build_digest, remember
from dotsctl.protocol.model.directory import demo_directory, derived_directory, fingerprint

MAC = Machine("Apple M2", "macOS 26.1", "25B1")
GOOD = (Trial(96, "", 60.0, 0.9, 0.5, 0.999), Trial(264, "", 60.0, 1.9, 1.5))
TRIED = "coreml:build=float16,compute_units=cpu_and_ne"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    return tmp_path


def build(name: str = "float16") -> Path:
    """A build of the demo model, as far as the plan looks at it."""
    folder = derived_directory(fingerprint(demo_directory())) / "coreml" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(
        json.dumps({"name": name, "buckets": [96, 264], "compute_units": "cpu_and_ne"})
    )
    return folder


def tried(name: str = "float16", units: str = "cpu_and_ne", **changes: object) -> Verdict:
    """A build with the verdict on it."""
    digest = build_digest(build(name))
    assert digest
    verdict = Verdict(
        fingerprint(demo_directory()), name, digest, units, MAC, (96, 264), GOOD, versions=framework_versions()
    )
    verdict = replace(verdict, **changes)  # type: ignore[arg-type]
    remember(verdict)
    return verdict


def compared(page_s: float, encoder: str = TRIED, machine: Machine = MAC) -> None:
    """A comparison with MLX, which takes 2 s a page, for the build that is there."""
    folder = derived_directory(fingerprint(demo_directory())) / "coreml" / "float16"
    basis = f"{build_digest(folder)}, {framework_versions()}"
    found = Preference(encoder, instead_of="mlx", patches=96, page_s=page_s, instead_page_s=2.0, basis=basis)
    measured_costs.remember(fingerprint(demo_directory()), machine, preferences=[found])


def auto(machine: Machine = MAC, **options: str) -> AutoPlan:
    return choose_encoder(demo_directory(), options, machine)


def test_packages_that_were_never_tried_are_loaded_in_the_background() -> None:
    build()
    plan = auto()
    assert (str(plan.encoder), str(plan.alternative)) == ("mlx", TRIED)
    assert plan.auto is not None and plan.auto.buckets == (96, 264) and not plan.auto.is_proved
    assert str(plan) == (f"mlx; {TRIED} loads in the background and then reads the pages that it reads faster")


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": [{"page_s": "fast"}]},
        {"trials": [{"ne_share": "half"}]},
        {"trials": [{"bucket": 0}]},
        {"trials": [{"load_s": None}]},
        {"trials": [], "buckets": []},
        {"buckets": "96"},
        {"build": "a\0b"},
        {"machine": {"chip": 2}},
    ],
)
def test_a_stored_verdict_of_a_wrong_type_counts_as_none_and_the_packages_are_tried_again(
    home: Path, wrong: dict[str, Any]
) -> None:
    tried()
    (path,) = home.rglob("verdict-*.json")
    content = json.loads(path.read_text())
    trials = wrong.get("trials")
    changed = [{**content["trials"][0], **trials[0]}] if trials else trials
    path.write_text(json.dumps(content | wrong | ({"trials": changed} if "trials" in wrong else {})))
    assert auto().auto is not None and str(auto().alternative) == TRIED
    assert auto() == choose_again(path)


def choose_again(path: Path) -> AutoPlan:
    """The plan without the verdict."""
    path.unlink()
    return auto()


@pytest.mark.parametrize("buckets", ["[1e999]", '"96"', "[null]", "{}"])
def test_a_manifest_with_wrong_page_sizes_offers_no_packages(buckets: str) -> None:
    (build() / "manifest.json").write_text(f'{{"compute_units": "cpu_and_ne", "buckets": {buckets}}}')
    assert auto().alternative is None


def test_packages_that_passed_their_trial_and_were_never_compared_prove_nothing_yet() -> None:
    tried()
    plan = auto()
    assert str(plan.alternative) == TRIED
    assert plan.auto is not None and not plan.auto.is_proved and not plan.auto.refused


def test_packages_that_were_measured_to_be_faster_are_started_first() -> None:
    tried()
    compared(1.0)
    plan = auto()
    assert plan.auto is not None and plan.auto.is_proved
    assert str(plan) == (
        f"{TRIED} reads pages of 96 patches: 1 s a page with the decoder running, mlx 2 s; mlx reads all others"
    )


def test_packages_that_were_measured_to_be_slower_are_not() -> None:
    tried()
    compared(3.0)
    plan = auto()
    assert plan.auto is not None and len(plan.auto.preferences) == 1 and not plan.auto.is_proved


@pytest.mark.parametrize("other", [replace(MAC, build="25C9"), replace(MAC, chip="Apple M4")])
def test_after_an_update_and_on_another_mac_nothing_is_known(other: Machine) -> None:
    tried()
    compared(1.0)
    plan = auto(other)
    assert plan.alternative is not None and plan.auto is not None
    assert not plan.auto.preferences and not plan.auto.refused


def test_after_an_update_of_python_or_coremltools_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    tried()
    compared(1.0)
    monkeypatch.setattr(machines.platform, "python_version", lambda: "3.99.0")
    plan = auto()
    assert plan.auto is not None and not plan.auto.preferences and str(plan.alternative) == TRIED


def test_a_comparison_with_packages_that_were_made_anew_counts_no_more() -> None:
    tried()
    compared(1.0)
    (build() / "manifest.json").write_text(json.dumps({"buckets": [96], "compute_units": "all"}))
    plan = auto()
    assert plan.auto is not None and plan.auto.buckets == (96,) and not plan.auto.preferences


def test_a_comparison_of_the_run_that_also_tried_the_packages_counts_at_the_next_start() -> None:
    build()
    compared(1.0, str(auto().alternative))
    tried()
    plan = auto()
    assert plan.auto is not None and plan.auto.is_proved


def test_packages_for_other_units_than_the_neural_engine_are_left_to_those_who_ask_for_them() -> None:
    (build() / "manifest.json").write_text(json.dumps({"buckets": [96], "compute_units": "cpu_and_gpu"}))
    assert auto().alternative is None


def test_a_comparison_of_other_encoders_does_not_count() -> None:
    tried()
    compared(1.0, "coreml:build=float16-int8,compute_units=cpu_and_ne")
    plan = auto()
    assert plan.auto is not None and not plan.auto.preferences


def test_page_sizes_that_failed_are_left_out() -> None:
    tried(trials=(GOOD[0], Trial(264, "it hung")))
    plan = auto()
    assert plan.alternative is not None and plan.auto is not None and plan.auto.buckets == (96,)


def test_packages_of_which_no_page_size_works_are_refused_with_the_reason() -> None:
    tried(trials=(Trial(96, "it hung"), Trial(264, "not finite")))
    plan = auto()
    assert plan.alternative is None
    assert str(plan) == "mlx; the Core ML packages do not work here (float16: pages of 96 patches: it hung)"


def test_the_fastest_of_several_builds_is_taken_and_one_that_was_tried_before_others() -> None:
    tried()
    build("untried")
    tried("float16-int8", trials=(Trial(96, "", 1.0, 1.0, 0.2), Trial(264, "", 1.0, 1.0, 0.5)))
    tried("float16-int4", units="cpu_only", trials=(Trial(96, page_s=0.01), Trial(264, page_s=0.01)))
    assert auto().alternative is not None
    assert auto().alternative.options["build"] == "float16-int8"  # type: ignore[union-attr]


def test_a_damaged_manifest_is_no_build() -> None:
    (build() / "manifest.json").write_text("{}")
    assert auto().alternative is None


def test_without_packages_the_command_that_makes_them_is_named() -> None:
    plan = auto()
    assert plan.alternative is None
    assert "dotsctl convert" in str(plan)


def test_linux_and_options_leave_no_choice() -> None:
    tried()
    assert auto(Machine("x86_64", "Linux 6", "1")) == AutoPlan(settings.PluginChoice("mlx"))
    assert str(auto(dtype="float32")) == "mlx:dtype=float32"
    assert auto(dtype="float32").auto is None


def test_the_settings_start_both_encoders_and_name_one_where_there_can_be_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried()
    monkeypatch.setattr(auto_encoder, "this_machine", lambda: MAC)
    chosen = settings.choose(model="demo", environment={}, files=())
    config = settings.runtime_config(chosen, "x")
    assert [str(each) for each in config.encoders] == ["mlx", TRIED]
    assert config.encoder_name == "auto" and config.auto_line.startswith("encoder auto: mlx; ")
    assert RuntimeConfig.from_json(config.to_json()) == config
    assert settings.resolve_encoder("auto", "demo") == "mlx"
    compared(1.0)
    assert settings.resolve_encoder("auto", "demo") == TRIED
    assert settings.resolve_encoder("auto", "nothing") == "mlx"
    assert settings.resolve_encoder("mlx:dtype=float32", "demo") == "mlx:dtype=float32"
    both = settings.runtime_config(replace(chosen, further_encoders=("mlx",)), "x")
    assert both.auto is None and [str(each) for each in both.encoders] == [TRIED, "mlx"]
    config = settings.runtime_config(replace(chosen, encoder="mlx"), "x")
    assert (config.auto, config.encoder_name, config.auto_line) == (None, "mlx", "")


def test_packages_that_do_not_fit_into_memory_together_with_mlx_are_left_out_with_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried()
    monkeypatch.setattr(auto_encoder, "this_machine", lambda: MAC)
    chosen = settings.choose(model="demo", environment={}, files=(), memory="600M")
    config = settings.runtime_config(chosen, "x")
    assert [str(each) for each in config.encoders] == ["mlx"]
    assert config.auto_line.startswith(
        f"encoder auto: mlx; {TRIED} is not used: a memory limit of 600 MiB is too small"
    )
    assert config.memory_bytes == 600 << 20
