"""Failures of compilers that standard error alone reports."""

import os
import subprocess
import sys

import pytest
from dotsctl.encoder_worker.coreml.compiler_messages import MAX_CHARACTERS, failures

LINE = "MILCompilerForANE error: failed to compile ANE model using ANEF. Error=_ANECompiler : ANECCompile() FAILED."
PROGRAM = """
import os
from dotsctl.encoder_worker.coreml.compiler_messages import compiler_failures
os.write(2, b"ANECCompile() FAILED before\\n")
with compiler_failures() as found:
    os.write(2, b"first\\n" + LINE + b"\\n" + LINE + b"\\n")
    try:
        with compiler_failures() as inner:
            raise RuntimeError
    except RuntimeError:
        pass
os.write(2, b"last\\n")
print(found, inner)
"""


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        "E5RT encountered an STL exception. msg = ANECCompile() FAILED",
        "error: failed to compile ANE model",
        "LLVM ERROR: MLIR pass manager failed",
    ],
)
def test_lines_of_compilers_that_failed_are_found(line: str) -> None:
    assert failures(f"loading\n  {line}\ndone\n{line}") == [line]


def test_other_lines_are_no_failures_and_long_ones_are_cut() -> None:
    assert failures("Context leak detected, CoreAnalytics returned false\nANE model loaded\n") == []
    (found,) = failures("x" * 1000 + LINE + "\n" + LINE + "y" * 1000)[1:]
    assert len(found) == MAX_CHARACTERS


@pytest.mark.parametrize("is_file", [False, True])
def test_what_the_framework_writes_to_the_descriptor_is_found_and_kept_whatever_it_is(is_file: bool) -> None:
    program = f"LINE = {LINE.encode()!r}\n{PROGRAM}"
    command = [sys.executable, "-P", "-c", program]
    if is_file:
        read = os.memfd_create("stderr") if hasattr(os, "memfd_create") else pytest.skip("no memfd")
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=read, timeout=30, check=True)
        os.lseek(read, 0, os.SEEK_SET)
        reported = os.read(read, 1 << 16)
        os.close(read)
    else:
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
        reported = done.stderr
    assert done.stdout.decode().strip() == f"{[LINE]} []"
    assert reported.splitlines() == [
        b"ANECCompile() FAILED before", b"first", LINE.encode(), LINE.encode(), b"last"
    ]  # fmt: skip
