"""The options of plugins, as in ``--encoder mlx:dtype=float16,pack_patches=2048``: declared once, read here for all.

A plugin declares a frozen dataclass::

    @dataclass(frozen=True)
    class DigestOptions:
        rows: int = option(1, "rows of a page", minimum=1)
        mode: str = option("fast", "way to compute", choices=("fast", "exact"))

Types are ``int``, ``float``, ``bool`` (on or off), ``str``, ``StrEnum``, ``Path`` (absolute where a plugin gets it),
``tuple[int, ...]`` (as 336+960), and each of these ``| None``. Checks of several options together stand in
``__post_init__``, which raises ValueError.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dotsctl.protocol.errors import UsageError

Options = TypeVar("Options")
SWITCH = {"on": True, "off": False}
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
DECLARED = "option"
"""Key of the metadata of a field."""


class MemoryPart(StrEnum):
    """A part of the memory that an option in MiB sets; ``--memory`` sets it where the user has not."""

    FREED = "freed"
    """Freed buffers that are kept for reuse."""
    KEYS = "keys"
    """Keys and values of all pages that are decoded together."""


@dataclass(frozen=True)
class OptionLimits:
    """The limits that an option declares in addition to its type and its default."""

    help: str = ""
    """A noun phrase."""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    shown_default: str = ""
    """The text for the default, where it is unknown before the model is loaded."""
    memory: MemoryPart | None = None


@dataclass(frozen=True)
class OptionFacts:
    """One option, for people and programs."""

    name: str
    limits: str
    """The values that it takes: ``on or off``, ``a whole number, at least 1``."""
    default: str
    help: str


def option(
    default: Any,
    help: str,  # as in click and argparse
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    shown_default: str = "",
    memory: MemoryPart | None = None,
) -> Any:
    """Return a dataclass field that is an option; see :class:`OptionLimits`."""
    limits = OptionLimits(help, tuple(choices), minimum, maximum, shown_default, memory)
    return field(default=default, metadata={DECLARED: limits})


def parse_options(cls: type[Options], texts: Mapping[str, str], plugin: str) -> Options:
    """Return the options that a user has written, as the plugin's dataclass.

    Args:
        cls: the dataclass; all its fields have defaults.
        texts: by name.
        plugin: role and name, for error texts.

    Raises:
        UsageError: an unknown name or a wrong value, with the limits and the remedy.
    """
    kinds = _kinds(cls)
    if unknown := [key for key in texts if key not in kinds]:
        raise _unknown(unknown[0], list(kinds), plugin)
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = _reader(kinds[key])(text, _limits(cls, key))
        except ValueError:
            facts = option_facts(cls)[key]
            raise UsageError(
                f"{plugin}: {key}={text!r} is not {facts.limits}",
                f"correct it, or leave {key} out (default: {facts.default}); 'dotsctl plugins' explains all options",
            ) from None
    try:
        return cls(**values)
    except ValueError as error:
        raise UsageError(f"{plugin}: {error}") from None


class UndeclaredOptions(UserDict[str, str]):
    """Options of a plugin that declares none: texts, and those that it has not looked up yet."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(texts)
        self.unread = set(texts)

    def __getitem__(self, key: str) -> str:
        self.unread.discard(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.unread -= {key}
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.unread.clear()
        return super().__iter__()


def require_all_read(options: Any, plugin: str) -> None:
    """Refuse an option that a plugin without declared options has not looked up while it was loaded.

    Raises:
        UsageError: there is one.
    """
    if isinstance(options, UndeclaredOptions) and options.unread:
        raise UsageError(
            f"{plugin} has no option {min(options.unread)!r}: it did not look it up while it was loaded",
            "correct it or leave it out; the plugin's own documentation has its options",
        )


def option_facts(cls: type[Any] | None) -> dict[str, OptionFacts]:
    """Return all options of a dataclass by name; of none: no options."""
    found = {}
    for each in dataclasses.fields(cls) if cls else ():
        limits, kind = _limits(cls, each.name), _kinds(cls)[each.name]
        default = limits.shown_default or _shown(each.default)
        found[each.name] = OptionFacts(each.name, _shown_limits(kind, limits), default, limits.help)
    return found


def path_options(cls: type[Any] | None) -> list[str]:
    """Return the names of the options that are paths."""
    return [each.name for each in dataclasses.fields(cls) if _kinds(cls)[each.name] is Path] if cls else []


def memory_options(cls: type[Any] | None) -> dict[MemoryPart, str]:
    """Return the options that set a part of the memory: their names by that part."""
    limits = [(each.name, _limits(cls, each.name)) for each in dataclasses.fields(cls)] if cls else []
    return {each.memory: name for name, each in limits if each.memory}


def _kinds(cls: Any) -> dict[str, Any]:
    """The type of each option without its ``None``."""
    hints = typing.get_type_hints(cls)
    return {each.name: _without_none(hints[each.name]) for each in dataclasses.fields(cls)}


def _without_none(declared: Any) -> Any:
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        (declared,) = (each for each in typing.get_args(declared) if each is not type(None))
    return declared


def _limits(cls: Any, name: str) -> OptionLimits:
    (metadata,) = (each.metadata for each in dataclasses.fields(cls) if each.name == name)
    limits: OptionLimits = metadata.get(DECLARED, OptionLimits())
    return limits


def _unknown(key: str, known: list[str], plugin: str) -> UsageError:
    if not known:
        return UsageError(f"{plugin} has no option {key!r}, as it takes none", "leave out everything behind the colon")
    alike = difflib.get_close_matches(key, known, 1)
    instead = f"write {alike[0]}" if alike else f"use {', '.join(known)}"
    return UsageError(f"{plugin} has no option {key!r}", f"{instead}; 'dotsctl plugins' explains all options")


def _reader(kind: Any) -> Callable[[str, OptionLimits], Any]:
    """Return the function that turns a text into a value of a type; it raises ValueError."""
    if typing.get_origin(kind) is tuple:
        return _read_sizes
    if kind is bool:
        return lambda text, _: SWITCH[text] if text in SWITCH else _refuse()
    if kind is int:
        return lambda text, limits: _within(int(text) if INTEGER.fullmatch(text) else _refuse(), limits)
    if kind is float:
        return lambda text, limits: _within(float(text), limits)
    if issubclass(kind, StrEnum | Path):
        return lambda text, _: kind(text or _refuse())
    return lambda text, limits: text if not limits.choices or text in limits.choices else _refuse()


def _read_sizes(text: str, limits: OptionLimits) -> tuple[int, ...]:
    parts = text.split("+")
    if not all(INTEGER.fullmatch(part) for part in parts):
        raise ValueError
    return tuple(sorted({int(_within(int(part), limits)) for part in parts}))


def _within(value: float, limits: OptionLimits) -> float:
    smallest = -math.inf if limits.minimum is None else limits.minimum
    largest = math.inf if limits.maximum is None else limits.maximum
    return value if math.isfinite(value) and smallest <= value <= largest else _refuse()


def _refuse() -> Any:
    raise ValueError


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return "+".join(map(str, default)) or "none"
    return "none" if default in (None, "") else str(default)


def _shown_limits(kind: Any, limits: OptionLimits) -> str:
    choices = limits.choices or (tuple(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ())
    if kind is bool or choices:
        *first, last = choices or tuple(SWITCH)
        return f"{', '.join(first)} or {last}" if first else str(last)
    if kind is str:
        return "text"
    if kind is Path:
        return "a path"
    if typing.get_origin(kind) is tuple:
        return "whole numbers joined by +, as 336+960"
    least, most = (f"{each:g}" if each is not None else "" for each in (limits.minimum, limits.maximum))
    span = (
        f"{least} to {most}" if least and most else f"at least {least}" if least else f"at most {most}" if most else ""
    )
    return ("a whole number" if kind is int else "a number") + (f", {span}" if span else "")
