import ast
import json
import subprocess
import sys
from pathlib import Path

import dotsctl
import pytest


def loaded_after(code: str) -> set[str]:
    """Modules of a fresh interpreter after ``code``."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_importing_dotsctl_loads_nothing_else() -> None:
    loaded = loaded_after("import dotsctl")
    assert {name for name in loaded if name.startswith("dotsctl.")} == set()
    assert not loaded & {"numpy", "zmq", "PIL", "click", "mlx"}


def test_the_error_classes_come_without_the_client() -> None:
    assert "dotsctl.client" not in loaded_after("from dotsctl import PageError, ExitCode")


@pytest.mark.parametrize("name", dotsctl.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(dotsctl, name) is not None
    assert name in dir(dotsctl)


def test_names_for_type_checkers_are_those_at_run_time() -> None:
    tree = ast.parse(Path(dotsctl.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    checked = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert checked == set(dotsctl.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clientt'"):
        dotsctl.Clientt  # noqa: B018 - the access is what is tested


def test_the_public_classes_are_those_of_their_modules() -> None:
    from dotsctl.client.results.page import Page
    from dotsctl.protocol.errors import DotsctlError, PageError

    assert dotsctl.Page is Page
    assert dotsctl.PageError is PageError
    assert issubclass(dotsctl.PageError, DotsctlError)
