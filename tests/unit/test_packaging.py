"""Folder X is ``dotsctl.X`` in every way of installing, and a wheel holds all of it."""

import ast
import email
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import dotsctl.protocol
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FOLDERS = ("client", "decoder_worker", "encoder_worker", "protocol", "tools")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LISTED: list[str] = PROJECT["tool"]["setuptools"]["packages"]
FILES_ONLY = ("dotsctl.client.demo_model", "dotsctl.client.sample_pages")
PACKAGES = [package for package in LISTED if package not in FILES_ONLY]
MAPPING: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
LINKS = ROOT / "tools" / "import_root" / "dotsctl"
NO_PART = shutil.ignore_patterns("__pycache__", "import_root", ".*")


def folder_of(package: str) -> Path:
    """Where a package lies in the checkout."""
    if package in MAPPING:
        return ROOT / MAPPING[package]
    parent, _, name = package.rpartition(".")
    return folder_of(parent) / name


def module_file(module: str) -> Path:
    parent, _, name = module.rpartition(".")
    return folder_of(module) / "__init__.py" if module in PACKAGES else folder_of(parent) / f"{name}.py"


def test_every_package_of_the_checkout_is_listed() -> None:
    left_out = (LINKS, ROOT / "tools" / "dev")  # links for the type checker, and programs for this repository alone
    found = {
        path.parent
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
        if not any(part in (path.parent, *path.parents) for part in left_out)
    }
    assert found == {folder_of(package) for package in PACKAGES}


def test_every_folder_with_modules_is_a_package() -> None:
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        assert (path.parent / "__init__.py").is_file(), path


@pytest.mark.parametrize(
    ("package", "pattern"),
    [(package, p) for package, ps in PROJECT["tool"]["setuptools"]["package-data"].items() for p in ps],
)
def test_files_that_belong_to_a_package_exist(package: str, pattern: str) -> None:
    assert [path for path in folder_of(package).glob(pattern) if path.is_file()]


def test_the_type_checkers_folder_has_exactly_one_link_for_each_package() -> None:
    expected = {folder: ROOT / folder for folder in FOLDERS}
    package = ROOT / "client" / "package"
    expected |= {path.name: path for path in package.iterdir() if path.name != "__pycache__"}
    found = {link.name: link for link in LINKS.iterdir() if link.name != "__pycache__"}
    assert all(link.is_symlink() and not link.readlink().is_absolute() for link in found.values())
    assert {name: link.resolve() for name, link in found.items()} == {n: p.resolve() for n, p in expected.items()}


def test_an_editable_install_runs_the_files_of_the_checkout() -> None:
    sources = [d.read_text("direct_url.json") for d in importlib.metadata.distributions(name="dotsctl")]
    if not any(source and json.loads(source).get("dir_info", {}).get("editable") for source in sources):
        pytest.skip("dotsctl is not installed in editable mode")
    assert Path(dotsctl.protocol.__file__) == ROOT / "protocol" / "__init__.py"
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin) == folder_of(package) / "__init__.py"


def entry_points() -> list[str]:
    groups = [PROJECT["project"]["scripts"], *PROJECT["project"]["entry-points"].values()]
    return [target for group in groups for target in group.values()]


@pytest.mark.parametrize("target", entry_points())
def test_every_entry_point_names_something_that_is_there(target: str) -> None:
    module, _, name = target.partition(":")
    body = ast.parse(module_file(module).read_text(encoding="utf-8")).body
    assert name in {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that building leaves nothing in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in (*FOLDERS, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=NO_PART)
    for path in (path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")):
        shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    version = importlib.util.find_spec("setuptools") and importlib.metadata.version("setuptools")
    new_enough = version and int(version.split(".")[0]) >= 77  # else pip fetches the build system that is asked for
    pip([*(["--no-build-isolation"] if new_enough else []), "--wheel-dir", str(out), str(copied)], "wheel")
    (built,) = out.glob("*.whl")
    return built


def test_the_source_archive_has_tests_changelog_and_constraints(copied: Path, tmp_path: Path) -> None:
    program = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=copied, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "absent from the `packages` configuration" not in done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "CHANGELOG.md",
        "constraints.txt",
        "tests/conftest.py",
        "client/README.md",
        "client/sample_pages/letter.txt",
    } <= names
    assert {f"tools/dev/{path.name}" for path in (ROOT / "tools" / "dev").glob("*.py")} <= names
    assert not [name for name in names if "import_root" in name or name.endswith(".pyc")]


def test_the_metadata_of_the_wheel_are_complete_and_name_no_address(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        found = email.message_from_bytes(archive.read(name))
    assert (found["Author"], found["License-Expression"]) == ("dotsctl authors", "MIT")
    assert len(found.get_all("Classifier", [])) > 10 and "ocr" in found["Keywords"].split(",")
    assert not found.get_all("Project-URL"), "no published address is known"
    assert found["Requires-Python"] == "<3.15,>=3.11"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed."""
    target = tmp_path_factory.mktemp("installed")
    pip(["--no-index", "--target", str(target), str(wheel)], "install")
    return target


def pip(arguments: list[str], command: str) -> None:
    shared = ["-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, *shared, *arguments],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def run(arguments: list[str], installed: Path, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    expected = {
        f"{package.replace('.', '/')}/{path.name}" for package in PACKAGES for path in folder_of(package).glob("*.py")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.endswith(".py")} == expected
    assert {"dotsctl/py.typed", "dotsctl/protocol/SPEC.md", "dotsctl/client/demo_model/config.json"} <= names
    assert {"dotsctl/tools/doctor/page.png", "dotsctl/client/sample_pages/letter.png"} <= names
    assert all(name.startswith(("dotsctl/", "dotsctl-")) for name in names)


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A working directory with modules of the names that a checkout has, which fail when they are imported."""
    for name in (*FOLDERS, "codec"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('decoy imported')\n")
    (tmp_path / "dotsctl").mkdir()
    (tmp_path / "dotsctl" / "__init__.py").write_text("raise RuntimeError('decoy imported')\n")
    return tmp_path


def test_the_wheel_is_imported_and_not_what_lies_in_the_working_directory(installed: Path, decoys: Path) -> None:
    modules = [*PACKAGES, "dotsctl.protocol.codec", "dotsctl.encoder_worker.image"]
    program = f"import importlib\nfor m in {modules!r}: print(importlib.import_module(m).__file__)"
    found = [Path(line) for line in run(["-c", program], installed, decoys).splitlines()]
    assert len(found) == len(modules)
    assert all(path.is_relative_to(installed) for path in found)


def test_a_program_of_the_wheel_starts_among_decoys(installed: Path, decoys: Path) -> None:
    assert "--max-pixels" in run(["-m", "dotsctl", "embed", "--help"], installed, decoys)


def test_the_version_of_the_wheel_is_the_version_of_the_code(wheel: Path, installed: Path, decoys: Path) -> None:
    version = run(["-c", "import dotsctl; print(dotsctl.__version__)"], installed, decoys).strip()
    assert wheel.name == f"dotsctl-{version}-py3-none-any.whl"


EVERY_HELP = """
import click
from click.testing import CliRunner
from dotsctl.client.cli.main import cli

def walk(command, words):
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), [*words, name])

for words in walk(cli, []):
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0 and "(cannot be loaded)" not in result.output, (words, result.output)
    print(*words)
"""


def test_every_command_of_the_wheel_explains_itself(installed: Path, tmp_path: Path) -> None:
    found = set(run(["-c", EVERY_HELP], installed, tmp_path).splitlines())
    assert {"ocr", "ask", "up", "swap", "pull", "embed", "compare", "convert", "doctor", "version"} <= found
    assert {f"bench {name}" for name in ("energy", "pipeline", "transport")} <= found


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("embed", "page.png", "-o", "out", "--encoder", "fake"), 0, "1 page embedded"),
        (("compare", "page.png", "--encoder", "fake", "--encoder", "fake", "--decoder", "fake"), 0, "fake"),
        (("convert", "demo"), 2, "--encoder coreml"),
        (("doctor", "--encoder", "fake", "--decoder", "fake"), 0, " ok, "),
        (("doctor", "--coreml"), 3, "needs a Mac"),
        (("bench", "transport", "--rounds", "5", "--mib", "0.1"), 0, "ratio"),
        (("bench", "energy"), 3, "needs a Mac"),
        (("version",), 0, "protocol"),
    ],
)
def test_the_commands_of_the_wheel_run(
    words: tuple[str, ...], code: int, text: str, installed: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (112, 112), (200, 200, 200)).save(tmp_path / "page.png")
    environment = {**os.environ, "PYTHONPATH": str(installed), "DOTSCTL_MODELS": str(tmp_path / "models")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dotsctl", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert text in done.stdout + done.stderr
