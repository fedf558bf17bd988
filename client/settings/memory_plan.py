"""The meaning of ``--memory`` for a runtime with this model and these plugins; loads nothing."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.machine.memory import MemoryLimit, Need, memory_limit
from dotsctl.protocol.machine.memory_share import MIB, Fixed, share
from dotsctl.protocol.model.validation import CheckpointFacts, validate_checkpoint
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugin_options import MemoryPart, memory_options
from dotsctl.protocol.worker.plugins import find_plugin


def fitted(config: RuntimeConfig, limit_bytes: int | None, machine: MemoryLimit | None = None) -> RuntimeConfig:
    """Return the configuration with the memory limit shared out, and without a second encoder that does not fit.

    Args:
        config: of the runtime.
        limit_bytes: for all workers together; none: what the machine has.
        machine: another one than this, for tests.

    Raises:
        UsageError: with so little nothing can be read, or an option is wrong.
        MissingError: the model is broken.
    """
    if config.auto and config.further_encoders and (problem := _shortage(config, limit_bytes, machine)):
        auto = replace(config.auto, refused=f"{config.further_encoders[0]} is not used: {problem}")
        config = replace(config, further_encoders=(), auto=auto)
    return config if limit_bytes is None else with_memory(config, limit_bytes)


def _shortage(config: RuntimeConfig, limit_bytes: int | None, machine: MemoryLimit | None) -> str:
    """Return why both encoders do not fit into memory together; empty: they do."""
    if limit_bytes is None:
        try:
            facts = validate_checkpoint(Path(config.model)) if config.model else None
        except DotsctlError:
            return ""  # the workers report what is wrong with the model
        least_bytes = need_of(facts, config.encoders, config.decoder).least_bytes
        usable_bytes = (machine or memory_limit()).usable_bytes
        if least_bytes <= usable_bytes:
            return ""
        return (
            f"both encoders and the decoder take {_gb(least_bytes)}, and this machine has {_gb(usable_bytes)} for them"
        )
    try:
        with_memory(config, limit_bytes)
    except UsageError as error:
        return str(error)
    return ""


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


def with_memory(config: RuntimeConfig, limit_bytes: int) -> RuntimeConfig:
    """Return the configuration with the limit shared out.

    It is shared out to the plugins that declare options for a part of the memory, and never over an option that the
    user has written. A plugin that does not state its memory is counted as a process alone.

    Raises:
        UsageError: with so little nothing can be read, or an option is wrong.
        MissingError: the model is broken.
    """
    encoders, decoder = config.encoders, config.decoder
    facts = validate_checkpoint(Path(config.model)) if config.model else None
    need, smaller = need_of(facts, encoders, decoder), find_plugin(Role.DECODER, decoder.name).description.smaller
    parts = share(limit_bytes, need, _fixed(encoders, decoder), smaller)
    freed = {index: option for index, each in enumerate(encoders) if (option := _option(Role.ENCODER, each))}
    chosen = [_chosen_bytes(Role.ENCODER, encoders[index]) for index in freed]
    each_bytes = _most_chosen(chosen) or parts.encoder_freed_bytes // max(1, len(freed))
    sizes = {MemoryPart.FREED: parts.decoder_freed_bytes, MemoryPart.KEYS: parts.keys_bytes}
    return replace(
        config,
        memory_bytes=limit_bytes,
        credits=parts.credits,
        credit_bytes=parts.in_flight_bytes,
        encoder_share={encoders[index].name: {option: _mib(each_bytes)} for index, option in freed.items()},
        decoder_share={option: _mib(sizes[part]) for part, option in _options(Role.DECODER, decoder).items()},
    )


def need_of(facts: CheckpointFacts | None, encoders: Sequence[PluginChoice], decoder: PluginChoice) -> Need:
    """Return what the workers take, as far as it is known before they run; ``facts`` are none without a model.

    Raises:
        UsageError: there is no such plugin, or an option is wrong.
        MissingError: a plugin cannot be imported.
    """
    chosen = [*((Role.ENCODER, each) for each in encoders), (Role.DECODER, decoder)]
    return reduce(add, [find_plugin(role, each.name).need(facts, each.options) for role, each in chosen])


def _fixed(encoders: Sequence[PluginChoice], decoder: PluginChoice) -> Fixed:
    """Return what the user has decided, and nothing for parts that no plugin has."""
    freed = [_chosen_bytes(Role.ENCODER, each) for each in encoders if _option(Role.ENCODER, each)]
    is_chosen = not freed or any(size is not None for size in freed)
    return Fixed(
        keys_bytes=_chosen_bytes(Role.DECODER, decoder, MemoryPart.KEYS),
        encoder_freed_bytes=sum(_most_chosen(freed) if size is None else size for size in freed) if is_chosen else None,
        decoder_freed_bytes=_chosen_bytes(Role.DECODER, decoder) if _option(Role.DECODER, decoder) else 0,
    )


def _most_chosen(freed: Sequence[int | None]) -> int:
    """The most that was chosen for any encoder: what those get of which nothing was chosen."""
    return max((size for size in freed if size is not None), default=0)


def _options(role: Role, choice: PluginChoice) -> dict[MemoryPart, str]:
    """Options of a plugin that set a part of the memory."""
    return memory_options(find_plugin(role, choice.name).description.options)


def _option(role: Role, choice: PluginChoice) -> str:
    """The option for freed buffers; empty: the plugin has none."""
    return _options(role, choice).get(MemoryPart.FREED, "")


def _chosen_bytes(role: Role, choice: PluginChoice, part: MemoryPart = MemoryPart.FREED) -> int | None:
    """A part of the memory as the user has written it; none: nothing was written."""
    plugin = find_plugin(role, choice.name)
    option = memory_options(plugin.description.options).get(part)
    return getattr(plugin.options(choice.options), option) * MIB if option and option in choice.options else None


def _mib(size_bytes: int) -> str:
    return str(max(1, size_bytes // MIB))
