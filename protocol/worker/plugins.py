"""Plugins as they are installed: what each states about itself, and how one is found by its name.

An entry point of ``dotsctl.encoders``, ``dotsctl.decoders`` or ``dotsctl.hints`` names a class. Its attribute
``description`` is a :class:`PluginDescription`; without it the plugin takes any option as text, and nothing is known
of its memory. The command line imports the module of a plugin that is chosen, so whatever is heavy is imported in
``load``.
"""

import contextlib
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dotsctl.protocol.errors import CommandFailedError, UsageError
from dotsctl.protocol.machine.memory import PROCESS_BYTES, Need
from dotsctl.protocol.parts import Device, Role
from dotsctl.protocol.worker.plugin_faults import import_errors, load_faults, location_of, raised
from dotsctl.protocol.worker.plugin_options import UndeclaredOptions, parse_options

if TYPE_CHECKING:  # a render process has no use for models
    from dotsctl.protocol.machine.identity import Machine
    from dotsctl.protocol.model.validation import CheckpointFacts

HINT: Literal["hint"] = "hint"
"""The role of plugins that guess the text of a page, see ``protocol/render/hint_plugin.py``."""
PluginRole: TypeAlias = Role | Literal["hint"]
PLUGIN_ROLES: tuple[PluginRole, ...] = (*Role, HINT)
METHODS: Mapping[PluginRole, tuple[str, ...]] = {
    Role.ENCODER: ("load", "encode", "close"),
    Role.DECODER: ("load", "has_room", "admit", "step", "cancel", "close"),
    HINT: ("load", "hint"),
}
OPTIONAL_METHODS: dict[PluginRole, tuple[str, ...]] = {Role.ENCODER: ("prepare",), Role.DECODER: ("prefill",), HINT: ()}
"""The methods that the contracts allow a plugin to leave out."""
BLIND = Need(encoder_bytes=0, decoder_bytes=0, small_page_bytes=PROCESS_BYTES)
"""Memory of a plugin that states none, or that has no model: its process alone."""


@dataclass(frozen=True)
class EncoderOffer:
    """A derived form of a model with which an encoder may read pages sooner than the encoder for all pages."""

    name: str
    options: Mapping[str, str]
    """Those with which the encoder uses it."""
    buckets: tuple[int, ...]
    """Page sizes that are not known to fail, in patches."""
    basis: str
    """Digest of the files, and versions of what loads them."""
    rank: tuple[float, float]
    """The smallest is tried first."""
    refused: str = ""
    """The reason why it cannot be used here; empty: no reason is known."""


@dataclass(frozen=True)
class EncoderOffers:
    """All offers of an encoder for one model on one machine."""

    offers: tuple[EncoderOffer, ...] = ()
    missing: str = ""
    """The reason why there are none, and the remedy; empty: the encoder never makes any on this machine."""
    failing: str = ""
    """The beginning of the message where all are refused, before the reasons."""
    size_option: str = ""
    """Option for the page sizes to load, as ``960+2016``."""
    device: Device = Device.CPU
    """Device that computes with them."""


@dataclass(frozen=True)
class PluginDescription:
    """The description that a plugin gives of itself before it is loaded. Everything may be left out."""

    help: str = ""
    """One line on what it does and where."""
    options: type[Any] | None = None
    """Frozen dataclass of its options, see ``plugin_options.py``: ``load`` gets one. None: ``load`` gets the texts, and
    has to look up all of them."""
    memory: "Callable[[CheckpointFacts, Any], Need] | None" = None
    """The function from a model and options to the memory of this half alone, its process included."""
    available: Callable[[Any], str] | None = None
    """The function from options to the reason why it cannot run here, and the remedy; an empty text: it can."""
    device: Callable[[Any], Device] | None = None
    """The function from options to the device that it computes on here; the handshake repeats it."""
    needs_model: bool = True
    """Whether it needs a model directory."""
    reads_pages: bool = True
    """Whether answers depend on what pages show; false: it only stands in for such a plugin."""
    tasks: Callable[[Path], Collection[str]] | None = None
    """The function from a model to the tasks of a decoder that has loaded it."""
    offers: "Callable[[Path, str, Machine], EncoderOffers] | None" = None
    """The function from model, fingerprint and machine to what ``--encoder auto`` may use of this encoder."""
    reads_document: bool = False
    """Whether a hint plugin reads the open document, and not the pixels of its pages."""
    turn: int | None = None
    """Place of a hint plugin among those that ``--hint auto`` tries, lowest first; none: only its name selects it."""
    smaller: str = ""
    """The way to make it take less memory, as an imperative."""


@dataclass(frozen=True)
class Plugin:
    """An installed plugin."""

    role: PluginRole
    name: str
    cls: Callable[[], Any]
    description: PluginDescription

    def __str__(self) -> str:
        return f"{self.role} {self.name!r}"

    def options(self, texts: Mapping[str, str]) -> Any:
        """Return the options that a user has written, in the form that ``load`` takes. Raises UsageError."""
        if (declared := self.description.options) is None:
            return UndeclaredOptions(texts)
        return parse_options(declared, texts, f"{self.role} {self.name}")

    def unavailable(self, texts: Mapping[str, str]) -> str:
        """Return why it cannot run here with these options; empty: nothing is known. Raises as :meth:`need` does."""
        options, available = self.options(texts), self.description.available
        with load_faults(str(self), "description.available"):
            return available(options) if available else ""

    def device_of(self, texts: Mapping[str, str]) -> Device:
        """Return the device that it is expected to compute on with these options. Raises as :meth:`need` does."""
        options, device = self.options(texts), self.description.device
        with load_faults(str(self), "description.device"):
            return device(options) if device else Device.CPU

    def need(self, facts: "CheckpointFacts | None", texts: Mapping[str, str]) -> Need:
        """Return the memory that it takes, as far as it is known before it runs.

        Args:
            facts: of the model; none: there is no model.
            texts: options as the user has written them.

        Raises:
            UsageError: an option is unknown or wrong.
            CommandFailedError: the plugin raises something else.
        """
        options, memory = self.options(texts), self.description.memory
        with load_faults(str(self), "description.memory"):
            return memory(facts, options) if facts and memory else BLIND


def installed(role: PluginRole) -> list[str]:
    """Return the names of all installed plugins of a role, sorted; nothing is imported."""
    return sorted(metadata.entry_points(group=_group(role)).names)


def find_plugin(role: PluginRole, name: str) -> Plugin:
    """Import a plugin.

    Raises:
        UsageError: there is none, or two distributions register the name.
        MissingError: something that the plugin imports is not installed.
        CommandFailedError: its import fails for another reason, or it is no plugin.
    """
    group = _group(role)
    entries = {(e.name, e.value, e.dist.name if e.dist else ""): e for e in metadata.entry_points(group=group)}
    named = [(value, dist, entry) for (key, value, dist), entry in entries.items() if key == name]
    if not named:
        raise UsageError(f"there is no plugin {name!r} in {group}", f"use one that is installed: {_known(role)}")
    if len(named) > 1:
        owners = " and ".join(f"{dist} ({value})" for value, dist, _ in named)
        raise UsageError(f"plugin {name!r} in {group} is registered by {owners}", "uninstall one")
    value, dist, entry = named[0]
    where = f"{role} {name!r} of {dist or 'an unnamed distribution'} ({value})"
    return described(role, name, _imported(entry, where), where)


def described(role: PluginRole, name: str, found: Any, where: str = "") -> Plugin:
    """Return a class as a plugin. Raises CommandFailedError for what is none; ``where`` names it."""
    where, remedy = where or f"{role} {name!r}", "repair it, or choose another one"
    if not isinstance(found, type):
        raise CommandFailedError(f"{where} is a {type(found).__name__}, not a class", remedy)
    if missing := [method for method in METHODS[role] if not callable(getattr(found, method, None))]:
        raise CommandFailedError(f"{where} has no method {missing[0]}", remedy)
    for method in OPTIONAL_METHODS[role]:
        if not callable(getattr(found, method, len)):
            raise CommandFailedError(f"{where}: {method} is no method", remedy)
    description = getattr(found, "description", PluginDescription())
    if not isinstance(description, PluginDescription):
        kind = type(description).__name__
        raise CommandFailedError(f"{where}: description is a {kind}, not a PluginDescription", remedy)
    return Plugin(role, name, found, description)


def _imported(entry: metadata.EntryPoint, where: str) -> Any:
    """Return what an entry point names; whatever its import prints goes to standard error."""
    with import_errors(where), contextlib.redirect_stdout(sys.stderr):
        try:
            return entry.load()
        except ImportError:
            raise
        except (Exception, SystemExit) as error:  # the code of others may raise anything
            raise CommandFailedError(
                f"{where} {raised(error)} when it is imported{location_of(error)}",
                "repair it, uninstall it, or choose another one",
            ) from error


def _known(role: PluginRole) -> str:
    return ", ".join(installed(role)) or "none"


def _group(role: PluginRole) -> str:
    return f"dotsctl.{role}s"
