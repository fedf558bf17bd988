"""Pulling a model from a Hub that runs in this process."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from dotsctl.client import download, pull
from dotsctl.client.hub import Hub
from dotsctl.client.model_record import read_record
from dotsctl.client.partial_folder import PartialFolder
from dotsctl.client.pull import PullOrder, target_folder
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.model_directory import installed_models, models_directory
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fake_hub import COMMIT, REPO, FakeHub, serving, snapshot_files

CHILD_TIMEOUT_S = 30.0
WEIGHTS = "model.safetensors"


class Listener:
    """Remembers what it hears; raises ``fault`` when ``after_bytes`` are there."""

    def __init__(self, fault: BaseException | None = None, after_bytes: int = 0) -> None:
        self.lines: list[str] = []
        self.announced_bytes = self.present_bytes = 0
        self._fault, self._after_bytes = fault, after_bytes

    def line(self, text: str) -> None:
        self.lines.append(text)

    def begin(self, size_bytes: int) -> None:
        self.announced_bytes = size_bytes

    def advance(self, size_bytes: int) -> None:
        self.present_bytes += size_bytes
        if self._fault and self.present_bytes >= self._after_bytes:
            raise self._fault


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and nothing of the user's settings."""
    for name in [
        name for name in os.environ if name.startswith(("HF_", "DOTSCTL_")) or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)
    for name, folder in (
        ("DOTSCTL_MODELS", "models"),
        ("HF_HOME", "hf"),
        ("HOME", "home"),
        ("XDG_CACHE_HOME", "cache"),
    ):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.0)
    return tmp_path / "models"


@pytest.fixture
def remote(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one good repository."""
    with serving(FakeHub(snapshot_files())) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


def run(listener: Listener | None = None, **order: object) -> Path:
    return pull.pull(PullOrder(**{"repo": REPO, **order}), Hub(), listener or Listener())  # type: ignore[arg-type]


def refused(**order: object) -> str:
    with pytest.raises(CommandFailedError) as caught:
        run(**order)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fetched(remote: FakeHub, name: str) -> list[str | None]:
    return [wanted for asked, wanted in remote.asked if asked == name]


# --- what is installed -----------------------------------------------------------------------------------------------


def test_a_pull_installs_what_dotsctl_needs_and_fetches_nothing_else(remote: FakeHub, models: Path) -> None:
    listener = Listener()
    folder = run(listener)
    wanted = {name for name in remote.files if not name.endswith((".bin", ".py")) and "/" not in name}
    assert folder == models / "dots.small"
    assert installed_models() == ["dots.small"]
    assert {path.name for path in folder.iterdir()} == {*wanted, ".dotsctl-pull.json"}
    assert all((folder / name).read_bytes() == remote.files[name] for name in wanted)
    assert {name for name, _ in remote.asked} == wanted
    assert [path.name for path in models.iterdir()] == ["dots.small"]
    assert listener.present_bytes == listener.announced_bytes == sum(len(remote.files[name]) for name in wanted)
    assert listener.lines == [f"{REPO}@{COMMIT}", "6 files, 320 kB; licence: other (dots-terms)"]


def test_the_record_tells_where_a_model_comes_from(remote: FakeHub) -> None:
    record = read_record(run(revision="v1"))
    assert record is not None
    assert (record.repo, record.commit, record.licence, record.prompts) == (REPO, COMMIT, "other (dots-terms)", "")
    assert record.digests[WEIGHTS].startswith("sha256:")
    assert record.digests["config.json"].startswith("git-sha1:")
    assert record.date.endswith("+00:00")


def test_prompts_come_from_the_model_card_unless_the_repository_has_them(remote: FakeHub) -> None:
    remote.files["README.md"] = b'```python\nprompt_ocr = """Copy it.\n"""\n```\n'
    folder = run()
    assert json.loads((folder / "prompts.json").read_text()) == {"text": "Copy it.\n"}
    assert (record := read_record(folder)) and record.prompts == "model card"
    remote.files["prompts.json"] = b'{"text": "Mine."}'
    folder = run(force=True)
    assert json.loads((folder / "prompts.json").read_text()) == {"text": "Mine."}
    assert (record := read_record(folder)) and record.prompts == "repository"


def test_the_same_commit_is_not_fetched_twice_and_another_needs_force(remote: FakeHub, models: Path) -> None:
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
    assert run(name="second") == models / "second"


def test_force_replaces_a_link_and_leaves_its_target(remote: FakeHub, models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    models.mkdir()
    (models / "dots.small").symlink_to(tmp_path / "mine")
    assert "which was not pulled" in refused()
    assert not run(force=True).is_symlink()
    assert (tmp_path / "mine" / "config.json").read_text() == "{}"


def test_a_model_that_cannot_be_put_in_place_leaves_the_old_one(
    remote: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_model_that_a_crash_left_half_replaced_comes_back(models: Path) -> None:
    (models / ".one.replaced").mkdir(parents=True)
    (models / ".one.replaced" / "config.json").write_text("{}")
    with PartialFolder(models / "one"):
        assert installed_models() == ["one"]


# --- a network that breaks -------------------------------------------------------------------------------------------


def test_a_broken_connection_is_taken_up_where_it_broke(remote: FakeHub) -> None:
    remote.cuts[WEIGHTS] = [100_000, 200_000]
    folder = run()
    assert fetched(remote, WEIGHTS) == [None, "bytes=100000-", "bytes=200000-"]
    assert (folder / WEIGHTS).read_bytes() == remote.files[WEIGHTS]


def test_a_connection_that_stays_broken_is_told_and_the_next_pull_goes_on(remote: FakeHub, models: Path) -> None:
    remote.cuts[WEIGHTS] = [100_000] * (1 + download.MAX_BARREN_ATTEMPTS)
    message = refused()
    assert f"stopped at 100000 of {len(remote.files[WEIGHTS])} bytes" in message
    assert installed_models() == []
    remote.asked.clear()
    listener = Listener()
    run(listener)
    assert remote.asked == [(WEIGHTS, "bytes=100000-")]
    assert listener.present_bytes == listener.announced_bytes


def test_a_server_that_knows_no_ranges_begins_again(remote: FakeHub) -> None:
    remote.cuts[WEIGHTS], remote.knows_ranges = [100_000], False
    listener = Listener()
    folder = run(listener)
    assert (folder / WEIGHTS).read_bytes() == remote.files[WEIGHTS]
    assert listener.present_bytes == listener.announced_bytes


def test_an_interrupted_pull_leaves_nothing_under_the_name_and_goes_on(remote: FakeHub, models: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Listener(KeyboardInterrupt(), after_bytes=150_000))
    assert [path.name for path in models.iterdir()] == [".dots.small.partial"]
    assert installed_models() == []
    remote.asked.clear()
    run()
    ((name, wanted),) = remote.asked
    assert name == WEIGHTS
    assert wanted and int(wanted[6:-1]) >= 100_000
    assert installed_models() == ["dots.small"]


def test_a_killed_process_leaves_nothing_under_the_name_and_the_next_goes_on(remote: FakeHub, models: Path) -> None:
    """In a process of its own, which takes address and token from the environment."""
    remote.stalls[WEIGHTS] = 200_000
    environment = {**os.environ, "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-P", "-m", "dotsctl.client", "pull", REPO]
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
    assert "'dots.small' is installed: 321 kB, fingerprint " in done.stderr
    assert installed_models() == ["dots.small"]
    assert fetched(remote, "config.json") == [None]
    tokens = {path.split("/")[1]: token for path, token in remote.tokens}
    assert tokens == {"api": "Bearer hf_secret", "somebody": "Bearer hf_secret", "cdn": None}


def test_two_pulls_of_one_model_do_not_meet(remote: FakeHub, models: Path) -> None:
    with PartialFolder(models / "dots.small"):
        assert "another process downloads the model 'dots.small'" in refused()
    run()


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_file_with_another_digest_is_thrown_away_and_the_rest_kept(remote: FakeHub) -> None:
    remote.wrong = {WEIGHTS}
    assert "model.safetensors of somebody/Dots.Small arrived with the digest sha256:" in refused()
    assert installed_models() == []
    remote.wrong, remote.asked = set(), []
    run()
    assert remote.asked == [(WEIGHTS, None)]


def test_a_small_file_with_another_digest_is_refused_too(remote: FakeHub) -> None:
    remote.wrong = {"tokenizer.json"}
    assert "git-sha1:" in refused()
    assert not fetched(remote, WEIGHTS)


def test_what_changed_in_the_partial_folder_is_fetched_again(remote: FakeHub, models: Path) -> None:
    remote.wrong = {WEIGHTS}
    refused()
    (models / ".dots.small.partial" / "tokenizer.json").write_text("[]")
    remote.wrong, remote.asked = set(), []
    listener = Listener()
    assert (run(listener) / "tokenizer.json").read_bytes() == remote.files["tokenizer.json"]
    assert {name for name, _ in remote.asked} == {WEIGHTS, "tokenizer.json"}
    assert listener.present_bytes == listener.announced_bytes


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "has no repository somebody/Dots.Small, or it is private"),
        (401, {}, "(HTTP 401): check the token's permissions, or set HF_TOKEN, or run 'hf auth login'"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "(HTTP 401): check the token"),
        (403, {"X-Error-Code": "GatedRepo"}, "somebody/Dots.Small is gated: accept its terms at http://127.0.0.1:"),
        (403, {}, "refuses access to somebody/Dots.Small (HTTP 403)"),
        (404, {}, "does not find somebody/Dots.Small (HTTP 404)"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "has no revision"),
        (429, {}, "(HTTP 429): wait"),
        (503, {}, "answers HTTP 503 for somebody/Dots.Small: pull again later"),
        (200, {}, "did not answer as the Hugging Face Hub does"),
    ],
)
def test_a_refusal_of_the_hub_is_one_line_with_a_remedy(
    remote: FakeHub, models: Path, status: int, headers: dict[str, str], told: str
) -> None:
    remote.refusal, remote.body = (status, headers), b"<html>login</html>"
    assert told in refused()
    assert not models.exists()


def test_a_revision_that_is_not_there_is_named(remote: FakeHub) -> None:
    assert "has no revision 'v2': check --revision" in refused(revision="v2")


def test_a_refusal_in_the_middle_is_told_as_well(remote: FakeHub) -> None:
    class Gate(Listener):
        def begin(self, size_bytes: int) -> None:
            remote.refusal = (403, {"X-Error-Code": "GatedRepo"})

    assert "is gated" in refused_by(Gate())


def refused_by(listener: Listener) -> str:
    with pytest.raises(CommandFailedError) as caught:
        run(listener)
    return str(caught.value)


def test_without_a_network_the_address_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
    assert f"{nobody} cannot be reached (ConnectError" in refused()


def test_a_server_that_says_nothing_is_given_up(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "ReadTimeout" in refused()
    huggingface_hub.close_session()


def test_offline_means_offline(remote: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids downloads" in refused()
    assert not remote.tokens


def test_a_disk_that_is_too_small_is_refused_with_both_numbers(
    remote: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**12, 10**12 - 512_300_000, 512_300_000)  # type: ignore[attr-defined]
    monkeypatch.setattr("dotsctl.client.pull.shutil.disk_usage", lambda _: usage)
    remote.files[WEIGHTS] += bytes(800_000)
    message = refused()
    assert "has 512 MB free, 513 MB are needed (512 MB of them to spare)" in message
    assert "DOTSCTL_MODELS" in message
    assert not remote.asked


def test_a_disk_that_fills_up_keeps_what_is_there(remote: FakeHub, models: Path) -> None:
    assert "is full: make room and pull again" in refused_by(Listener(OSError(errno.ENOSPC, "full"), 100_000))
    assert [path.name for path in models.iterdir()] == [".dots.small.partial"]


def test_a_models_folder_that_cannot_be_written_is_named(remote: FakeHub, models: Path) -> None:
    models.write_text("a file")
    message = refused()
    assert str(models) in message
    assert "DOTSCTL_MODELS" in message


def test_weights_that_can_run_code_are_refused_before_anything_is_fetched(remote: FakeHub) -> None:
    del remote.files[WEIGHTS]
    assert "has its weights only as pytorch_model.bin: dotsctl reads .safetensors" in refused()
    del remote.files["pytorch_model.bin"]
    assert "has no .safetensors file" in refused()
    assert not remote.asked


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_repository_without_a_needed_file_is_no_model(remote: FakeHub, name: str) -> None:
    del remote.files[name]
    assert f"has no {name}" in refused()
    assert not remote.asked


@pytest.mark.parametrize(("config", "told"), [(b'{"model_type": "qwen2"}', "of the type 'qwen2'"), (b"[1]", "list")])
def test_another_type_of_model_is_refused_before_the_weights(remote: FakeHub, config: bytes, told: str) -> None:
    remote.files["config.json"] = config
    assert told in refused()
    assert remote.asked == [("config.json", None)]


def test_a_shard_that_the_index_names_and_nobody_has_is_refused(remote: FakeHub) -> None:
    index = {"weight_map": {"vision_tower.a": WEIGHTS, "lm_head.weight": "model-2.safetensors"}}
    remote.files["model.safetensors.index.json"] = json.dumps(index).encode()
    assert "model-2.safetensors" in refused()
    assert installed_models() == []


@pytest.mark.parametrize("repo", ["dots.ocr", "a/b/c", "https://huggingface.co/a/b", "a/..b c", ""])
def test_a_repository_has_an_owner_and_a_name(repo: str) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        target_folder(PullOrder(repo))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "Big", "a" * 65, "demo"])
def test_a_name_that_would_be_no_folder_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        target_folder(PullOrder(REPO, name=name))


@settings(max_examples=40)
@given(st.tuples(*[st.text("aB3._-é/ ", min_size=1, max_size=70)] * 2).map("/".join))
def test_the_name_of_a_repository_gives_a_visible_folder_or_is_refused(repo: str) -> None:
    try:
        folder = target_folder(PullOrder(repo))
    except UsageError:
        return
    assert folder.parent == models_directory()
    assert folder.name[0] != "."
    assert "/" not in folder.name


def test_without_the_library_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingError, match=r"pip install 'dotsctl\[all\]'"):
        Hub()


# --- the cache of other programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_in_the_cache_is_copied_if_it_is_whole(remote: FakeHub, tmp_path: Path, damaged: bool) -> None:
    content = remote.files[WEIGHTS]
    cached = tmp_path / "hf" / "hub" / "models--somebody--Dots.Small" / "snapshots" / COMMIT / WEIGHTS
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"?" * len(content) if damaged else content)
    assert (run() / WEIGHTS).read_bytes() == content
    assert len(fetched(remote, WEIGHTS)) == damaged


def test_a_file_that_is_longer_than_announced_does_not_fill_the_disk(
    remote: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = FakeHub.repository

    def understate(hub: FakeHub) -> dict[str, object]:
        answer = honest(hub)
        for sibling in answer["siblings"]:
            sibling["size"] = min(sibling["size"], 1000)
        return answer

    monkeypatch.setattr(FakeHub, "repository", understate)
    listener = Listener()
    assert "arrived with the digest" in refused_by(listener)
    assert listener.present_bytes < len(remote.files[WEIGHTS])
