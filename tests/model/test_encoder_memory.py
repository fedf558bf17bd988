"""The tool that measures the memory of the encoder."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.dev import encoder_memory
from dotsctl.tools.dev.encoder_memory import page_of, resident_peak_bytes

pytestmark = pytest.mark.model


@pytest.mark.parametrize(("patches", "shape"), [(4000, (1120, 700)), (16, (56, 56)), (480, (336, 280))])
def test_a_page_has_the_requested_number_of_patches_and_the_shape_of_paper(
    patches: int, shape: tuple[int, int]
) -> None:
    assert page_of(patches).shape == (*shape, 3)
    assert shape[0] * shape[1] == patches * 14 * 14


@pytest.mark.parametrize("patches", [17, 4 * 101])
def test_a_number_of_patches_that_no_page_has_is_refused(patches: int) -> None:
    with pytest.raises(UsageError, match="no page has"):
        page_of(patches)


def test_memory_above_the_weights_is_measured_and_held_against_the_limit(model: Path) -> None:
    arguments = ["--model", str(model), "--patches", "400", "--options", "query_chunk=64"]
    within = CliRunner().invoke(encoder_memory.cli, [*arguments, "--limit-mib", "50"])
    assert within.exit_code == 0, within.output
    assert "page of 20 x 20 patches" in within.output
    above = CliRunner().invoke(encoder_memory.cli, [*arguments, "--limit-mib", "1"])
    assert above.exit_code == 1, above.output


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(encoder_memory.cli, ["--model", str(tmp_path)])
    assert isinstance(result.exception, MissingError)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_grows_by_what_is_allocated() -> None:
    before = resident_peak_bytes(reset=True)
    held = bytearray(b"x" * (64 << 20))
    after = resident_peak_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 48 << 20
    del held
