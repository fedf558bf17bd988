"""Shell scripts and workflows, checked by the tools that know their languages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = (ROOT / "tools" / "first_mac.sh", ROOT / ".ci" / "run")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def installed(name: str) -> str:
    """A program of this environment, which the extra ``test`` installs."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[test]'")
    return found


def shellcheck(*arguments: str, script: str | None = None) -> None:
    done = subprocess.run(
        [installed("shellcheck"), *arguments], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_clean(path: Path) -> None:
    shellcheck("--enable=all", "--exclude=SC2250,SC2292,SC2312", str(path))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_use_nothing_newer_than_the_bash_of_macos(path: Path) -> None:
    """Which is bash 3.2 of 2007."""
    text = path.read_text()
    for feature in (r"\bdeclare -A", r"\bmapfile\b", r"\breadarray\b", r"\$\{\w+[,^@]", r"&>>", r"\|&", r"\bcoproc\b"):
        assert not re.search(feature, text), feature
    assert not re.search(r"\btimeout\b|\breadlink -f\b|\bsed -i\b", text), (
        "a program that macOS has not, or another one"
    )


def steps(path: Path) -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_commands_of_workflows_are_clean(path: Path) -> None:
    for step in steps(path):
        if "run" in step:
            shellcheck("--shell=bash", "-", script=step["run"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_version(path: Path) -> None:
    for step in steps(path):
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1")), step


def test_the_workflow_for_macos_leaves_out_only_sections_that_exist(tmp_path: Path) -> None:
    from dotsctl.tools.dev.mac_report import sections

    text = (ROOT / ".github" / "workflows" / "macos.yml").read_text()
    skipped = set(re.findall(r"--skip (\w+)", text))
    assert skipped == {"unit_tests", "process_tests"}
    assert skipped < {section.name for section in sections(("cpu_only",), tmp_path)}
