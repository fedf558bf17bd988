"""What ``dotsctl convert --encoder coreml`` tells, and when it has nothing to do."""

import json
import re
from pathlib import Path

import pytest
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.coreml.command import parse_buckets, run
from dotsctl.tools.coreml.options import ConversionOptions

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model


def test_a_build_is_reported_and_made_again_only_when_something_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    options = ConversionOptions(buckets=(96,), chunks=2)

    def made(options: ConversionOptions, *, force: bool = False) -> bool:
        run("demo", options, force=force, as_json=False)
        told = capsys.readouterr()
        assert re.search(r"2\.7\d? MB for pages of 96 patches", told.out)
        assert "--encoder coreml:build=float16" in told.out
        return "exists already; --force makes it again" not in told.err

    assert made(options)
    assert not made(options)
    assert made(options, force=True)
    assert made(ConversionOptions(buckets=(96,), chunks=2, query_tile=40))
    (weights,) = tmp_path.rglob("tower-1.mlpackage/**/weight.bin")
    weights.write_bytes(b"")
    assert made(ConversionOptions(buckets=(96,), chunks=2, query_tile=40))
    run("demo", options, force=False, as_json=True)
    reported = json.loads(capsys.readouterr().out)
    assert reported["bytes"] == Build.read(Path(reported["folder"])).nbytes
    assert reported["query_tile"] == 512


def test_buckets_are_written_with_commas() -> None:
    assert parse_buckets(None) is None
    assert parse_buckets("96, 160") == (96, 160)
    with pytest.raises(UsageError, match="as in 960,2016"):
        parse_buckets("96;160")
