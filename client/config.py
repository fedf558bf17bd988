"""Every setting of dotsctl, read once, here: for the command line and for ``Client``.

Precedence: argument or flag, then environment (``DOTSCTL_*``), then the configuration file, then the default.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dotsctl.protocol.errors import UsageError


@dataclass(frozen=True)
class PluginChoice:
    """A plugin's name and its options, as in ``NAME:key=value,key=value``."""

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "PluginChoice":
        """Read ``NAME[:key=value,...]``; raises UsageError."""
        name, _, rest = text.partition(":")
        options: dict[str, str] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not (key and equals) or key in options:
                raise UsageError(f"{text!r}: {part!r} is not key=value, or given twice; write NAME:key=value,key=value")
            options[key] = value
        if not name:
            raise UsageError(f"{text!r} does not begin with the name of a plugin")
        return cls(name, options)

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


@dataclass(frozen=True)
class RuntimeConfig:
    """What a runtime process is started with; travels to it as JSON on the command line."""

    instance: str
    """Name of the runtime; its directory has this name."""
    model_name: str
    model: str
    """Path of the model directory; may be empty when both plugins are ``fake``."""
    encoder: PluginChoice
    decoder: PluginChoice
    credits: int = 2
    """Pages between the dispatch to the encoder and the decoder's ``Consumed``."""
    credit_bytes: int = 128 * 1024 * 1024
    """Bytes of embeddings in flight above which no further page is dispatched; one page may always pass."""
    load_timeout_s: float = 900.0
    """Longest silence of a worker that loads."""
    stall_timeout_s: float = 120.0
    """Longest silence of a worker that has work; then it is killed and its pages are tried again."""
    stopped_timeout_s: float = 10.0
    """Longest time for which a worker's process may be stopped (SIGSTOP); then it is killed and started again."""
    page_timeout_s: float = 1800.0
    """Longest time of one page from its first dispatch; then it fails."""
    max_starts: int = 5
    """Failed starts in a row after which a worker is given up."""
    backoff_s: float = 0.5
    """Pause before the first restart; doubles with each failure in a row, up to 30 s."""

    memory_bytes: int | None = None
    """What both workers may take together; none: no limit was set."""
    encoder_share: dict[str, str] = field(default_factory=dict)
    """Options that the limit makes for the encoder; those in ``encoder`` are stronger."""
    decoder_share: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The form in which it stands on the runtime's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RuntimeConfig":
        """Inverse of :meth:`to_json`."""
        content: dict[str, Any] = json.loads(text)
        for role in ("encoder", "decoder"):
            content[role] = PluginChoice(**content[role])
        return cls(**content)


def with_encoder(config: RuntimeConfig, choice: PluginChoice) -> RuntimeConfig:
    """The configuration with another encoder; a share of the memory limit is for the plugin that it was made for."""
    share = config.encoder_share if choice.name == config.encoder.name else {}
    return replace(config, encoder=choice, encoder_share=share)


def options_of(config: RuntimeConfig, role: str) -> tuple[PluginChoice, dict[str, str]]:
    """The plugin of a role, and its options: its share of the memory limit, and over that what the user chose."""
    choice, share = getattr(config, role), getattr(config, f"{role}_share")
    return choice, {**share, **choice.options}
