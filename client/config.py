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
    further_encoders: tuple[PluginChoice, ...] = ()
    """Those that stand beside the first one, for pages that ask for them."""
    credits: int = 2
    """Pages of each encoder between the dispatch to it and the decoder's ``Consumed``."""
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
    """What the workers may take together; none: no limit was set."""
    encoder_share: dict[str, dict[str, str]] = field(default_factory=dict)
    """Options by plugin that the limit makes for each encoder; those that the user chose are stronger."""
    decoder_share: dict[str, str] = field(default_factory=dict)

    @property
    def encoders(self) -> tuple[PluginChoice, ...]:
        """All of them, by their places."""
        return (self.encoder, *self.further_encoders)

    def to_json(self) -> str:
        """The form in which it stands on the runtime's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RuntimeConfig":
        """Inverse of :meth:`to_json`."""
        content: dict[str, Any] = json.loads(text)
        for role in ("encoder", "decoder"):
            content[role] = PluginChoice(**content[role])
        content["further_encoders"] = tuple(PluginChoice(**each) for each in content["further_encoders"])
        return cls(**content)


def with_encoder(config: RuntimeConfig, choice: PluginChoice, place: int = 0) -> RuntimeConfig:
    """The configuration with another encoder in one place."""
    encoders = list(config.encoders)
    encoders[place] = choice
    return replace(config, encoder=encoders[0], further_encoders=tuple(encoders[1:]))


def encoder_options(config: RuntimeConfig, place: int) -> tuple[PluginChoice, dict[str, str]]:
    """An encoder, and its options: its share of the memory limit, and over that what the user chose."""
    choice = config.encoders[place]
    return choice, {**config.encoder_share.get(choice.name, {}), **choice.options}


def decoder_options(config: RuntimeConfig) -> tuple[PluginChoice, dict[str, str]]:
    """The decoder, and its options; see :func:`encoder_options`."""
    return config.decoder, {**config.decoder_share, **config.decoder.options}
