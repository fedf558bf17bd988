"""The output of ``dotsctl plugins``: encoders, decoders and hints, their options, and whether they can run here."""

import json
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.worker.plugin_options import OptionFacts, option_facts
from dotsctl.protocol.worker.plugins import HINT, PLUGIN_ROLES, Plugin, PluginRole, find_plugin, installed

LONGEST_LINE = 100


@dataclass(frozen=True)
class PluginFacts:
    """One installed plugin."""

    name: str
    help: str = ""
    problem: str = ""
    """The reason why it cannot run here with its default options, and the remedy; empty: no reason is known."""
    device: str = ""
    """Device that it computes on here."""
    needs_model: bool = True
    reads_pages: bool = True
    takes_any_option: bool = False
    """Whether it declares no options, and checks the texts itself."""
    options: tuple[OptionFacts, ...] = ()


def plugin_facts(role: PluginRole) -> list[PluginFacts]:
    """Return the facts of all installed plugins of a role; one that cannot be imported has the reason."""
    found = []
    for name in installed(role):
        try:
            found.append(_facts(find_plugin(role, name)))
        except DotsctlError as error:
            found.append(PluginFacts(name, problem=str(error)))
    return found


def _facts(plugin: Plugin) -> PluginFacts:
    about = plugin.description
    return PluginFacts(
        plugin.name,
        about.help,
        plugin.unavailable({}),
        str(plugin.device_of({})) if about.device else "",
        about.needs_model,
        about.reads_pages,
        about.options is None and plugin.role != HINT,
        tuple(option_facts(about.options).values()),
    )


def render_plugins(as_json: bool) -> str:
    """Return the facts of all plugins, for people or as one JSON object."""
    facts = {f"{role}s": plugin_facts(role) for role in PLUGIN_ROLES}
    if as_json:
        return json.dumps({role: list(map(asdict, each)) for role, each in facts.items()}, indent=2) + "\n"
    width = min(LONGEST_LINE, shutil.get_terminal_size().columns)
    return "\n".join(line for role in PLUGIN_ROLES for line in _lines(role, facts[f"{role}s"], width)) + "\n"


def _lines(role: PluginRole, plugins: list[PluginFacts], width: int) -> Iterator[str]:
    with_options = "" if role == HINT else f" or --{role} NAME:option=value,option=value"
    yield f"{role}s: --{role} NAME{with_options}"
    for plugin in plugins:
        yield from _wrapped(f"{plugin.name:<8} {plugin.help}".rstrip(), 2, width)
        yield from _wrapped(_state(plugin), 11, width)
        if plugin.takes_any_option and not plugin.problem:
            yield from _wrapped("declares no options; its own documentation has them", 11, width)
        for each in plugin.options:
            yield from _wrapped(f"{each.name}: {each.help} [{each.limits}; default: {each.default}]", 11, width)
    yield ""


def _state(plugin: PluginFacts) -> str:
    if plugin.problem:
        return f"cannot run here: {plugin.problem}"
    device = f" on the {plugin.device.upper()}" if plugin.device else ""
    return f"runs here{device}" + ("" if plugin.needs_model else ", without a model")


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    later = " " * max(indent, 11) + "  " * (indent > 2)
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
