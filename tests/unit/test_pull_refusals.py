"""What a pull refuses, before or after it has fetched something."""

import errno
import json
import shutil
import socket
import sys
from pathlib import Path

import huggingface_hub
import pytest
from dotsctl.client.models.fitness import FIRST_BYTES, NEEDED
from dotsctl.client.models.hub import Hub
from dotsctl.client.models.pull import SPARE_BYTES, PullRequest, target_folder
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.model.directory import installed_models, models_directory
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fake_hub import REPO, FakeHub
from tests.pulling import HEADER, WEIGHTS, Listener, fetched, refused, run


def test_a_file_with_another_digest_is_thrown_away_and_the_rest_kept(remote: FakeHub) -> None:
    remote.wrong = {WEIGHTS}
    assert "model.safetensors of somebody/Dots.Small arrived with the digest sha256:" in refused()
    assert installed_models() == []
    remote.wrong, remote.asked = set(), []
    run()
    assert remote.asked == [(WEIGHTS, HEADER), (WEIGHTS, f"bytes={FIRST_BYTES}-{len(remote.files[WEIGHTS]) - 1}")]


def test_a_small_file_with_another_digest_is_refused_too(remote: FakeHub) -> None:
    remote.wrong = {"tokenizer.json"}
    assert "git-sha1:" in refused()
    assert fetched(remote, WEIGHTS) == [HEADER]


def test_what_changed_in_the_partial_folder_is_fetched_again(remote: FakeHub, pull_home: Path) -> None:
    remote.wrong = {WEIGHTS}
    refused()
    (pull_home / ".dots.small.partial" / "tokenizer.json").write_text("[]")
    remote.wrong, remote.asked = set(), []
    listener = Listener()
    assert (run(listener) / "tokenizer.json").read_bytes() == remote.files["tokenizer.json"]
    assert {name for name, _ in remote.asked} == {WEIGHTS, "tokenizer.json"}
    assert listener.present_bytes == listener.announced_bytes


@pytest.mark.parametrize(
    ("status", "headers", "problem"),
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
    remote: FakeHub, pull_home: Path, status: int, headers: dict[str, str], problem: str
) -> None:
    remote.refusal, remote.body = (status, headers), b"<html>login</html>"
    assert problem in refused()
    assert not pull_home.exists()


def test_a_revision_that_is_not_there_is_named(remote: FakeHub) -> None:
    assert "has no revision 'v2': check --revision" in refused(revision="v2")


def test_a_refusal_in_the_middle_is_reported_as_well(remote: FakeHub) -> None:
    class Gate(Listener):
        def begin(self, size_bytes: int) -> None:
            remote.refusal = (403, {"X-Error-Code": "GatedRepo"})

    assert "is gated" in refused(Gate())


def test_without_a_network_the_address_is_named(pull_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
    assert f"{nobody} cannot be reached (ConnectError" in refused()


def test_a_server_that_sends_nothing_is_given_up(pull_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr("dotsctl.client.models.pull.shutil.disk_usage", lambda _: usage)
    remote.files[WEIGHTS] += bytes(800_000)
    message = refused()
    assert "has 512 MB free, 514 MB are needed (512 MB of them in reserve)" in message
    assert "DOTSCTL_MODELS" in message
    assert not remote.asked


def test_what_is_there_already_needs_no_room(remote: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.wrong = {WEIGHTS}
    refused()
    remote.wrong = set()
    room_bytes = SPARE_BYTES + len(remote.files[WEIGHTS])
    usage = shutil._ntuple_diskusage(10**12, 10**12 - room_bytes, room_bytes)  # type: ignore[attr-defined]
    monkeypatch.setattr("dotsctl.client.models.pull.shutil.disk_usage", lambda _: usage)
    run()


def test_a_disk_that_fills_up_keeps_what_is_there(remote: FakeHub, pull_home: Path) -> None:
    assert "is full: free some space and pull again" in refused(Listener(OSError(errno.ENOSPC, "full"), 100_000))
    assert [path.name for path in pull_home.iterdir()] == [".dots.small.partial"]


def test_a_models_folder_that_cannot_be_written_is_named(remote: FakeHub, pull_home: Path) -> None:
    pull_home.write_text("a file")
    message = refused()
    assert str(pull_home) in message
    assert "DOTSCTL_MODELS" in message


def test_weights_that_can_run_code_are_refused_before_anything_is_fetched(remote: FakeHub) -> None:
    del remote.files[WEIGHTS]
    assert "has its weights only as pytorch_model.bin: dotsctl reads .safetensors" in refused()
    del remote.files["pytorch_model.bin"]
    assert "has no .safetensors file" in refused()
    assert not remote.asked


@pytest.mark.parametrize("name", NEEDED)
def test_a_repository_without_a_needed_file_is_no_model(remote: FakeHub, name: str) -> None:
    del remote.files[name]
    assert f"has no {name}" in refused()
    assert not remote.asked


@pytest.mark.parametrize(("config", "problem"), [(b'{"model_type": "qwen2"}', "of the type 'qwen2'"), (b"[1]", "list")])
def test_another_type_of_model_is_refused_before_the_weights(remote: FakeHub, config: bytes, problem: str) -> None:
    remote.files["config.json"] = config
    assert problem in refused()
    assert remote.asked == [("config.json", None)]


def test_a_shard_that_the_index_names_and_nobody_has_is_refused(remote: FakeHub) -> None:
    index = {"weight_map": {"vision_tower.a": WEIGHTS, "lm_head.weight": "model-2.safetensors"}}
    remote.files["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(CommandFailedError, match=r"not a model that dotsctl can use: (.|\n)*model-2\.safetensors"):
        run()
    assert installed_models() == []


@pytest.mark.parametrize("repo", ["dots.ocr-3bit", "a/b/c", "https://huggingface.co/a/b", "a/..b c", ""])
def test_a_repository_has_an_owner_and_a_name_or_is_a_short_name(repo: str) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        target_folder(PullRequest(repo))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "Big", "a" * 65, "demo"])
def test_a_name_that_would_be_no_folder_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        target_folder(PullRequest(REPO, name=name))


@settings(max_examples=40)
@given(st.tuples(*[st.text("aB3._-é/ ", min_size=1, max_size=70)] * 2).map("/".join))
def test_the_name_of_a_repository_gives_a_visible_folder_or_is_refused(repo: str) -> None:
    try:
        folder = target_folder(PullRequest(repo))
    except UsageError:
        return
    assert folder.parent == models_directory()
    assert folder.name[0] != "."
    assert "/" not in folder.name


def test_without_the_library_the_line_that_installs_it_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingError, match=r"pip install --force-reinstall dotsctl"):
        Hub()


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
    assert "arrived with the digest" in refused(listener)
    assert listener.present_bytes < len(remote.files[WEIGHTS])


@pytest.mark.parametrize(
    "altered",
    [
        {"lfs": {"size": 9, "sha256": "../../../pwned", "pointerSize": 134}},
        {"lfs": {"size": 9, "sha256": "A" * 64, "pointerSize": 134}},
        {"size": -1},
        {"sha": "../../main"},
        {"rfilename": "weights\x1b]0;title\x07.safetensors"},
        {"rfilename": "w" * 250 + ".safetensors"},
    ],
)
def test_names_and_digests_of_the_hub_that_have_another_form_are_refused(
    remote: FakeHub, pull_home: Path, altered: dict[str, object]
) -> None:
    remote.altered = altered
    message = refused()
    assert "did not answer as the Hugging Face Hub does" in message
    assert message.isprintable()
    assert not remote.asked
    assert not list(pull_home.rglob("*unfinished*"))
