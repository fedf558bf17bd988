"""The output and the questions of ``dotsctl ls``, ``show`` and ``rm``."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from dotsctl.client.files.sizes import size_text, tree_bytes
from dotsctl.client.models.facts import (
    LocalModel,
    leftovers,
    local_model,
    local_models,
    tensor_facts,
    unused_derived,
)
from dotsctl.client.models.record import RECORD
from dotsctl.client.models.removal import Removal, carry_out, plan_removal, plan_unused
from dotsctl.client.settings.choices import choose
from dotsctl.protocol.errors import CommandFailedError, UsageError
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.directory import DEMO, find_model, installed_models, models_directory
from dotsctl.protocol.model.tasks import PROMPTS, read_own_prompts
from dotsctl.protocol.model.weights import HalfFacts
from dotsctl.protocol.parts import Role

SHORT_DIGITS = 12
"""The digits of fingerprints and commits that are shown."""


def list_models(as_json: bool) -> str:
    """Return the models of this machine, unfinished downloads, unused derived files, and the default model."""
    models, default = local_models(), default_model()
    known = {model.fingerprint for model in models if model.fingerprint}
    unused = unused_derived(known) if len(known) and all(model.fingerprint for model in models) else []
    if as_json:
        content = {
            "folder": str(models_directory()),
            "default": default,
            "models": [{**_facts(model), "default": model.name == default} for model in models],
            "unfinished": [_sized(path) for path in leftovers()],
            "unused_derived": [_sized(path) for path in unused],
        }
        return json.dumps(content, indent=2) + "\n"
    rows: list[tuple[str, ...]] = [("", "NAME", "SIZE", "DERIVED", "FROM", "FINGERPRINT")]
    rows += [_row(model, "*" if model.name == default else "") for model in models]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_remarks(leftovers(), unused), ""])


def default_model() -> str | None:
    """Name or path of the model that is used without ``--model``; none where the user has to choose."""
    chosen = choose().model
    installed = installed_models()
    return chosen or (installed[0] if len(installed) == 1 else None)


def _row(model: LocalModel, mark: str) -> tuple[str, ...]:
    derived = size_text(sum(each.size_bytes for each in model.derived)) if model.derived else "-"
    known = model.fingerprint is not None
    return (
        mark,
        model.name,
        size_text(model.size_bytes),
        derived if known else "?",
        _origin(model),
        model.fingerprint[:SHORT_DIGITS] if model.fingerprint else "?",
    )


def _origin(model: LocalModel) -> str:
    if model.record:
        return f"{model.record.repo}@{model.record.commit[:SHORT_DIGITS]}"
    if model.link:
        return f"link to {model.link}"
    return "ships with dotsctl" if model.name == DEMO else "-"


def _remarks(unfinished: list[Path], unused: list[Path]) -> Iterator[str]:
    for path in unfinished:
        name = path.name[1:].rpartition(".")[0]
        yield f"unfinished: {path.name}, {size_text(tree_bytes(path))}; 'dotsctl rm {name}' removes it"
    if unused:
        size = size_text(sum(map(tree_bytes, unused)))
        yield f"derived from models that are no longer installed: {size}; 'dotsctl rm --unused' removes it"


def _sized(path: Path) -> dict[str, Any]:
    return {"path": str(path), "size_bytes": tree_bytes(path)}


def _facts(model: LocalModel) -> dict[str, Any]:
    record = model.record
    return {
        "name": model.name,
        "path": str(model.folder),
        "link_to": str(model.link) if model.link else None,
        "size_bytes": model.size_bytes,
        "fingerprint": model.fingerprint,
        "repo": record.repo if record else None,
        "commit": record.commit if record else None,
        "licence": record.licence if record else None,
        "date": record.date if record else None,
        "derived": [{"name": each.name, "size_bytes": each.size_bytes} for each in model.derived]
        if model.fingerprint
        else None,
    }


def show_model(chosen: str, as_json: bool) -> str:
    """Everything about one model; reads its weights once, for the fingerprint.

    Raises:
        MissingError: there is no such model, or a file of it is damaged.
    """
    name, folder = find_model(chosen)
    listed = models_directory() / name
    model = local_model(name, listed if chosen == name and listed.is_symlink() else folder, hashing=True)
    config = read_json(folder, "config.json")
    tensors, tasks = tensor_facts(folder, config), _tasks(model)
    if as_json:
        content = {**_facts(model), **_inside(folder, config), "tasks": tasks}
        return json.dumps({**content, **_counted(tensors)}, indent=2) + "\n"
    lines = [*_where(model), *_what(folder, config, tensors), *_offers(tasks), *_made(model)]
    return "".join(f"{label:<12} {text}\n" for label, text in lines)


def _tasks(model: LocalModel) -> dict[str, str]:
    """Return where the prompt of each task comes from."""
    own = (model.record.prompts if model.record else "") or PROMPTS
    return {task: own if text is not None else "dotsctl" for task, text in read_own_prompts(model.folder).items()}


def _inside(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Sizes of the network, as its configuration states them; what it does not state is left out."""
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, dict) else {}
    pixels = read_json(folder, "preprocessor_config.json") if (folder / "preprocessor_config.json").is_file() else {}
    stated = {
        "encoder_layers": vision.get("num_hidden_layers"),
        "encoder_width": vision.get("embed_dim"),
        "encoder_heads": vision.get("num_attention_heads"),
        "patch_size_px": vision.get("patch_size"),
        "decoder_layers": config.get("num_hidden_layers"),
        "decoder_width": config.get("hidden_size"),
        "decoder_heads": config.get("num_attention_heads"),
        "vocabulary": config.get("vocab_size"),
        "context_tokens": config.get("max_position_embeddings"),
        "min_pixels": pixels.get("min_pixels"),
        "max_pixels": pixels.get("max_pixels"),
    }
    return {key: value for key, value in stated.items() if value is not None}


def _counted(halves: dict[Role, HalfFacts]) -> dict[str, Any]:
    counted = {f"{half}_parameters": facts.parameters for half, facts in halves.items()}
    sizes = {f"{half}_bytes": facts.size_bytes for half, facts in halves.items()}
    return {**counted, **sizes, "parameters_by_type": _kinds(halves)}


def _kinds(halves: dict[Role, HalfFacts]) -> dict[str, int]:
    """Weights by the way they are stored, in both halves."""
    found: Counter[str] = Counter()
    for facts in halves.values():
        found.update(facts.kinds)
    return dict(found)


def _where(model: LocalModel) -> Iterator[tuple[str, str]]:
    yield "name", model.name
    yield "path", f"{model.folder}" + (f" -> {model.link}" if model.link else "")
    yield "size", size_text(model.size_bytes)
    yield "fingerprint", model.fingerprint or "?"
    if record := model.record:
        yield "from", f"{record.repo}@{record.commit}, pulled {record.date}"
        yield "licence", record.licence or "none stated; see the files in its folder"
    elif model.name != DEMO:
        yield "from", f"unknown (not pulled: it has no {RECORD})"


def _what(folder: Path, config: dict[str, Any], halves: dict[Role, HalfFacts]) -> Iterator[tuple[str, str]]:
    together = sum(facts.parameters for facts in halves.values())
    parts = [f"{half} {_count(facts.parameters)} ({size_text(facts.size_bytes)})" for half, facts in halves.items()]
    yield "parameters", f"{', '.join(parts)}, together {_count(together)}"
    types = sorted(_kinds(halves).items(), key=lambda each: -each[1])
    yield "type", ", ".join(f"{name} {number / together:.0%}" if number < together else name for name, number in types)
    inside = _inside(folder, config)
    for half in ("encoder", "decoder"):
        size = {key: inside.get(f"{half}_{key}", "?") for key in ("layers", "width", "heads")}
        yield half, f"{size['layers']} layers of width {size['width']}, {size['heads']} heads"
    yield "pages", f"{inside.get('min_pixels', '?')} to {inside.get('max_pixels', '?')} pixels"
    yield "context", f"{inside.get('context_tokens', '?')} tokens"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.2f} M"


def _offers(tasks: dict[str, str]) -> Iterator[tuple[str, str]]:
    for number, source in enumerate(sorted(set(tasks.values()), key=lambda each: each == "dotsctl")):
        yield (
            "" if number else "tasks",
            f"{', '.join(t for t, each in tasks.items() if each == source)} (prompts: {source})",
        )


def _made(model: LocalModel) -> Iterator[tuple[str, str]]:
    yield "derived", ", ".join(f"{each.name}, {size_text(each.size_bytes)}" for each in model.derived) or "nothing"


def remove(chosen: str | None, *, derived_only: bool, unused: bool, yes: bool) -> None:
    """Remove a model with the files derived from it, or files derived from models that are gone.

    Raises:
        UsageError: not exactly one of the two was chosen, or there is no terminal to confirm it.
        CommandFailedError: the user does not agree, the model is in use, or it cannot be removed.
    """
    if (chosen is None) != unused or (unused and derived_only):
        raise UsageError("give the NAME of a model, or --unused alone")
    removal = plan_removal(chosen, derived_only=derived_only) if chosen else plan_unused()
    if not removal.paths:
        click.echo("there is nothing to remove", err=True)
        return
    if not yes:
        _ask(removal)
    carry_out(removal)
    click.echo(f"freed {size_text(removal.size_bytes)}", err=True)


def _ask(removal: Removal) -> None:
    """Return if the user agrees."""
    shown = [f"  {path}" + (" (a link; its target stays)" if path.is_symlink() else "") for path in removal.paths]
    click.echo("\n".join(["this will be removed:", *shown]), err=True)
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: standard input is not a terminal", "pass --yes to remove it")
    if not click.confirm(f"Remove {size_text(removal.size_bytes)}?", err=True):
        raise CommandFailedError("nothing was removed")
