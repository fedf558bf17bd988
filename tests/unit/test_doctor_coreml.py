"""The report on the Core ML encoder: order of the sections, what is skipped, what breaks off and is resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from dotsctl.protocol.errors import MissingError, OutputError, UsageError
from dotsctl.protocol.machine.identity import Machine
from dotsctl.tools.doctor_coreml import main as doctor
from dotsctl.tools.doctor_coreml.order import SectionRequest
from dotsctl.tools.doctor_coreml.report import CoreMLReport, ReportSection, SectionState

MAC = Machine("Apple M2", "macOS 26.1", "25B78")
DEVICES = ["cpu", "gpu", "ne"]
GOOD_TRIAL = {"verdict": {"trials": [{"bucket": 24, "reason": ""}]}}
PACKAGES = {"packages": [{"name": "one"}, {"name": "two"}]}


class Children:
    """In place of the processes of sections: results by kind, and what was run."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {
            "system": {"devices": DEVICES},
            "conversion": {"build": "float16"},
            "trial": GOOD_TRIAL,
            "laboratory": PACKAGES,
        }
        self.failing: set[str] = set()
        self.run: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.at: Callable[[str], None] = lambda name: None

    def __call__(
        self, kind: str, order: SectionRequest, limit_s: float, attempts: int, say: Callable[[str], None]
    ) -> ReportSection:
        name = f"{kind}: {order.subject}" if order.subject else kind
        self.run.append(name)
        self.seen.append(json.loads(Path("dotsctl-coreml-report.json").read_text()))
        self.at(name)
        say("a step")
        if kind in self.failing or name in self.failing:
            return ReportSection(SectionState.FAILED, attempts, 1.0, f"{name} is broken")
        return ReportSection(SectionState.DONE, attempts, 1.0, "", self.results.get(kind, {}), (f"about {name}",))


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    fake = Children()
    monkeypatch.setattr(doctor, "run_section", fake)
    monkeypatch.setattr(doctor, "this_machine", lambda: MAC)
    monkeypatch.chdir(tmp_path)
    return fake


def run(*options: str) -> Result:
    return CliRunner().invoke(doctor.cli, ["--model", "demo", *options])


def report() -> dict[str, Any]:
    return json.loads(Path("dotsctl-coreml-report.json").read_text())


def test_all_sections_are_run_in_order_and_the_report_is_written_after_each(children: Children) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert children.run == [
        "system", "conversion", "trial: cpu_and_ne", "trial: cpu_only", "trial: cpu_and_gpu",
        "verification: reference", "verification: cpu_and_ne", "verification: cpu_only", "verification: cpu_and_gpu",
        "laboratory", "package: one", "package: two", "energy: mlx", "energy: coreml", "auto",
    ]  # fmt: skip
    for number, (name, seen) in enumerate(zip(children.run, children.seen, strict=True)):
        assert not seen["is_complete"]
        assert list(seen["sections"]) == children.run[: number + 1]
        assert seen["sections"][name]["state"] == "running"
        assert all(section["state"] == "done" for other, section in seen["sections"].items() if other != name)
    assert report()["is_complete"] and report()["sections"]["package: two"]["text"] == ["about package: two"]
    assert "all sections are done" in result.stdout and "  about trial: cpu_only" in result.stdout
    assert [path.name for path in Path().iterdir()] == ["dotsctl-coreml-report.json"]


def test_a_missing_neural_engine_is_reported_at_once_and_the_cpu_is_examined(children: Children) -> None:
    children.results["system"] = {"devices": ["cpu", "gpu"]}
    result = run()
    assert result.exit_code == 0
    assert [name for name in children.run if name.startswith(("trial", "package", "laboratory"))] == ["trial: cpu_only"]
    skipped = {name for name, section in report()["sections"].items() if section["state"] == "skipped"}
    assert skipped >= {"trial: cpu_and_ne", "trial: cpu_and_gpu", "laboratory", "energy: coreml"}
    assert "trial: cpu_and_ne: skipped: this machine offers Core ML no Neural Engine" in result.stdout


def test_what_fails_is_in_the_report_and_the_others_are_run(children: Children) -> None:
    children.failing = {"trial: cpu_and_ne", "package: one", "energy"}
    result = run()
    assert result.exit_code == 1
    sections = report()["sections"]
    assert sections["trial: cpu_and_ne"]["failure"] == "trial: cpu_and_ne is broken"
    assert sections["verification: cpu_and_ne"]["failure"] == "its trial did not pass"
    assert sections["package: two"]["state"] == sections["verification: cpu_only"]["state"] == "done"
    assert "4 sections failed: trial: cpu_and_ne, package: one, energy: mlx, energy: coreml" in result.stdout


def test_without_a_build_what_needs_one_is_skipped(children: Children) -> None:
    children.failing = {"conversion"}
    assert run().exit_code == 1
    assert children.run == ["system", "conversion", "energy: mlx", "auto"]


def test_a_report_that_was_interrupted_is_resumed_at_the_section_it_was_interrupted_in(children: Children) -> None:
    def break_off(name: str) -> None:
        if name == "trial: cpu_only":
            raise KeyboardInterrupt

    children.at = break_off
    assert run("--only", "trial").exit_code == 1  # click's own code of an interruption
    assert report()["sections"]["trial: cpu_only"]["state"] == "running" and not report()["is_complete"]
    children.run.clear()
    children.at = lambda name: None
    result = CliRunner().invoke(doctor.cli, ["--resume"])
    assert result.exit_code == 0, result.output
    assert children.run == ["trial: cpu_only", "trial: cpu_and_gpu"]
    assert report()["is_complete"] and report()["sections"]["trial: cpu_only"]["attempts"] == 2


def test_a_section_in_which_the_report_was_interrupted_twice_is_not_run_again(children: Children) -> None:
    broken = CoreMLReport("demo", None, ("auto",), {"system": ReportSection(SectionState.RUNNING, 2)})
    broken.write(Path("dotsctl-coreml-report.json"))
    assert run("--resume").exit_code == 1
    assert "system" not in children.run and "auto" in children.run
    assert report()["sections"]["system"]["failure"] == "the report was interrupted in it 2 times"


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        ("{}", [], "exists: continue it with --resume, or choose another file with -o"),
        ("{}", ["--resume"], "is not a report of this version"),
        ("no JSON", ["--resume"], "cannot be resumed"),
        (None, ["--resume"], "cannot be resumed"),
    ],
)
def test_a_file_that_is_there_is_never_overwritten(
    children: Children, content: str | None, options: list[str], problem: str
) -> None:
    path = Path("dotsctl-coreml-report.json")
    if content is not None:
        path.write_text(content)
    result = run(*options)
    assert isinstance(result.exception, UsageError) and problem in str(result.exception)
    assert children.run == [] and (content is None or path.read_text() == content)


def test_a_folder_that_would_be_removed_at_the_end_is_refused(children: Children) -> None:
    work = Path("dotsctl-coreml-report.json.work")
    work.mkdir()
    (work / "notes").write_text("by hand")
    result = run()
    assert isinstance(result.exception, UsageError) and "exists, and would be removed" in str(result.exception)
    assert (work / "notes").read_text() == "by hand" and children.run == []


def test_a_report_is_resumed_with_its_own_options_alone(children: Children) -> None:
    CoreMLReport("demo", "float16").write(Path("dotsctl-coreml-report.json"))
    for options in (["--build", "other"], ["--only", "auto"]):
        result = run("--resume", *options)
        assert "is a report on model demo, build float16" in str(result.exception)


def test_a_report_that_cannot_be_written_is_an_error_before_anything_is_run(children: Children) -> None:
    Path("file").touch()
    result = run("-o", "file/report.json")
    assert isinstance(result.exception, OutputError) and "choose another path with -o" in str(result.exception)
    assert children.run == []


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        (Machine("x86_64", "Linux 6", "1"), "needs a Mac with Apple silicon, and this is Linux 6 on x86_64"),
        (Machine("Intel Core i7", "macOS 15.1", "1"), "needs a Mac with Apple silicon"),
        (Machine("Apple M1", "macOS 14.6", "1"), "needs macOS 15 or later, this is macOS 14.6"),
    ],
)
def test_elsewhere_one_line_names_what_it_needs(
    children: Children, machine: Machine, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "this_machine", lambda: machine)
    result = run()
    assert isinstance(result.exception, MissingError) and problem in str(result.exception)
