"""Pulling a model from a Hub that runs in this process, also over a network that breaks."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.client.files.partial_folder import PartialFolder
from dotsctl.client.models import download
from dotsctl.client.models.fitness import FIRST_BYTES
from dotsctl.client.models.record import read_record
from dotsctl.protocol.model.directory import installed_models

from tests.fake_hub import COMMIT, REPO, FakeHub
from tests.pulling import HEADER, WEIGHTS, Listener, fetched, refused, run

CHILD_TIMEOUT_S = 30.0

# --- what is installed -----------------------------------------------------------------------------------------------


def test_a_pull_installs_what_dotsctl_needs_and_fetches_nothing_else(remote: FakeHub, pull_home: Path) -> None:
    listener = Listener()
    folder = run(listener)
    wanted = {name for name in remote.files if not name.endswith((".bin", ".py")) and "/" not in name}
    assert folder == pull_home / "dots.small"
    assert installed_models() == ["dots.small"]
    assert {path.name for path in folder.iterdir()} == {*wanted, ".dotsctl-pull.json"}
    assert all((folder / name).read_bytes() == remote.files[name] for name in wanted)
    assert {name for name, _ in remote.asked} == wanted
    assert [path.name for path in pull_home.iterdir()] == ["dots.small"]
    assert listener.present_bytes == listener.announced_bytes == sum(len(remote.files[name]) for name in wanted)
    assert listener.lines[:2] == [f"{REPO}@{COMMIT}", "9 files, 853 kB; licence: other (dots-terms)"]
    assert [line.split(" at least")[0] for line in listener.lines[2:]] == ["memory: 426 MiB"]


def test_the_record_reports_where_a_model_comes_from(remote: FakeHub) -> None:
    record = read_record(run(revision="v1"))
    assert record is not None
    assert (record.repo, record.commit, record.licence, record.prompts) == (REPO, COMMIT, "other (dots-terms)", "")
    assert record.digests[WEIGHTS].startswith("sha256:")
    assert record.digests["config.json"].startswith("git-sha1:")
    assert record.date.endswith("+00:00")


def test_a_question_is_sent_as_the_user_wrote_it_even_if_the_card_shows_a_prompt(remote: FakeHub) -> None:
    remote.files["README.md"] = b"```python\nprompt_general = 'Tell me.'\n```\n"
    assert json.loads((run() / "prompts.json").read_text())["ask"] is None


def test_prompts_come_from_the_model_card_unless_the_repository_has_them(remote: FakeHub) -> None:
    remote.files["README.md"] = b'```python\nprompt_ocr = """Copy it.\n"""\n```\n'
    folder = run()
    expected = {"layout": None, "text": "Copy it.\n", "layout-only": None, "ground": None}
    assert json.loads((folder / "prompts.json").read_text()) == expected
    assert (record := read_record(folder)) and record.prompts == "model card"
    remote.files["prompts.json"] = b'{"text": "Mine."}'
    folder = run(force=True)
    assert json.loads((folder / "prompts.json").read_text()) == {"text": "Mine."}
    assert (record := read_record(folder)) and record.prompts == "repository"


def test_the_same_commit_is_not_fetched_twice_and_another_needs_force(remote: FakeHub, pull_home: Path) -> None:
    folder = run()
    remote.asked.clear()
    listener = Listener()
    assert run(listener) == folder
    assert not remote.asked
    assert "already" in listener.lines[-1]
    old = (folder / ".dotsctl-pull.json").read_text().replace(COMMIT, "a" * 40)
    (folder / ".dotsctl-pull.json").write_text(old)
    assert "taken by somebody/Dots.Small@aaaaaaaaaaaa: --force" in refused()
    run(force=True)
    assert (record := read_record(folder)) and record.commit == COMMIT
    assert run(name="second") == pull_home / "second"


def test_force_replaces_a_link_and_leaves_its_target(remote: FakeHub, pull_home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    pull_home.mkdir()
    (pull_home / "dots.small").symlink_to(tmp_path / "mine")
    assert "which was not pulled" in refused()
    assert not run(force=True).is_symlink()
    assert (tmp_path / "mine" / "config.json").read_text() == "{}"


def test_a_model_that_cannot_be_put_in_place_leaves_the_old_one(
    remote: FakeHub, pull_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run()
    (folder / "mark").touch()
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise PermissionError(errno.EACCES, "not now", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    assert "not now" in refused(force=True)
    assert (folder / "mark").exists()
    monkeypatch.undo()


def test_a_model_that_a_crash_left_half_replaced_comes_back(pull_home: Path) -> None:
    (pull_home / ".one.replaced").mkdir(parents=True)
    (pull_home / ".one.replaced" / "config.json").write_text("{}")
    with PartialFolder(pull_home / "one"):
        assert installed_models() == ["one"]


# --- a network that breaks -------------------------------------------------------------------------------------------


def test_a_broken_connection_is_taken_up_where_it_broke(remote: FakeHub) -> None:
    remote.cuts[WEIGHTS] = [100_000, 200_000]
    folder = run()
    last = len(remote.files[WEIGHTS]) - 1
    starts = (FIRST_BYTES, 100_000, 200_000)
    assert fetched(remote, WEIGHTS) == [HEADER, *(f"bytes={start}-{last}" for start in starts)]
    assert (folder / WEIGHTS).read_bytes() == remote.files[WEIGHTS]


def test_the_digest_is_computed_while_the_weights_arrive(remote: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """So gigabytes are not read again when they are there, also after a broken connection."""
    remote.cuts[WEIGHTS] = [100_000]
    read: list[str] = []
    digest_of = download._digest_of
    monkeypatch.setattr(download, "_digest_of", lambda path, file: read.append(file.name) or digest_of(path, file))
    folder = run()
    assert (folder / WEIGHTS).read_bytes() == remote.files[WEIGHTS]
    assert "config.json" in read and WEIGHTS not in read


def test_a_connection_that_stays_broken_is_reported_and_the_next_pull_resumes(remote: FakeHub, pull_home: Path) -> None:
    remote.cuts[WEIGHTS] = [100_000] * (1 + download.MAX_BARREN_ATTEMPTS)
    message = refused()
    assert f"stopped at 100000 of {len(remote.files[WEIGHTS])} bytes" in message
    assert installed_models() == []
    remote.asked.clear()
    listener = Listener()
    run(listener)
    assert remote.asked == [(WEIGHTS, f"bytes=100000-{len(remote.files[WEIGHTS]) - 1}")]
    assert listener.present_bytes == listener.announced_bytes


def test_a_server_that_knows_no_ranges_begins_again(remote: FakeHub) -> None:
    remote.cuts[WEIGHTS], remote.knows_ranges = [100_000], False
    listener = Listener()
    folder = run(listener)
    assert (folder / WEIGHTS).read_bytes() == remote.files[WEIGHTS]
    assert listener.present_bytes == listener.announced_bytes


def test_an_interrupted_pull_leaves_nothing_under_the_name_and_resumes(remote: FakeHub, pull_home: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Listener(KeyboardInterrupt(), after_bytes=150_000))
    assert [path.name for path in pull_home.iterdir()] == [".dots.small.partial"]
    assert installed_models() == []
    remote.asked.clear()
    run()
    ((name, wanted),) = remote.asked
    assert name == WEIGHTS
    assert wanted and int(wanted.removeprefix("bytes=").partition("-")[0]) >= 100_000
    assert installed_models() == ["dots.small"]


def test_a_killed_process_leaves_nothing_under_the_name_and_the_next_resumes(remote: FakeHub, pull_home: Path) -> None:
    """In a process of its own, which takes address and token from the environment."""
    remote.stalls[WEIGHTS] = 200_000
    environment = {**os.environ, "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-P", "-m", "dotsctl", "pull", REPO]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        try:
            assert remote.stalled.wait(CHILD_TIMEOUT_S)
        finally:
            process.send_signal(signal.SIGKILL)
    assert installed_models() == []
    remote.stalls.clear()
    remote.release.set()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=CHILD_TIMEOUT_S)
    assert (done.returncode, done.stdout) == (0, "")
    assert "'dots.small' is installed: 854 kB, fingerprint " in done.stderr
    assert installed_models() == ["dots.small"]
    assert fetched(remote, "config.json") == [None]
    tokens = {path.split("/")[1]: token for path, token in remote.tokens}
    assert tokens == {"api": "Bearer hf_secret", "somebody": "Bearer hf_secret", "cdn": None}


def test_what_an_older_attempt_left_is_no_part_of_the_model(remote: FakeHub, pull_home: Path) -> None:
    partial = pull_home / ".dots.small.partial"
    (partial / "folder").mkdir(parents=True)
    for name in ("old.safetensors", f".{'0' * 64}.unfinished", "folder/file", "prompts.json"):
        (partial / name).write_text("{}")
    wanted = {name for name in remote.files if not name.endswith((".bin", ".py")) and "/" not in name}
    assert {path.name for path in run().iterdir()} == {*wanted, ".dotsctl-pull.json"}


def test_two_pulls_of_one_model_do_not_meet(remote: FakeHub, pull_home: Path) -> None:
    with PartialFolder(pull_home / "dots.small"):
        assert "another process is downloading the model 'dots.small'" in refused()
    run()


# --- the cache of other programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_in_the_cache_is_copied_if_it_is_complete(remote: FakeHub, tmp_path: Path, damaged: bool) -> None:
    content = remote.files[WEIGHTS]
    cached = tmp_path / "hf" / "hub" / "models--somebody--Dots.Small" / "snapshots" / COMMIT / WEIGHTS
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"?" * len(content) if damaged else content)
    assert (run() / WEIGHTS).read_bytes() == content
    assert len(fetched(remote, WEIGHTS)) == 2 * damaged
