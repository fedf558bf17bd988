"""Every setting of dotsctl, read once, here: for the command line and for ``Client``.

Precedence: argument or flag, then environment (``DOTSCTL_*``), then the configuration file, then the default.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dotsctl.client.settings.defaults import AUTO
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.parts import Device
from dotsctl.protocol.render.opening import DEFAULT_TIMEOUT_S


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
                raise UsageError(
                    f"{text!r}: {part!r} is not key=value, or given twice", "write NAME:key=value,key=value"
                )
            options[key] = value
        if not name:
            raise UsageError(f"{text!r} does not begin with the name of a plugin")
        return cls(name, options)

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


@dataclass(frozen=True)
class AutoEncoders:
    """Lets the runtime choose between ``encoder`` and the one in ``further_encoders`` for pages that request none.

    The first takes pages of any size, the other one only those that fit its page sizes.
    """

    refused: str = ""
    """The reason why there is no second encoder; empty: there is one."""
    limits: PixelLimits = field(default_factory=PixelLimits)
    """Fewest and most pixels of a page that the model takes."""
    buckets: tuple[int, ...] = ()
    """Page sizes of the second encoder, in patches; empty: not known before it is loaded, or any size."""
    devices: tuple[Device, Device] = (Device.CPU, Device.CPU)
    """The devices of both; what is reported of an encoder that is not loaded."""
    preferences: tuple[Preference, ...] = ()
    """Comparisons of the two on this machine, made earlier."""
    basis: str = ""
    """Files and versions of the second encoder, for which new comparisons will hold."""
    size_option: str = ""
    """Option of the second encoder for the page sizes to load, as ``960+2016``; empty: it loads all."""
    idle_s: float = 300.0
    """Seconds without a page after which the encoder that is needed less is unloaded."""

    def line(self, first: PluginChoice, alternative: PluginChoice | None = None) -> str:
        """One line of text about what ``auto`` does with these encoders."""
        if alternative is None or self.refused:
            return f"{first}; {self.refused}"
        if taken := [str(each) for each in self.preferences if each.is_faster]:
            return f"{alternative} {', '.join(taken)}; {first} reads all others"
        return f"{first}; {alternative} loads in the background and then reads the pages that it reads faster"

    @property
    def is_proved(self) -> bool:
        """Return whether the second encoder reads pages of some size sooner; then it is loaded first."""
        return any(preference.is_faster for preference in self.preferences)


@dataclass(frozen=True)
class RuntimeConfig:
    """The configuration that a runtime process is started with; travels to it as JSON on the command line."""

    instance: str
    """Name of the runtime; its directory has this name."""
    model_name: str
    model: str
    """Path of the model directory; empty where no plugin needs one."""
    encoder: PluginChoice
    decoder: PluginChoice
    further_encoders: tuple[PluginChoice, ...] = ()
    """The additional encoders, for pages that request them."""
    auto: AutoEncoders | None = None
    """The choice between two encoders; none: pages that request none go to the first one."""
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
    render_timeout_s: float = DEFAULT_TIMEOUT_S
    """Longest time for which a page may be rendered or decoded, by the client or by an encoder that gets a file."""
    readiness_page: bool = True
    """Whether plugins that read pages must read the readiness page before they get pages of clients."""
    max_starts: int = 5
    """Failed starts in a row after which a worker is given up."""
    backoff_s: float = 0.5
    """Pause before the first restart; doubles with each failure in a row, up to 30 s."""

    memory_bytes: int | None = None
    """The memory limit of all workers together; none: no limit was set."""
    encoder_share: dict[str, dict[str, str]] = field(default_factory=dict)
    """Options by plugin that the limit makes for each encoder; those that the user chose are stronger."""
    decoder_share: dict[str, str] = field(default_factory=dict)

    @property
    def encoders(self) -> tuple[PluginChoice, ...]:
        """All of them, in the order of their slots."""
        return (self.encoder, *self.further_encoders)

    @property
    def encoder_name(self) -> str:
        """The encoder of pages that request none: ``auto`` where the runtime may choose, else the first one."""
        return AUTO if self.auto else str(self.encoder)

    @property
    def auto_line(self) -> str:
        """One line on what ``auto`` does here; empty where there is nothing to choose."""
        return f"encoder auto: {self.auto.line(self.encoder, *self.further_encoders)}" if self.auto else ""

    def to_json(self) -> str:
        """The form that it has on the runtime's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RuntimeConfig":
        """Inverse of :meth:`to_json`."""
        content: dict[str, Any] = json.loads(text)
        for role in ("encoder", "decoder"):
            content[role] = PluginChoice(**content[role])
        content["further_encoders"] = tuple(PluginChoice(**each) for each in content["further_encoders"])
        if (auto := content["auto"]) is not None:
            auto["limits"], auto["buckets"] = PixelLimits(**auto["limits"]), tuple(auto["buckets"])
            auto["devices"] = tuple(map(Device, auto["devices"]))
            auto["preferences"] = tuple(Preference(**each) for each in auto["preferences"])
            content["auto"] = AutoEncoders(**auto)
        return cls(**content)


def with_encoder(config: RuntimeConfig, choice: PluginChoice, index: int = 0) -> RuntimeConfig:
    """The configuration with another encoder in one slot."""
    encoders = list(config.encoders)
    encoders[index] = choice
    return replace(config, encoder=encoders[0], further_encoders=tuple(encoders[1:]))


def encoder_options(config: RuntimeConfig, index: int) -> tuple[PluginChoice, dict[str, str]]:
    """Return an encoder and its options: its share of the memory limit, and over that what the user chose."""
    choice = config.encoders[index]
    return choice, {**config.encoder_share.get(choice.name, {}), **choice.options}


def decoder_options(config: RuntimeConfig) -> tuple[PluginChoice, dict[str, str]]:
    """The decoder, and its options; see :func:`encoder_options`."""
    return config.decoder, {**config.decoder_share, **config.decoder.options}
