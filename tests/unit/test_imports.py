"""Which module may import what, read from the source; each rule is also shown a violation."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("client", "decoder_worker", "encoder_worker", "protocol", "tools")
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if "import_root" not in path.parts
)
TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))
ONLY_IN = {
    "zmq": ["protocol/link.py", "tools/bench/transport.py"],
    "msgpack": ["protocol/codec.py"],
    "coremltools": [
        "encoder_worker/coreml/*.py",
        "tools/coreml/attention.py",
        "tools/coreml/package.py",
        "tools/coreml/stored_weights.py",
        "tools/coreml/tower.py",
    ],
    "mlx": [
        "encoder_worker/plugins/mlx.py",
        "encoder_worker/plugins/tower_runner.py",
        "encoder_worker/plugins/vision_*.py",
        "decoder_worker/plugins/mlx.py",
        "decoder_worker/adapter.py",
        "decoder_worker/model.py",
        "decoder_worker/splice.py",
        "decoder_worker/rows.py",
        "tools/*.py",
    ],
    "mlx_lm": ["decoder_worker/adapter.py", "decoder_worker/model.py", "tools/*.py"],
    "mlx_vlm": ["tools/verify/peer.py"],
    "click": ["client/cli*.py", "client/__main__.py", "*/main.py", "tools/*.py"],
    "torch": ["tools/*.py"],
    "matplotlib": ["tools/*.py"],
    "rapidfuzz": ["tools/*.py"],
    "pypdfium2": ["client/pdf.py", "tools/page_pdf.py", "tools/pages/pdf_sheet.py"],
    "pillow_heif": ["protocol/pixels.py"],
    "huggingface_hub": ["client/hub.py"],
    "httpx2": ["client/hub.py"],
}
"""Files that may import a library at all."""
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_NAMES = {"recv_pyobj", "send_pyobj"}


class Import(NamedTuple):
    """One imported module; ``names`` are what ``from`` takes out of it."""

    module: str
    names: tuple[str, ...]
    level: int


def imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), 0)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.level)


def own_modules(found: Import) -> Iterator[str]:
    """Modules of ours that an import may load, without the leading ``dotsctl.``; ``from dotsctl import x`` is one."""
    if found.module == "dotsctl" and found.names:
        yield from (name for name in found.names if name != "__version__")
    elif found.module.startswith("dotsctl."):
        module = found.module.removeprefix("dotsctl.")
        yield module
        yield from (f"{module}.{name}" for name in found.names)


def violations(path: str, source: str) -> list[str]:
    """What a file imports against the rules; ``path`` is relative to the checkout."""
    tree = ast.parse(source)
    folder = path.split("/")[0]
    allowed = {"client": {"client", "protocol"}, "tools": set(FOLDERS)}.get(folder, {folder, "protocol"})
    problems = [] if ast.get_docstring(tree) else ["no docstring"]
    for found in imports(tree):
        top = found.module.split(".")[0]
        if found.level:
            problems.append("relative import")
        if not found.level and top in (*FOLDERS, "tests"):
            problems.append(f"bare import of {top}")
        if top in FORBIDDEN:
            problems.append(f"import of {top}")
        if top in ONLY_IN and not any(fnmatch(path, pattern) for pattern in ONLY_IN[top]):
            problems.append(f"import of {top}")
        for module in own_modules(found):
            if module.split(".")[0] not in allowed:
                problems.append(f"import of dotsctl.{module}")
            of_runtime = f"{module}.".startswith("client.runtime.")
            if of_runtime and folder == "client" and not path.startswith("client/runtime/"):
                problems.append("import of dotsctl.client.runtime")
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return problems + sorted(f"use of {name}" for name in used & FORBIDDEN_NAMES)


@pytest.mark.parametrize("path", SOURCES)
def test_a_module_imports_only_what_it_may(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", TESTS)
def test_a_test_imports_by_full_name(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    bare = {found.module.split(".")[0] for found in imports(tree)} & {*FOLDERS, *FORBIDDEN}
    assert not bare


def test_all_folders_are_looked_at() -> None:
    assert {path.split("/")[0] for path in SOURCES} == set(FOLDERS)
    assert "client/runtime/core.py" in SOURCES
    assert "tests/unit/test_imports.py" in TESTS


@pytest.mark.parametrize(
    ("path", "line", "problem"),
    [
        ("protocol/x.py", "from dotsctl.client import config", "import of dotsctl.client"),
        ("protocol/x.py", "from dotsctl import client", "import of dotsctl.client"),
        ("protocol/x.py", "from dotsctl import Client", "import of dotsctl.Client"),
        ("client/x.py", "import dotsctl.encoder_worker.image", "import of dotsctl.encoder_worker.image"),
        ("client/x.py", "from dotsctl.tools import train", "import of dotsctl.tools"),
        (
            "encoder_worker/x.py",
            "def f():\n    import dotsctl.decoder_worker.plugin",
            "import of dotsctl.decoder_worker",
        ),
        ("client/x.py", "from dotsctl.client.runtime import core", "import of dotsctl.client.runtime"),
        ("client/x.py", "from dotsctl.client import runtime", "import of dotsctl.client.runtime"),
        ("client/x.py", "import protocol.codec", "bare import of protocol"),
        ("client/x.py", "from client import config", "bare import of client"),
        ("tools/x.py", "import tests.unit", "bare import of tests"),
        ("client/x.py", "from . import config", "relative import"),
        ("client/x.py", "import zmq", "import of zmq"),
        ("client/x.py", "from msgpack import packb", "import of msgpack"),
        ("decoder_worker/service.py", "import mlx.core as mx", "import of mlx"),
        ("encoder_worker/plugins/mlx.py", "import mlx_lm.models", "import of mlx_lm"),
        ("client/api.py", "import click", "import of click"),
        ("client/inputs.py", "import pypdfium2", "import of pypdfium2"),
        ("client/inputs.py", "import pillow_heif", "import of pillow_heif"),
        ("client/pull.py", "from huggingface_hub import HfApi", "import of huggingface_hub"),
        ("tools/x.py", "import coremltools", "import of coremltools"),
        ("encoder_worker/plugins/coreml.py", "import coremltools", "import of coremltools"),
        ("protocol/x.py", "import pickle", "import of pickle"),
        ("protocol/x.py", "def f(s):\n    return s.recv_pyobj()", "use of recv_pyobj"),
    ],
)
def test_a_violation_is_found(path: str, line: str, problem: str) -> None:
    assert any(found.startswith(problem) for found in violations(path, f'"""Doc."""\n{line}\n'))
    assert violations(path, f"{line}\n")[0] == "no docstring"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("encoder_worker/main.py", "from dotsctl import __version__"),
        ("encoder_worker/x.py", "from dotsctl.protocol.codec import encode"),
        ("client/runtime/x.py", "from dotsctl.client.runtime import core"),
        ("client/cli_ocr.py", "import click"),
        ("tools/x.py", "from dotsctl.encoder_worker.image import patchify"),
        ("protocol/link.py", "import zmq"),
    ],
)
def test_what_the_rules_allow_is_no_violation(path: str, line: str) -> None:
    assert violations(path, f'"""Doc."""\n{line}\n') == []


def test_client_and_protocol_need_only_the_base_dependencies_when_they_are_imported() -> None:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        lines = tomllib.load(stream)["project"]["dependencies"]
    distributions = {line.split(">")[0].split("=")[0].strip() for line in lines}
    base = {{"pyzmq": "zmq", "pillow": "PIL"}.get(name, name) for name in distributions}
    for path in (path for path in SOURCES if path.startswith(("client/", "protocol/"))):
        body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        at_import = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        tops = {found.module.split(".")[0] for found in imports(ast.Module(at_import, []))}
        assert tops <= base | set(sys.stdlib_module_names) | {"dotsctl"}, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("dotsctl", ["dotsctl.client", "dotsctl.protocol", "numpy", "zmq"]),
        ("dotsctl.client.cli", ["numpy", "zmq", "PIL", "mlx"]),
        ("dotsctl.client.api", ["pypdfium2", "pillow_heif"]),
        ("dotsctl.client.cli_pull", ["huggingface_hub", "httpx2", "rich"]),
        ("dotsctl.client.cli_models", ["huggingface_hub", "numpy", "zmq"]),
        ("dotsctl.client.runtime.main", ["numpy", "PIL", "mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.encoder_worker.main", ["mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.encoder_worker.plugins.coreml", ["mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.tools.coreml.build", ["mlx", "torch", "coremltools"]),
        ("dotsctl.decoder_worker.main", ["mlx", "mlx_lm", "coremltools"]),
    ],
)
def test_a_process_starts_without_what_it_does_not_need(module: str, absent: list[str]) -> None:
    program = f"import sys, {module}; print(*sorted(set({absent!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
