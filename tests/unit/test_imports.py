"""Which module may import what, read from the source; each rule is also shown a violation."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
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
    "msgpack": ["protocol/codec.py", "protocol/render/exchange.py"],
    "coremltools": [
        "encoder_worker/coreml/*.py",
        "tools/coreml/attention.py",
        "tools/coreml/package.py",
        "tools/coreml/stored_weights.py",
        "tools/coreml/tower.py",
    ],
    "mlx": [
        "encoder_worker/plugins/mlx.py",
        "encoder_worker/plugins/numpy_attention.py",
        "encoder_worker/plugins/tower_runner.py",
        "encoder_worker/plugins/vision_*.py",
        "decoder_worker/plugins/mlx.py",
        "decoder_worker/adapter.py",
        "decoder_worker/model.py",
        "decoder_worker/row_timing.py",
        "decoder_worker/splice.py",
        "tools/*.py",
    ],
    "mlx_lm": ["decoder_worker/adapter.py", "decoder_worker/model.py", "tools/*.py"],
    "mlx_vlm": ["tools/dev/verify/peer.py", "tools/dev/mlx_vlm_builds/peer.py", "tools/bench/peers/program.py"],
    "click": ["client/cli/*.py", "client/package/__main__.py", "*/main.py", "tools/*.py"],
    "torch": ["tools/*.py"],
    "matplotlib": ["tools/*.py"],
    "rapidfuzz": ["tools/*.py"],
    "pypdfium2": [
        "protocol/render/pdf.py",
        "protocol/render/plugins/textlayer.py",
        "tools/dev/drafts/hints.py",
        "tools/dev/page_pdf.py",
        "tools/dev/page_sets/pdf_sheet.py",
    ],
    "pillow_heif": ["protocol/model/pixels.py"],
    "pikepdf": ["client/formats/pdf_pages.py", "client/formats/pdf_pictures.py"],
    "huggingface_hub": ["client/models/hub.py"],
    "httpx2": ["client/models/hub.py"],
}
"""Files that may import a library at all."""
CLOSED = {"client.runtime": ["client/runtime/*"], "client.cli": ["client/cli/*", "client/package/__main__.py"]}
"""Sub-packages of the client and the files of it that may import them."""
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
            if f"{module}.".startswith("tools.dev.") and not path.startswith("tools/dev/"):
                problems.append("import of dotsctl.tools.dev")
            if module.split(".")[0] not in allowed:
                problems.append(f"import of dotsctl.{module}")
            room = ".".join(module.split(".")[:2])
            if room in CLOSED and folder == "client" and not any(fnmatch(path, pattern) for pattern in CLOSED[room]):
                problems.append(f"import of dotsctl.{room}")
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


def rooms(folder: str) -> dict[str, set[str]]:
    """The sub-packages and modules of a folder, each with those that it imports."""
    found: dict[str, set[str]] = {}
    for path in (path for path in SOURCES if path.startswith(f"{folder}/")):
        room = path.split("/")[1].removesuffix(".py")
        modules = {name for found in imports(ast.parse((ROOT / path).read_text())) for name in own_modules(found)}
        parts = [name.split(".") for name in modules if name.startswith(f"{folder}.")]
        found.setdefault(room, set()).update({words[1] for words in parts} - {room})
    return {room: imported & found.keys() for room, imported in found.items()}


@pytest.mark.parametrize(("folder", "floors"), [("client", 7), ("protocol", 8)])
def test_sub_packages_import_each_other_in_one_direction(folder: str, floors: int) -> None:
    drawing = TopologicalSorter(rooms(folder))
    drawing.prepare()  # raises CycleError
    count = 0
    while drawing.is_active():
        drawing.done(*drawing.get_ready())
        count += 1
    assert count <= floors


def test_the_client_has_few_sub_packages_and_the_wire_imports_none_of_the_protocol() -> None:
    def packages(folder: str) -> set[str]:
        return {path.split("/")[1] for path in SOURCES if path.startswith(f"{folder}/") and path.count("/") > 1}

    assert len(packages("client")) <= 12
    assert packages("protocol") == {"machine", "model", "render", "worker"}
    wire = {room: imported for room, imported in rooms("protocol").items() if room not in packages("protocol")}
    assert not [room for room, imported in wire.items() if imported & packages("protocol")]


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
        ("client/x.py", "from dotsctl.tools import embed", "import of dotsctl.tools"),
        ("tools/bench/x.py", "from dotsctl.tools.dev import chaos", "import of dotsctl.tools.dev"),
        (
            "encoder_worker/x.py",
            "def f():\n    import dotsctl.decoder_worker.plugin",
            "import of dotsctl.decoder_worker",
        ),
        ("client/x.py", "from dotsctl.client.runtime import core", "import of dotsctl.client.runtime"),
        ("client/x.py", "from dotsctl.client import runtime", "import of dotsctl.client.runtime"),
        ("client/models/x.py", "from dotsctl.client.cli import status", "import of dotsctl.client.cli"),
        ("client/x.py", "import protocol.codec", "bare import of protocol"),
        ("client/x.py", "from client import config", "bare import of client"),
        ("tools/x.py", "import tests.unit", "bare import of tests"),
        ("client/x.py", "from . import config", "relative import"),
        ("client/x.py", "import zmq", "import of zmq"),
        ("client/x.py", "from msgpack import packb", "import of msgpack"),
        ("decoder_worker/service.py", "import mlx.core as mx", "import of mlx"),
        ("encoder_worker/plugins/mlx.py", "import mlx_lm.models", "import of mlx_lm"),
        ("client/api.py", "import click", "import of click"),
        ("client/inputs/pages.py", "import pypdfium2", "import of pypdfium2"),
        ("client/inputs/pages.py", "import pillow_heif", "import of pillow_heif"),
        ("client/models/pull.py", "from huggingface_hub import HfApi", "import of huggingface_hub"),
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
        ("client/cli/ocr.py", "import click"),
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
        ("dotsctl.client.cli.main", ["numpy", "zmq", "PIL", "mlx"]),
        ("dotsctl.client.api", ["numpy", "PIL", "click", "asyncio", "platformdirs", "subprocess"]),
        ("dotsctl.client.connection.attach", ["numpy", "PIL", "click", "rich", "asyncio"]),
        ("dotsctl.client.jobs.calls", ["numpy", "PIL", "click", "rich", "asyncio"]),
        ("dotsctl.client.inputs.loading", ["pypdfium2", "pillow_heif"]),
        ("dotsctl.client.formats.hocr", ["numpy", "PIL", "pikepdf"]),
        ("dotsctl.client.formats.pdf_process", ["numpy", "PIL", "pikepdf"]),
        ("dotsctl.client.cli.pull", ["huggingface_hub", "httpx2", "rich"]),
        ("dotsctl.client.cli.models", ["huggingface_hub", "numpy", "zmq"]),
        ("dotsctl.client.runtime.main", ["numpy", "PIL", "mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.encoder_worker.main", ["mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.encoder_worker.plugins.coreml", ["mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.tools.coreml.build", ["mlx", "torch", "coremltools"]),
        ("dotsctl.decoder_worker.main", ["mlx", "mlx_lm", "coremltools"]),
        ("dotsctl.protocol.render.child", ["click", "rich", "zmq", "mlx", "PIL", "numpy", "pypdfium2", "pillow_heif"]),
        ("dotsctl.protocol.render.pdf", ["PIL", "numpy"]),
        ("dotsctl.protocol.render.pictures", ["numpy", "pypdfium2", "pillow_heif"]),
        ("dotsctl.client.inputs.loading", ["PIL", "numpy", "pypdfium2", "pillow_heif"]),
    ],
)
def test_a_process_starts_without_what_it_does_not_need(module: str, absent: list[str]) -> None:
    program = f"import sys, {module}; print(*sorted(set({absent!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def public_classes(paths: list[str]) -> Iterator[tuple[str, str]]:
    """Each public class of these files, and where it stands."""
    for path in paths:
        for node in ast.parse((ROOT / path).read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, f"{path}:{node.lineno}"


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for name, place in public_classes(SOURCES):
        places.setdefault(name, []).append(place)
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


READS_OPENLY = {
    "client/cli/added_commands.py",
    "client/cli/arguments.py",  # a prompt may come from a FIFO
    "client/cli/log_follow.py",
    "client/cli/status.py",
    "client/models/pull.py",
    "client/runtime/process_memory.py",
    "client/runtime/readiness_page.py",
    "client/runtime/process_state.py",
    "encoder_worker/plugins/exhaustion.py",
    "protocol/endpoints.py",
    "protocol/machine/memory.py",
    "protocol/model/pixels.py",
    "protocol/render/memory.py",
    "protocol/worker/fakes.py",
    "tools/bench/peers/mlx_vlm.py",  # pages that it wrote, and results
    "tools/bench/peers/program.py",
    "tools/coreml/package.py",
    "tools/coreml/plan_package.py",
    "tools/doctor_coreml/laboratory.py",
    "tools/plugins/check.py",
    "tools/plugins/scaffold.py",
}
"""Files that read what dotsctl wrote itself in a folder of its own, or what the system shows as a file."""


def _opens_any_file(tree: ast.AST) -> bool:
    """Whether a file is read without a look at what it is: a FIFO would hang, a device would never end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            mode = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if node.func.attr in ("read_bytes", "read_text") or (node.func.attr == "open" and mode in ("rb", "r")):
                return True
    return False


def test_files_of_others_are_opened_by_one_function_that_looks_at_what_they_are() -> None:
    product = [each for each in SOURCES if not each.startswith(("tools/pages/", "tools/dev/"))]
    found = {each for each in product if _opens_any_file(ast.parse((ROOT / each).read_text()))}
    assert found == READS_OPENLY
    assert _opens_any_file(ast.parse("Path('a').read_bytes()"))
    assert _opens_any_file(ast.parse("path.open('rb')"))
    assert not _opens_any_file(ast.parse("open_regular(path)"))
