"""Completion in a shell: the types of arguments that can be completed, and the command that prints the script."""

from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class
from dotsctl.client.cli.printing import print_text

SHELLS = ("zsh", "bash", "fish")
VARIABLE = "_DOTSCTL_COMPLETE"
"""Environment variable by which the script of a shell asks for completions."""


class Word(click.ParamType[str]):
    """An argument that is taken as it is; a shell completes it from a list."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word as text; a configuration file may have written a number."""
        return str(value)

    def known(self) -> Iterable[str]:
        """Return the words that are offered."""
        return ()

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the known words that begin with what was typed."""
        return [CompletionItem(word) for word in self.known() if word.startswith(incomplete)]


class PathWord(Word):
    """A file or a folder."""

    def __init__(self, kind: str = "file") -> None:
        """``kind``: ``file``, or ``dir`` where only a folder is meant."""
        self._kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type=self._kind)]


class ModelWord(Word):
    """An installed model, the demo model, or the folder of a checkpoint."""

    def known(self) -> Iterable[str]:
        """Return the installed models."""
        from dotsctl.protocol.model.directory import DEMO, installed_models

        return [*installed_models(), DEMO]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a path where one was begun, or where no model has such a name."""
        found = [] if incomplete.startswith((".", "/", "~")) else super().shell_complete(ctx, param, incomplete)
        return found or [CompletionItem(incomplete, type="dir")]


class PluginWord(Word):
    """A plugin with its options, ``NAME[:KEY=VALUE,...]``."""

    def __init__(self, *roles: str, further: Iterable[str] = ()) -> None:
        """``roles``: ``encoder``, ``decoder``, ``hint``; ``further``: names that are no plugin, as ``auto``."""
        self._roles, self._further = roles, further

    def known(self) -> Iterable[str]:
        """Return the installed plugins."""
        from dotsctl.protocol.worker.plugins import PLUGIN_ROLES, installed

        roles = [role for role in PLUGIN_ROLES if role in self._roles]
        return [*self._further, *sorted({name for role in roles for name in installed(role)})]


class HintWord(PluginWord):
    """A hint plugin, a file or a folder."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a path where no plugin has such a name."""
        return super().shell_complete(ctx, param, incomplete) or [CompletionItem(incomplete, type="file")]


class TaskWord(Word):
    """A task."""

    def known(self) -> Iterable[str]:
        """Return the tasks of all models."""
        from dotsctl.protocol.model.tasks import TASKS

        return TASKS


class RuntimeWord(Word):
    """The name of a runtime."""

    def known(self) -> Iterable[str]:
        """Return the runtimes of this user, running or not."""
        from dotsctl.protocol.endpoints import instances

        return [each.name for each in instances()]


FILE, FOLDER, MODEL, RUNTIME, TASK = PathWord(), PathWord("dir"), ModelWord(), RuntimeWord(), TaskWord()
ENCODER, DECODER = PluginWord("encoder", further=("auto",)), PluginWord("decoder")
PLUGIN, HINT = PluginWord("encoder", "decoder"), HintWord("hint", further=("auto", "none"))


@click.command(short_help="Print a script that completes words in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes words in a shell.

    It completes commands, files, models, plugins, tasks and runtimes.

    \b
    Examples:
      eval "$(dotsctl completion zsh)"                                       in ~/.zshrc
      eval "$(dotsctl completion bash)"                                      in ~/.bashrc
      dotsctl completion fish > ~/.config/fish/completions/dotsctl.fish      once
    """
    found: Any = get_completion_class(shell)
    print_text(found(ctx.find_root().command, {}, "dotsctl", VARIABLE).source() + "\n")
