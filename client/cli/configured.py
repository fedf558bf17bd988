"""Options of a command that come from a table of the configuration files, checked as those of the command line are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from dotsctl.protocol.errors import UsageError

HELP = ("-h", "--help")
NOT_CONFIGURED = ("name", "verbose", "help")
"""Options of one call; settings are none of the table either."""


@dataclass(frozen=True)
class ConfiguredOption:
    """An option that a file sets."""

    option: click.Option
    value: Any
    """Converted by the type of the option."""
    path: Path
    """The file."""

    @property
    def key(self) -> str:
        """Return the name of the option in the file, as ``no-header-footer``."""
        return option_key(self.option)


class ConfiguredCommand(click.Command):
    """A command whose options may stand in the table of its name: ``[ocr]``."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Parse the arguments, with the values of the files as defaults. Raises UsageError for a wrong one."""
        if not set(HELP) & set(args):
            found = configured_options(self)
            extra["default_map"] = {str(each.option.name): each.value for each in found}
        return super().make_context(info_name, args, parent, **extra)


def option_key(option: click.Option) -> str:
    """Return the long name of an option without its dashes."""
    return max(option.opts, key=len).lstrip("-")


def configurable(command: click.Command) -> dict[str, click.Option]:
    """Return the options that a table may have, by their keys."""
    from dotsctl.client.settings.files import FILE_KEYS

    options = [each for each in command.params if isinstance(each, click.Option)]
    return {option_key(each): each for each in options if each.name not in (*FILE_KEYS, *NOT_CONFIGURED)}


def configured_options(command: click.Command, paths: Sequence[Path] | None = None) -> list[ConfiguredOption]:
    """Return the options of ``ocr`` that the files set, each from the strongest file that has it.

    Args:
        command: the command ``ocr``.
        paths: files, the strongest first; none: those of :func:`settings_paths`.

    Raises:
        UsageError: a file has an unknown key or a wrong value.
    """
    from dotsctl.client.settings.files import settings_paths

    found: dict[str, ConfiguredOption] = {}
    for path in settings_paths() if paths is None else paths:
        for each in _options_of(command, path):
            found.setdefault(each.key, each)
    return list(found.values())


def _options_of(command: click.Command, path: Path) -> Iterator[ConfiguredOption]:
    from dotsctl.client.settings.files import FILE_KEYS, read_settings

    known = configurable(command)
    for key, value in read_settings(path).ocr.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            remedy = f"write {key} above [{command.name}]" if key in FILE_KEYS else f"it may have {', '.join(known)}"
            raise UsageError(f"{path}: [{command.name}] has the unknown key {key!r}", remedy)
        yield ConfiguredOption(option, _converted(command, path, key, option, value), path)


def _converted(command: click.Command, path: Path, key: str, option: click.Option, value: Any) -> Any:
    """Return the value as the option takes it. Raises UsageError."""
    if option.is_flag != isinstance(value, bool) or not isinstance(value, bool | str | int | float):
        kind = "true or false" if option.is_flag else "a text or a number"
        raise UsageError(f"{path}: [{command.name}] {key} = {value!r} is not {kind}", f"write {key} = {kind}")
    try:
        return option.type_cast_value(click.Context(command), value)
    except click.BadParameter as error:
        raise UsageError(f"{path}: [{command.name}] {key}: {error.message}", "correct the value") from None
