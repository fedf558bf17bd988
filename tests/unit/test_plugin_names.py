"""No module outside the plugins knows a plugin by its name: a search of the syntax trees."""

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("client", "decoder_worker", "encoder_worker", "protocol", "tools")
MAY_NAME = {
    "encoder_worker/plugins/*": "the plugins themselves, and their names for tools that are about one of them",
    "decoder_worker/plugins/*": "the plugins themselves",
    "protocol/render/plugins/*": "the plugins themselves",
    "client/settings/defaults.py": "the plugins that are used where the user has chosen none",
    "protocol/machine/libraries.py": "names of distributions, which are those of plugins by chance",
    "tools/dev/mlx_vlm_builds/peer.py": "the name of a distribution, in an environment without dotsctl",
    "protocol/machine/verdicts.py": "name of a folder of Core ML packages on the disk",
}


def names() -> set[str]:
    """The plugins of the entry points."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        groups = tomllib.load(stream)["project"]["entry-points"]
    return {name for group in ("dotsctl.encoders", "dotsctl.decoders", "dotsctl.hints") for name in groups[group]}


def literals(source: str, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and value of each string that is the name of a plugin."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in known:
            yield node.lineno, node.value


def sources() -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if (ROOT / "tools" / "import_root") not in path.parents:
                yield path.relative_to(ROOT).as_posix()


def test_no_string_is_the_name_of_a_plugin_outside_the_plugins_and_the_defaults() -> None:
    found = [
        f"{path}:{line}: {value!r}"
        for path in sources()
        if not any(fnmatch(path, pattern) for pattern in MAY_NAME)
        for line, value in literals((ROOT / path).read_text("utf-8"), names())
    ]
    assert found == []


@pytest.mark.parametrize("pattern", MAY_NAME)
def test_each_exception_is_in_use(pattern: str) -> None:
    paths = [path for path in sources() if fnmatch(path, pattern)]
    assert any(list(literals((ROOT / path).read_text("utf-8"), names())) for path in paths) or "plugins/" in pattern


@pytest.mark.parametrize(
    "line", ['if name == "fake": pass', 'x = {"mlx": 1}', 'f(name="coreml")', 'match x:\n case "mlx": 1']
)
def test_a_name_is_found_wherever_it_stands(line: str) -> None:
    assert names() >= {"mlx", "coreml", "fake", "textlayer"}
    assert len(list(literals(line, names()))) == 1
    assert not list(literals('"""mlx and coreml"""\nx = "mlx-lm"', names()))
