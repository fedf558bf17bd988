from pathlib import Path

import pytest
from dotsctl.client.settings.choices import Choices, choose, runtime_config
from dotsctl.client.settings.files import user_file
from dotsctl.protocol.errors import UsageError


def file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_any_choice_there_are_defaults() -> None:
    choices = choose(environment={}, files=())
    assert choices == Choices(None, "auto", "mlx", "default")
    assert not any(map(choices.is_chosen, ("model", "encoder", "decoder", "name")))


def test_a_flag_beats_the_environment_and_that_beats_the_files(tmp_path: Path) -> None:
    near = file(tmp_path / "near.toml", 'model = "near"\nencoder = "near"\ndecoder = "near"')
    far = file(tmp_path / "far.toml", 'model = "far"\nencoder = "far"\ndecoder = "far"')
    environment = {"DOTSCTL_MODEL": "variable", "DOTSCTL_ENCODER": "variable", "DOTSCTL_NAME": "nightly"}
    choices = choose(model="flag", environment=environment, files=(near, far))
    assert choices == Choices("flag", "variable", "near", "nightly")
    assert choices.origins["decoder"] == str(near)
    assert choices.is_chosen("decoder")
    assert choose(environment={}, files=(tmp_path / "nothing.toml", far)).model == "far"


def test_how_long_a_worker_may_be_stopped_is_a_setting_like_the_other_times(tmp_path: Path) -> None:
    near = file(tmp_path / "near.toml", "stopped_timeout = 20")
    assert choose(environment={}, files=()).stopped_timeout_s == 10.0
    assert choose(environment={}, files=(near,)).stopped_timeout_s == 20.0
    assert choose(environment={"DOTSCTL_STOPPED_TIMEOUT": "30"}, files=(near,)).stopped_timeout_s == 30.0
    with pytest.raises(UsageError, match="stopped_timeout"):
        choose(environment={"DOTSCTL_STOPPED_TIMEOUT": "soon"}, files=())


def test_an_empty_variable_counts_as_not_set() -> None:
    assert choose(environment={"DOTSCTL_ENCODER": ""}, files=()).encoder == "auto"


def test_the_files_are_that_of_the_folder_and_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    user_file().parent.mkdir(parents=True)
    file(user_file(), 'model = "of-the-user"\nencoder = "of-the-user"')
    file(tmp_path / "dotsctl.toml", 'model = "of-the-folder"')
    choices = choose(environment={})
    assert (choices.model, choices.encoder) == ("of-the-folder", "of-the-user")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('modell = "demo"', "unknown key 'modell'; it may have model, encoder, decoder"),
        ("model = 7", "model = 7 is not text"),
        ('model = ""', "is not text"),
        ("model = ", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_mistake(tmp_path: Path, text: str, problem: str) -> None:
    path = file(tmp_path / "dotsctl.toml", text)
    with pytest.raises(UsageError) as caught:
        choose(environment={}, files=(path,))
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error_and_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        choose(environment={}, files=(tmp_path,))


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    (tmp_path / "dotsctl.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not valid TOML"):
        choose(environment={}, files=(tmp_path / "dotsctl.toml",))


def test_timeouts_come_from_the_same_layers(tmp_path: Path) -> None:
    file = tmp_path / "dotsctl.toml"
    file.write_text("stall_timeout = 600\npage_timeout = 7200\n")
    chosen = choose(environment={"DOTSCTL_PAGE_TIMEOUT": "90"}, files=(file,))
    assert (chosen.stall_timeout_s, chosen.page_timeout_s) == (600.0, 90.0)
    assert choose(stall_timeout_s=5.0, environment={}, files=(file,)).stall_timeout_s == 5.0
    assert choose(environment={}, files=()).page_timeout_s == 1800.0
    assert choose(environment={}, files=()).render_timeout_s == 60.0
    assert choose(environment={"DOTSCTL_RENDER_TIMEOUT": "90"}, files=()).render_timeout_s == 90.0
    file.write_text("render_timeout = 30")
    chosen = choose(encoder="fake", decoder="fake", environment={}, files=(file,))
    assert (chosen.render_timeout_s, runtime_config(chosen, "default").render_timeout_s) == (30.0, 30.0)


@pytest.mark.parametrize("text", ["soon", "0", "-3", "inf", "nan"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused_with_its_origin(text: str) -> None:
    with pytest.raises(UsageError, match="DOTSCTL_STALL_TIMEOUT"):
        choose(environment={"DOTSCTL_STALL_TIMEOUT": text}, files=())
