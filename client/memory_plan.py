"""What ``--memory`` means for a runtime with this model and these plugins; loads nothing."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dotsctl.client.config import PluginChoice, RuntimeConfig
from dotsctl.protocol.checkpoint_validation import CheckpointFacts, validate_checkpoint
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.memory import PROCESS_BYTES, Machine, Need, encoder_need, pipeline_need, this_machine
from dotsctl.protocol.memory_share import KEYS_BYTES, MIB, Fixed, share

MLX = "mlx"
COREML = "coreml"
FLOAT32, FLOAT16 = 4, 2
ITEM_BYTES = {"bfloat16": FLOAT16, "float16": FLOAT16, "float32": FLOAT32}
"""Bytes of a number, by the option ``dtype``."""
GROUP_SIZE = 64


def fitted(config: RuntimeConfig, limit_bytes: int | None, machine: Machine | None = None) -> RuntimeConfig:
    """Return the configuration with the memory limit shared out, and without a second encoder that does not fit.

    Args:
        config: of the runtime.
        limit_bytes: for all workers together; none: what the machine has.
        machine: another one than this, for tests.

    Raises:
        UsageError: with so little nothing can be read.
        MissingError: the model is broken.
    """
    if config.auto and config.further_encoders and (problem := _shortage(config, limit_bytes, machine)):
        auto = replace(config.auto, refused=f"{config.further_encoders[0]} is not used: {problem}")
        config = replace(config, further_encoders=(), auto=auto)
    return config if limit_bytes is None else with_memory(config, limit_bytes)


def _shortage(config: RuntimeConfig, limit_bytes: int | None, machine: Machine | None) -> str:
    """Return why both encoders do not fit into memory together; empty: they do."""
    if limit_bytes is None:
        try:
            facts = validate_checkpoint(Path(config.model)) if config.model else None
        except DotsctlError:
            return ""  # the workers report what is wrong with the model
        least_bytes = need_of(facts, config.encoders, config.decoder).least_bytes
        usable_bytes = (machine or this_machine()).usable_bytes
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
    """The configuration with the limit shared out.

    What is shared out goes to plugins named ``mlx`` alone, and never over an option that the user has written.
    A plugin of another kind is counted as a process whose model is not known, except ``coreml``, whose weights are.

    Raises:
        UsageError: with so little nothing can be read.
        MissingError: the model is broken.
    """
    encoders, decoder = config.encoders, config.decoder
    facts = validate_checkpoint(Path(config.model)) if config.model else None
    parts = share(limit_bytes, need_of(facts, encoders, decoder), _fixed(encoders, decoder))
    freed = _chosen_freed(encoders)
    each_bytes = _said(freed) or parts.encoder_freed_bytes // max(1, len(freed))
    keys = {"mlx_cache_mib": _mib(parts.decoder_freed_bytes), "cache_mib": _mib(parts.keys_bytes)}
    return replace(
        config,
        memory_bytes=limit_bytes,
        credits=parts.credits,
        credit_bytes=parts.in_flight_bytes,
        encoder_share={MLX: {"mlx_cache_mib": _mib(each_bytes)}} if freed else {},
        decoder_share=keys if decoder.name == MLX else {},
    )


def need_of(facts: CheckpointFacts | None, encoders: Sequence[PluginChoice], decoder: PluginChoice) -> Need:
    """What the workers take, as far as it is known before they run; ``facts`` are none without a model.

    MLX computes in bfloat16 on a Mac and in float32 on Linux, unless the option ``dtype`` says otherwise.
    """
    processes = Need(encoder_bytes=0, decoder_bytes=0, small_page_bytes=(len(encoders) + 1) * PROCESS_BYTES)
    if facts is None:
        return processes
    item_bytes = FLOAT16 if sys.platform == "darwin" else FLOAT32
    towers = [encoder_need(facts, bytes_) for each in encoders if (bytes_ := _tower_item_bytes(each, item_bytes))]
    item_bytes = ITEM_BYTES.get(decoder.options.get("dtype", ""), item_bytes)
    keys_bytes = _chosen_bytes(decoder, "cache_mib") or KEYS_BYTES
    whole = pipeline_need(facts, item_bytes, keys_bytes, _quantised_bytes(facts, decoder, item_bytes))
    tower_bytes = sum(tower.small_tower_bytes for tower in towers)
    keys = whole.small_keys_bytes if decoder.name == MLX else 0
    return Need(
        encoder_bytes=sum(tower.encoder_bytes for tower in towers),
        decoder_bytes=whole.decoder_bytes if decoder.name == MLX else 0,
        small_page_bytes=processes.small_page_bytes + tower_bytes + keys,
        largest_page_bytes=sum(tower.largest_page_bytes for tower in towers),
        cache_bytes=whole.cache_bytes if decoder.name == MLX else 0,
        small_tower_bytes=tower_bytes,
        small_keys_bytes=keys,
    )


def _tower_item_bytes(encoder: PluginChoice, item_bytes: int) -> int:
    """Bytes of a number of the tower in an encoder; 0 for a plugin that is not known."""
    chosen = ITEM_BYTES.get(encoder.options.get("dtype", ""), item_bytes)
    return {MLX: chosen, COREML: FLOAT16}.get(encoder.name, 0)


def _quantised_bytes(facts: CheckpointFacts, decoder: PluginChoice, item_bytes: int) -> int | None:
    """Weights of a quantised decoder: its bits, and a scale and an offset for each group; none for the model's own."""
    bits, group = decoder.options.get("bits", ""), decoder.options.get("group_size", str(GROUP_SIZE))
    if not (bits.isdecimal() and group.isdecimal() and int(group)):
        return None  # a mistake in them is told by the plugin
    return int(facts.decoder.parameters * (int(bits) / 8 + 2 * item_bytes / int(group)))


def _fixed(encoders: Sequence[PluginChoice], decoder: PluginChoice) -> Fixed:
    freed = _chosen_freed(encoders)
    is_said = not freed or any(size is not None for size in freed)
    return Fixed(
        keys_bytes=_chosen_bytes(decoder, "cache_mib"),
        encoder_freed_bytes=sum(_said(freed) if size is None else size for size in freed) if is_said else None,
        decoder_freed_bytes=_chosen_bytes(decoder, "mlx_cache_mib") if decoder.name == MLX else 0,
    )


def _chosen_freed(encoders: Sequence[PluginChoice]) -> list[int | None]:
    """Bytes that each MLX encoder is to keep for reuse; none where the user has not said so."""
    return [_chosen_bytes(encoder, "mlx_cache_mib") for encoder in encoders if encoder.name == MLX]


def _said(freed: Sequence[int | None]) -> int:
    """The most that was said of any encoder: what those beside it get of which nothing was said."""
    return max((size for size in freed if size is not None), default=0)


def _chosen_bytes(plugin: PluginChoice, key: str) -> int | None:
    """An option in MiB as bytes; none where the user has not written it, or no number."""
    text = plugin.options.get(key, "") if plugin.name == MLX else ""
    return int(text) * MIB if text.isdecimal() else None


def _mib(size_bytes: int) -> str:
    return str(max(1, size_bytes // MIB))
