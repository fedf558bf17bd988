"""The subject of ``dotsctl doctor``: the user's choices, or the defaults where they are wrong."""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.settings import choices as settings
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.model.directory import DEMO, demo_directory, find_model
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import PluginDescription, find_plugin

PLUGIN_LIMIT_S = 300.0


@dataclass(frozen=True)
class Setup:
    """The pieces that are tried together."""

    model_name: str
    model: Path
    """The chosen model, or the demo model where none is available."""
    encoder: PluginChoice
    decoder: PluginChoice
    memory_bytes: int | None
    name: str
    """The name of the runtime."""
    limit_s: float = PLUGIN_LIMIT_S
    """Longest time of a plugin, and of the test page."""
    wrong_settings: DotsctlError | None = None
    """The error that makes the defaults replace the user's choices."""
    missing_model: DotsctlError | None = None
    """The error that makes the demo model replace another one."""

    @property
    def reads_pages(self) -> bool:
        """Return whether both plugins read what pages show. Raises UsageError or MissingError for a missing one."""
        return all(each.reads_pages for each in self._descriptions())

    def _descriptions(self) -> list[PluginDescription]:
        chosen = ((Role.ENCODER, self.encoder), (Role.DECODER, self.decoder))
        return [find_plugin(role, each.name).description for role, each in chosen]

    @property
    def config(self) -> RuntimeConfig:
        """The configuration of a runtime with these pieces."""
        return RuntimeConfig(self.name, self.model_name, str(self.model), self.encoder, self.decoder)


def read_setup(model: str | None, encoder: str | None, decoder: str | None, limit_s: float = PLUGIN_LIMIT_S) -> Setup:
    """Complete what the user chose; a wrong value is a finding and no error, except in the arguments of the command.

    Raises:
        UsageError: ``encoder`` or ``decoder`` is no plugin with options.
    """
    wrong_settings = None
    try:
        chosen = settings.choose(model=model, encoder=encoder, decoder=decoder)
    except DotsctlError as error:
        wrong_settings = error
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
