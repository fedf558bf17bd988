"""The user's choices, read in one place for the command line and for ``Client``.

Precedence of each: argument or flag, environment (``DOTSCTL_MODEL`` and so on), ``dotsctl.toml`` in the current folder,
``config.toml`` in the user's configuration folder, default. ``files.py`` has the form of both files.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotsctl.client.settings.auto_encoder import AutoPlan, choose_encoder
from dotsctl.client.settings.defaults import AUTO, DECODER, MAX_TIMEOUT_S
from dotsctl.client.settings.files import read_settings, settings_paths
from dotsctl.client.settings.memory_plan import fitted
from dotsctl.client.settings.runtime_config import AutoEncoders, PluginChoice, RuntimeConfig
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.machine.memory_share import parse_size
from dotsctl.protocol.model.directory import find_model
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugin_options import path_options
from dotsctl.protocol.worker.plugins import find_plugin

DEFAULTS = {
    "encoder": AUTO,
    "decoder": DECODER,
    "name": "default",
    "stall_timeout": str(RuntimeConfig.stall_timeout_s),
    "page_timeout": str(RuntimeConfig.page_timeout_s),
    "stopped_timeout": str(RuntimeConfig.stopped_timeout_s),
    "render_timeout": str(RuntimeConfig.render_timeout_s),
    "readiness_page": str(RuntimeConfig.readiness_page).lower(),
}
DEFAULT = "default"
SWITCH_WORDS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


@dataclass(frozen=True)
class Choices:
    """The choices of the user, or the defaults."""

    model: str | None
    """Name or path; none: the only installed model."""
    encoder: str
    """``NAME[:key=value,...]``; ``auto`` leaves the choice to dotsctl."""
    decoder: str
    """``NAME[:key=value,...]``."""
    name: str
    """Instance of the runtime."""
    stall_timeout_s: float = RuntimeConfig.stall_timeout_s
    """The longest time without progress of a worker that has work, in seconds; for a runtime that is started now."""
    page_timeout_s: float = RuntimeConfig.page_timeout_s
    """The longest time of one page, in seconds; for a runtime that is started now."""
    stopped_timeout_s: float = RuntimeConfig.stopped_timeout_s
    """The longest time for which a signal may stop a worker, in seconds; for a runtime that is started now."""
    render_timeout_s: float = RuntimeConfig.render_timeout_s
    """The longest time for which a page may be rendered or decoded before it is sent."""
    memory_bytes: int | None = None
    """The memory limit of all workers together, for a runtime that is started now; none: no limit."""
    readiness_page: bool = True
    """Whether the model must read the readiness page; for a runtime that is started now."""
    further_encoders: tuple[str, ...] = ()
    """The additional encoders of a runtime that is started now."""
    origins: dict[str, str] = field(default_factory=dict, compare=False)
    """The source of each choice: ``argument``, the variable, the file's path, or ``default``."""

    def is_chosen(self, key: str) -> bool:
        """Return whether the user chose this; if not, a running runtime may have something else."""
        return self.origins.get(key, DEFAULT) != DEFAULT


def choose(
    *,
    model: str | None = None,
    encoder: str | None = None,
    decoder: str | None = None,
    name: str | None = None,
    stall_timeout_s: float | None = None,
    page_timeout_s: float | None = None,
    memory: str | None = None,
    readiness_page: bool | None = None,
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
        stall_timeout_s: longest time without progress of a worker that has work, in seconds.
        page_timeout_s: longest time of one page, in seconds.
        memory: what the workers may take together, as ``8G``.
        readiness_page: whether the model must read the readiness page.
        further_encoders: additional encoders of a runtime that is started.
        environment: of the process; a variable that is empty counts as not set.
        files: configuration files, the strongest first; none: those of :func:`settings_paths`.

    Raises:
        UsageError: a file has an unknown key or a wrong value, or is not valid TOML.
    """
    arguments = {"model": model, "encoder": encoder, "decoder": decoder, "name": name, "memory": memory}
    arguments["readiness_page"] = None if readiness_page is None else str(readiness_page).lower()
    seconds = {"stall_timeout": stall_timeout_s, "page_timeout": page_timeout_s}
    arguments |= {key: None if value is None else str(value) for key, value in seconds.items()}
    variables = {f"DOTSCTL_{key.upper()}": key for key in (*arguments, "stopped_timeout", "render_timeout")}
    layers: list[tuple[str, Mapping[str, str]]] = [
        ("argument", {key: value for key, value in arguments.items() if value}),
        *((variable, {key: environment[variable]}) for variable, key in variables.items() if environment.get(variable)),
        *((str(path), read_settings(path).settings) for path in (settings_paths() if files is None else files)),
        (DEFAULT, DEFAULTS),
    ]
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for key in layer.keys() - values.keys():
            values[key], origins[key] = layer[key], origin
    return Choices(
        model=values.get("model"),
        encoder=_with_absolute_paths(Role.ENCODER, values["encoder"]),
        decoder=_with_absolute_paths(Role.DECODER, values["decoder"]),
        name=values["name"],
        stall_timeout_s=_seconds("stall_timeout", values, origins),
        page_timeout_s=_seconds("page_timeout", values, origins),
        stopped_timeout_s=_seconds("stopped_timeout", values, origins),
        render_timeout_s=_seconds("render_timeout", values, origins),
        memory_bytes=_size("memory", values, origins),
        readiness_page=_switch("readiness_page", values, origins),
        further_encoders=tuple(_with_absolute_paths(Role.ENCODER, each) for each in further_encoders),
        origins=origins,
    )


def _with_absolute_paths(role: Role, text: str) -> str:
    """A plugin and its options with every path made absolute: workers have another current folder."""
    if ":" not in text:
        return text
    try:
        choice = PluginChoice.parse(text)
        paths = path_options(find_plugin(role, choice.name).description.options)
    except DotsctlError:  # reported where the plugin is needed
        return text
    absolute = {key: str(Path(value).absolute()) for key, value in choice.options.items() if key in paths and value}
    return str(PluginChoice(choice.name, {**choice.options, **absolute}))


def _seconds(key: str, values: Mapping[str, str], origins: Mapping[str, str]) -> float:
    """A time of one second to a year. Raises UsageError."""
    try:
        value = float(values[key])
    except ValueError:
        value = 0.0
    if not 1 <= value <= MAX_TIMEOUT_S:
        raise UsageError(f"{key} = {values[key]!r} ({origins[key]}) is not a number of seconds, 1 to {MAX_TIMEOUT_S}")
    return value


def _switch(key: str, values: Mapping[str, str], origins: Mapping[str, str]) -> bool:
    """A setting that is on or off. Raises UsageError."""
    if values[key].lower() not in SWITCH_WORDS:
        raise UsageError(f"{key} = {values[key]!r} ({origins[key]}) is not true or false", f"write {key} = true")
    return SWITCH_WORDS[values[key].lower()]


def _size(key: str, values: Mapping[str, str], origins: Mapping[str, str]) -> int | None:
    """A size in bytes where there is one. Raises UsageError."""
    if key not in values:
        return None
    try:
        return parse_size(values[key])
    except UsageError as error:
        raise UsageError(f"{error.problem} ({origins[key]})", error.remedy) from None


def is_auto(encoder: str) -> bool:
    """Return whether an encoder's text leaves the choice to dotsctl."""
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
    except DotsctlError:  # the code that needs the model reports that it is missing
        folder = None
    return choose_encoder(folder, choice.options)


def find_model_for(
    model: str | None, encoders: Sequence[PluginChoice], decoders: Sequence[PluginChoice] = ()
) -> tuple[str, Path | None]:
    """Return name and directory of the model for plugins, whose options are checked.

    Plugins that need no model get none, unless the user chose one; then the name is that of the last plugin.

    Raises:
        UsageError: there is no such plugin, or one of its options is wrong.
        MissingError: there is no such model, or a plugin cannot be imported.
    """
    chosen = [*((Role.ENCODER, each) for each in encoders), *((Role.DECODER, each) for each in decoders)]
    plugins = [find_plugin(role, each.name) for role, each in chosen]
    for plugin, (_, each) in zip(plugins, chosen, strict=True):
        plugin.options(each.options)
    if model is None and not any(plugin.description.needs_model for plugin in plugins):
        return plugins[-1].name, None
    return find_model(model)


def runtime_config(chosen: Choices, instance: str) -> RuntimeConfig:
    """Configuration of a runtime from the user's choices; nothing is started or loaded.

    Raises:
        UsageError: wrong choices, as the same encoder twice, a wrong option of a plugin, or a memory limit that is too
            small for the model.
        MissingError: there is no such model, or a plugin cannot be imported.
    """
    encoders, auto = _encoders(chosen)
    decoder = PluginChoice.parse(chosen.decoder)
    if twice := [str(each) for index, each in enumerate(encoders) if each in encoders[:index]]:
        raise UsageError(f"encoder {twice[0]} is given twice; the encoders of a runtime must differ")
    model_name, found = find_model_for(chosen.model, encoders, [decoder])
    config = RuntimeConfig(
        instance=instance,
        model_name=model_name,
        model=str(found or ""),
        encoder=encoders[0],
        decoder=decoder,
        further_encoders=tuple(encoders[1:]),
        auto=auto,
        stall_timeout_s=chosen.stall_timeout_s,
        page_timeout_s=chosen.page_timeout_s,
        stopped_timeout_s=chosen.stopped_timeout_s,
        render_timeout_s=chosen.render_timeout_s,
        readiness_page=chosen.readiness_page,
    )
    return fitted(config, chosen.memory_bytes)


def _encoders(chosen: Choices) -> tuple[list[PluginChoice], AutoEncoders | None]:
    """The encoders of a runtime, and how it chooses between them; with further encoders ``auto`` stands for one of
    them."""
    if chosen.further_encoders:
        names = (chosen.encoder, *chosen.further_encoders)
        return [PluginChoice.parse(resolve_encoder(name, chosen.model)) for name in names], None
    plan = _plan(chosen.encoder, chosen.model)
    return [plan.encoder, *filter(None, [plan.alternative])], plan.auto
