"""The user's choices, read in one place for the command line and for ``Client``.

Precedence of each: argument or flag, environment (``DOTSCTL_MODEL`` and so on), ``dotsctl.toml`` in the current folder,
``config.toml`` in the user's configuration folder, default. Both files look like this::

    model = "demo"
    encoder = "mlx"
    stall_timeout = 600        # seconds
    memory = "8G"              # for all workers together
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from dotsctl.client.auto_encoder import AUTO, AutoPlan, choose_encoder
from dotsctl.client.config import AutoEncoders, PluginChoice, RuntimeConfig
from dotsctl.client.memory_plan import fitted
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.memory_share import parse_size
from dotsctl.protocol.model_directory import find_model

LOCAL_FILE = "dotsctl.toml"
FILE_KEYS = ("model", "encoder", "decoder", "stall_timeout", "page_timeout", "stopped_timeout", "memory")
DEFAULTS = {
    "encoder": "auto",
    "decoder": "mlx",
    "name": "default",
    "stall_timeout": str(RuntimeConfig.stall_timeout_s),
    "page_timeout": str(RuntimeConfig.page_timeout_s),
    "stopped_timeout": str(RuntimeConfig.stopped_timeout_s),
}
DEFAULT = "default"


@dataclass(frozen=True)
class Choices:
    """What the user chose, or the default."""

    model: str | None
    """Name or path; none: the only installed model."""
    encoder: str
    """``NAME[:key=value,...]``; ``auto`` leaves the choice to dotsctl."""
    decoder: str
    """``NAME[:key=value,...]``."""
    name: str
    """Instance of the runtime."""
    stall_timeout_s: float = RuntimeConfig.stall_timeout_s
    """Of a runtime that is started now: the longest silence of a worker that has work."""
    page_timeout_s: float = RuntimeConfig.page_timeout_s
    """Of a runtime that is started now: the longest time of one page."""
    stopped_timeout_s: float = RuntimeConfig.stopped_timeout_s
    """Of a runtime that is started now: the longest time for which a worker may be stopped by a signal."""
    memory_bytes: int | None = None
    """Of a runtime that is started now: what the workers may take together; none: no limit."""
    further_encoders: tuple[str, ...] = ()
    """Of a runtime that is started now: encoders that stand beside the first one."""
    origins: dict[str, str] = field(default_factory=dict, compare=False)
    """Where each choice comes from: ``argument``, the variable, the file's path, or ``default``."""

    def is_chosen(self, key: str) -> bool:
        """Whether the user chose this; if not, a running runtime may have something else."""
        return self.origins.get(key, DEFAULT) != DEFAULT


def user_file() -> Path:
    """The user's configuration file; it need not exist."""
    return Path(platformdirs.user_config_path("dotsctl")) / "config.toml"


def choose(
    *,
    model: str | None = None,
    encoder: str | None = None,
    decoder: str | None = None,
    name: str | None = None,
    stall_timeout_s: float | None = None,
    page_timeout_s: float | None = None,
    memory: str | None = None,
    further_encoders: tuple[str, ...] = (),
    environment: Mapping[str, str] = os.environ,
    files: tuple[Path, ...] | None = None,
) -> Choices:
    """Complete what the caller chose.

    Args:
        model: name or path; none: not chosen here, likewise for the others.
        encoder: plugin with its options.
        decoder: plugin with its options.
        name: instance of the runtime.
        stall_timeout_s: longest silence of a worker that has work, in seconds.
        page_timeout_s: longest time of one page, in seconds.
        memory: what the workers may take together, as ``8G``.
        further_encoders: that stand beside the first one, in a runtime that is started.
        environment: of the process; a variable that is empty counts as not set.
        files: configuration files, the strongest first; none: the two of the module's docstring.

    Raises:
        UsageError: a file has an unknown key or a wrong value, or is no TOML.
    """
    arguments = {"model": model, "encoder": encoder, "decoder": decoder, "name": name, "memory": memory}
    seconds = {"stall_timeout": stall_timeout_s, "page_timeout": page_timeout_s}
    arguments |= {key: None if value is None else str(value) for key, value in seconds.items()}
    variables = {f"DOTSCTL_{key.upper()}": key for key in (*arguments, "stopped_timeout")}
    layers: list[tuple[str, Mapping[str, str]]] = [
        ("argument", {key: value for key, value in arguments.items() if value}),
        *((variable, {key: environment[variable]}) for variable, key in variables.items() if environment.get(variable)),
        *((str(path), _read(path)) for path in (files if files is not None else (Path(LOCAL_FILE), user_file()))),
        (DEFAULT, DEFAULTS),
    ]
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for key in layer.keys() - values.keys():
            values[key], origins[key] = layer[key], origin
    return Choices(
        model=values.get("model"),
        encoder=values["encoder"],
        decoder=values["decoder"],
        name=values["name"],
        stall_timeout_s=_seconds("stall_timeout", values, origins),
        page_timeout_s=_seconds("page_timeout", values, origins),
        stopped_timeout_s=_seconds("stopped_timeout", values, origins),
        memory_bytes=_size("memory", values, origins),
        further_encoders=further_encoders,
        origins=origins,
    )


def _seconds(key: str, values: Mapping[str, str], origins: Mapping[str, str]) -> float:
    """A time of at least one second. Raises UsageError."""
    try:
        value = float(values[key])
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise UsageError(f"{key} = {values[key]!r} ({origins[key]}) is no number of seconds, at least 1")
    return value


def _size(key: str, values: Mapping[str, str], origins: Mapping[str, str]) -> int | None:
    """A size in bytes where there is one. Raises UsageError."""
    if key not in values:
        return None
    try:
        return parse_size(values[key])
    except UsageError as error:
        raise UsageError(f"{error} ({origins[key]})") from None


def _read(path: Path) -> dict[str, str]:
    """Choices of one file; empty when there is no such file."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; correct its permissions or remove it") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, bytes that are no UTF-8, or deep nesting
        raise UsageError(f"{path} is no TOML: {error}") from None
    known = f"it may have {', '.join(FILE_KEYS)}"
    if unknown := sorted(content.keys() - set(FILE_KEYS)):
        raise UsageError(f"{path} has the unknown key {unknown[0]!r}; {known}")
    for key, value in content.items():
        if key.endswith("_timeout") and type(value) in (int, float):
            content[key] = str(value)
        elif not (isinstance(value, str) and value):
            raise UsageError(f'{path}: {key} = {value!r} is no text; write {key} = "..."')
    return content


def is_auto(encoder: str) -> bool:
    """Whether an encoder's text leaves the choice to dotsctl."""
    return PluginChoice.parse(encoder).name == AUTO


def resolve_encoder(text: str, model: str | None = None) -> str:
    """Return the one encoder that ``auto`` stands for where there can be only one; other encoders as they are.

    Args:
        text: plugin with its options.
        model: name or path; none: the only installed one.
    """
    plan = _plan(text, model)
    is_proved = plan.alternative is not None and plan.auto is not None and plan.auto.is_proved
    return str(plan.alternative if is_proved else plan.encoder)


def _plan(text: str, model: str | None) -> AutoPlan:
    choice = PluginChoice.parse(text)
    if choice.name != AUTO:
        return AutoPlan(choice)
    try:
        folder = find_model(model)[1]
    except DotsctlError:  # whoever needs the model reports that it is not there
        folder = None
    return choose_encoder(folder, choice.options)


def runtime_config(chosen: Choices, instance: str) -> RuntimeConfig:
    """Configuration of a runtime from the user's choices; two ``fake`` plugins need no model.

    Raises:
        UsageError: wrong choices, as the same encoder twice, or a memory limit that is too small for the model.
        MissingError: there is no such model.
    """
    encoders, auto = _encoders(chosen)
    decoder = PluginChoice.parse(chosen.decoder)
    if twice := [str(each) for place, each in enumerate(encoders) if each in encoders[:place]]:
        raise UsageError(f"encoder {twice[0]} is given twice: encoders that stand side by side must differ")
    if chosen.model is None and all(each.name == "fake" for each in (*encoders, decoder)):
        model_name, folder = "fake", ""
    else:
        model_name, found = find_model(chosen.model)
        folder = str(found)
    config = RuntimeConfig(
        instance=instance,
        model_name=model_name,
        model=folder,
        encoder=encoders[0],
        decoder=decoder,
        further_encoders=tuple(encoders[1:]),
        auto=auto,
        stall_timeout_s=chosen.stall_timeout_s,
        page_timeout_s=chosen.page_timeout_s,
        stopped_timeout_s=chosen.stopped_timeout_s,
    )
    return fitted(config, chosen.memory_bytes)


def _encoders(chosen: Choices) -> tuple[list[PluginChoice], AutoEncoders | None]:
    """The encoders of a runtime, and how it chooses between them; beside others ``auto`` stands for one of them."""
    if chosen.further_encoders:
        names = (chosen.encoder, *chosen.further_encoders)
        return [PluginChoice.parse(resolve_encoder(name, chosen.model)) for name in names], None
    plan = _plan(chosen.encoder, chosen.model)
    return [plan.encoder, *filter(None, [plan.alternative])], plan.auto
