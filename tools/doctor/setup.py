"""What ``dotsctl doctor`` examines: the user's choices, or what stands for them where they are wrong."""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.client import settings
from dotsctl.client.config import PluginChoice, RuntimeConfig
from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.model_directory import DEMO, demo_directory, find_model

PLUGIN_LIMIT_S = 300.0


@dataclass(frozen=True)
class Setup:
    """The pieces that are tried together."""

    model_name: str
    model: Path
    """The chosen model, or the demo model where none can be had."""
    encoder: PluginChoice
    decoder: PluginChoice
    memory_bytes: int | None
    name: str
    """Of the runtime."""
    limit_s: float = PLUGIN_LIMIT_S
    """Longest time of a plugin, and of the test page."""
    wrong_settings: str = ""
    """Why the defaults stand for the user's choices."""
    missing_model: DotsctlError | None = None
    """Why the demo model stands for another one."""

    @property
    def config(self) -> RuntimeConfig:
        """Of a runtime with these pieces."""
        return RuntimeConfig(self.name, self.model_name, str(self.model), self.encoder, self.decoder)


def read_setup(model: str | None, encoder: str | None, decoder: str | None, limit_s: float = PLUGIN_LIMIT_S) -> Setup:
    """Complete what the user chose; a mistake in it is a finding and no error, except in the words of the command.

    Raises:
        UsageError: ``encoder`` or ``decoder`` is no plugin with options.
    """
    wrong_settings = ""
    try:
        chosen = settings.choose(model=model, encoder=encoder, decoder=decoder)
    except DotsctlError as error:
        wrong_settings = str(error)
        chosen = settings.choose(model=model, encoder=encoder, decoder=decoder, environment={}, files=())
    missing_model = None
    try:
        model_name, folder = find_model(chosen.model)
    except DotsctlError as error:
        missing_model, model_name, folder = error, DEMO, demo_directory()
    return Setup(
        model_name=model_name,
        model=folder,
        encoder=PluginChoice.parse(settings.resolve_encoder(chosen.encoder, chosen.model)),
        decoder=PluginChoice.parse(chosen.decoder),
        memory_bytes=chosen.memory_bytes,
        name=chosen.name,
        limit_s=limit_s,
        wrong_settings=wrong_settings,
        missing_model=missing_model,
    )
