import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from dotsctl.client.cli.main import cli
from dotsctl.client.cli.runtime import ROLES
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol.errors import AlreadyRunningError
from dotsctl.protocol.messages import Status
from dotsctl.protocol.parts import Role, WorkerReport


@pytest.fixture(autouse=True)
def folder(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, one installed model, and no runtime."""
    model = tmp_path / "models" / "small"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def call(*arguments: str, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, arguments, input=stdin, prog_name="dotsctl")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_command_explains_itself_and_its_options() -> None:
    for name, command in cli.commands.items():
        assert command.help, name
        assert all(option.help for option in command.params if isinstance(option, click.Option)), name


def test_help_lines_fit_a_terminal() -> None:
    for name in cli.commands:
        assert max(map(len, call(name, "--help").stdout.splitlines())) <= 100, name


def test_up_starts_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[RuntimeConfig] = []
    monkeypatch.setattr(
        "dotsctl.client.connection.launch.start_foreground", lambda config, _: started.append(config) or 0
    )
    Path("dotsctl.toml").write_text('encoder = "fake:encode_ms=1"')
    result = call("up", "--name", "nightly")
    assert result.exit_code == 0
    (config,) = started
    assert (config.instance, config.model_name, str(config.encoder)) == ("nightly", "small", "fake:encode_ms=1")
    assert "starting 'nightly': model small, encoder fake:encode_ms=1, decoder mlx" in result.stderr


def test_up_detached_returns_when_the_runtime_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Facts:
        pid = 77

    waits: list[float] = []
    monkeypatch.setattr(
        "dotsctl.client.connection.launch.start_detached", lambda _, wait: waits.append(wait) or Facts()
    )
    result = call("up", "-d", "--timeout", "5")
    assert (result.exit_code, result.stdout, waits) == (0, "", [5.0])
    assert "pid 77" in result.stderr


def test_up_states_which_runtime_is_running_already(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AlreadyRunningError("instance 'default' is already running (pid 5)")

    monkeypatch.setattr("dotsctl.client.connection.launch.start_detached", refuse)
    result = call("up", "-d")
    assert result.exit_code == 8
    assert "(pid 5)" in result.stderr


def test_down_stops_the_named_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, bool, float]] = []
    monkeypatch.setattr(
        "dotsctl.client.connection.launch.stop", lambda name, *, now, timeout_s: calls.append((name, now, timeout_s))
    )
    monkeypatch.setenv("DOTSCTL_NAME", "nightly")
    assert call("down", "--now", "--timeout", "7").stderr == "'nightly' is stopped\n"
    assert calls == [("nightly", True, 7.0)]


def test_logs_show_the_last_lines_of_each_role(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ROLES:
        Path(f"{role}.log").write_text("".join(f"{role} {number}\n" for number in range(9)) + "unfinished")
    files = {role: Path(f"{role}.log") for role in ROLES}
    monkeypatch.setattr("dotsctl.client.connection.launch.log_files", lambda _: files)
    assert call("logs", "encoder", "-n", "2").stdout == "encoder 8\nunfinished\n"
    everything = call("logs", "-n", "1").stdout
    assert everything == "\n".join(f"==> {role}: {role}.log <==\nunfinished\n" for role in ROLES)


def test_logs_of_a_runtime_that_never_was_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dotsctl.client.connection.launch.log_files", lambda _: {})
    result = call("logs", "decoder")
    assert (result.exit_code, result.stderr.count("\nWhat to do: ")) == (7, 1)


def test_status_without_a_runtime_is_exit_6_and_states_how_to_start_one() -> None:
    result = call("status")
    assert (result.exit_code, result.stdout) == (6, "")
    assert "dotsctl up -d" in result.stderr


def test_status_is_readable_as_text_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerReport(
        Role.ENCODER, "mlx", "ready", 12, 1, 2, "signal SIGKILL", 34, 0.456, "/log", 0.0, 3 << 30, 900 << 20
    )
    status = Status(
        "id", 5, "0.1.0", "demo", "f" * 64, "ready", 3725.0, (worker,), 1, {"queued": 3, "held": 0}, {}, 8 << 30
    )
    monkeypatch.setattr("dotsctl.client.connection.status.query_status", lambda _: status)
    lines = call("status").stdout.splitlines()
    assert lines == [
        "default: ready, pid 5, up 1 h 2 min, dotsctl 0.1.0",
        "model     demo (ffffffffffff)",
        "encoder   mlx: ready, pid 12, 34 pages, busy 46%, 3.0 GiB, peak 900 MiB, 2 restarts, last: signal SIGKILL",
        "memory    3.0 GiB of 8.0 GiB, of the workers",
        "requests  3 queued; 1 client",
    ]
    assert json.loads(call("status", "--json").stdout)["workers"][0]["role"] == "encoder"


def test_bench_explains_itself_and_its_parts() -> None:
    assert "transport" in call("bench", "--help").stdout
    assert "ENCODE_MS/DECODE_MS" in call("bench", "pipeline", "--pages", "8", "--help").stdout


def test_version_names_the_libraries() -> None:
    facts = json.loads(call("version", "--json").stdout)
    assert {"dotsctl", "protocol", "python", "system", "machine", "libraries"} == set(facts)
    assert facts["libraries"]["pillow"]
    assert call("version").stdout.startswith("dotsctl ")


def test_a_wrong_configuration_file_is_exit_2() -> None:
    Path("dotsctl.toml").write_text("speed = 11")
    result = call("up")
    assert result.exit_code == 2
    assert "unknown key 'speed'" in result.stderr
