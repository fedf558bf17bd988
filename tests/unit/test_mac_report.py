"""The report that a Mac sends back, with small commands in the place of the real sections."""

import json
import os
import pwd
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.tools.dev import mac_report
from dotsctl.tools.dev.mac_report import MacSection, cli, examine, pack, private_names, run, scrub, sections
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import wait_gone

PRIVATE = {"/Users/ada": "~", "ada": "USER", "adas-mac.local": "HOST", "adas-mac": "HOST"}


def python(name: str, program: str, timeout_s: float = 30.0) -> MacSection:
    return MacSection(name, (sys.executable, "-c", program), timeout_s)


def test_a_section_that_fails_is_a_line_of_the_report_and_the_next_one_runs(tmp_path: Path) -> None:
    report = examine([python("bad", "print('why'); raise SystemExit(3)"), python("good", "print('well')")], tmp_path)
    assert [(each.name, each.exit_code) for each in report.sections] == [("bad", 3), ("good", 0)]
    assert not report.is_good
    assert (tmp_path / "bad.log").read_text() == "why\n"
    written = json.loads((tmp_path / "report.json").read_text())
    assert [each["exit_code"] for each in written["sections"]] == [3, 0]
    assert written["machine"]["physical_bytes"] > 0 and written["versions"]["python"]


def test_a_section_over_its_time_limit_is_ended_with_everything_that_it_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, threading\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "threading.Event().wait()\n"
    )
    outcome = run(python("endless", program, timeout_s=2.0), tmp_path)
    assert outcome.exit_code is None and 2.0 <= outcome.seconds < 20.0
    assert wait_gone(int((tmp_path / "endless.log").read_text()), 5.0)


def test_what_an_ended_section_left_running_is_ended(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']).pid)"
    )
    assert run(python("leaves", program), tmp_path).exit_code == 0
    assert wait_gone(int((tmp_path / "leaves.log").read_text()), 5.0)


def test_a_broken_off_run_leaves_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mac_report, "run", lambda section, folder: (_ for _ in ()).throw(KeyboardInterrupt))
    (tmp_path / "client" / "sample_pages").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["-o", "out.tar.gz"]).exit_code != 0
    assert tarfile.is_tarfile("out.tar.gz")


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ('File "/Users/ada/dotsctl/a.py"', 'File "~/dotsctl/a.py"'),
        ("/Users/adaline/x of ada@adas-mac.local", "~line/x of USER@HOST"),
        ("ada, adas-mac; adapter", "USER, HOST; adapter"),
        ("/tmp/pytest-of-ada/x ada_1", "/tmp/pytest-of-USER/x USER_1"),
    ],
)
def test_private_names_are_replaced_and_longer_words_stay(text: str, scrubbed: str) -> None:
    assert scrub(text, PRIVATE) == scrubbed


@given(st.lists(st.one_of(st.sampled_from(sorted(PRIVATE)), st.text(" /:.\n\"'", min_size=1, max_size=3)), max_size=20))
def test_no_private_name_that_stands_alone_is_left(parts: list[str]) -> None:
    found = scrub(" ".join(parts), PRIVATE)
    assert "/Users/ada" not in found
    assert not {"ada", "adas-mac", "adas-mac.local"} & set(found.split())


def test_the_packed_file_holds_scrubbed_texts_and_no_owner(tmp_path: Path) -> None:
    folder = tmp_path / "found"
    (folder / "verify").mkdir(parents=True)
    (folder / "a.log").write_bytes(b"/Users/ada/model \xff")
    (folder / "verify" / "metadata.json").write_text('{"user": "ada"}')
    (folder / "verify" / "plot.png").write_bytes(b"picture")
    pack(folder, tmp_path / "out.tar.gz", PRIVATE)
    with tarfile.open(tmp_path / "out.tar.gz") as packed:
        members = packed.getmembers()
        texts = {each.name: packed.extractfile(each).read() for each in members}  # type: ignore[union-attr]
    assert texts == {
        "dotsctl-mac/a.log": "~/model \ufffd".encode(),
        "dotsctl-mac/verify/metadata.json": b'{"user": "USER"}',
    }
    assert {(each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, 0, "", "")}


def test_home_user_and_host_are_private_also_where_home_is_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    ada = pwd.struct_passwd(("ada", "x", 501, 20, "Ada Lovelace,,,", "/Users/ada", "/bin/zsh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: ada)
    monkeypatch.setenv("HOME", "/tmp/dotsctl.1/home")
    names = private_names()
    assert names["/Users/ada"] == names["/tmp/dotsctl.1/home"] == "~"
    assert names["ada"] == names["Ada Lovelace"] == "USER"
    assert "HOST" in names.values() and os.path.realpath("/tmp") in names


def test_a_mac_without_a_neural_engine_uses_core_ml_on_the_cpu_only(tmp_path: Path) -> None:
    commands = {each.name: " ".join(each.command) for each in sections(("cpu_only",), tmp_path)}
    assert "--units cpu_only" in commands["verify_int4"]
    assert "compute_units=cpu_only" in commands["coreml_pages_cpu_only"]
    assert not [name for name, command in commands.items() if "cpu_and_ne" in command]
    assert commands["doctor_coreml"].endswith("--only trial --only verification")
    assert "doctor_coreml" not in {each.name for each in sections(("reference",), tmp_path)}


def test_outside_a_checkout_and_for_an_unknown_section_the_error_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no section nothing" in str(CliRunner().invoke(cli, ["--skip", "nothing"]).exception)
    monkeypatch.chdir(tmp_path)
    assert "checkout of dotsctl" in str(CliRunner().invoke(cli, []).exception)
