"""A runtime whose model is replaced on the disk while it runs."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from dotsctl.client.connection.status import query_status
from dotsctl.protocol.endpoints import instance_directory, lock_holder
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.model.directory import demo_directory

from tests.process.conftest import NAME, dotsctl
from tests.process.test_endings import finish, wait_for_line

pytestmark = [pytest.mark.model, pytest.mark.process]


def test_workers_that_come_back_with_another_model_end_the_runtime_with_both_fingerprints(
    run_folder: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(demo_directory(), model)
    up = dotsctl("up", "--name", NAME, "--model", str(model), "--encoder", "mlx")
    wait_for_line(up, "ready")
    status = query_status(NAME)
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4] ^= 1  # the last bits of one weight
    changed = weights.with_suffix(".new")
    changed.write_bytes(content)
    changed.replace(weights)
    for worker in status.workers:
        os.kill(worker.pid, signal.SIGKILL)
    code, _, err = finish(up, 60.0)
    assert code == 7 and ErrorCode.MODEL_MISMATCH in err, err
    assert f"the runtime began with model {status.fingerprint[:12]}" in err, err
    assert lock_holder(instance_directory(NAME)) is None
