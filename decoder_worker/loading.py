"""Loads a decoder plugin, in the worker and in tools; a faulty plugin ends here."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotsctl.decoder_worker.plugin import Decoder, DecoderSpec, Report
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.worker.plugin_faults import REMEDY, load_faults
from dotsctl.protocol.worker.plugin_options import require_all_read
from dotsctl.protocol.worker.plugins import Plugin

log = logging.getLogger(__name__)


def load_decoder(plugin: Plugin, model: Path, texts: Mapping[str, str], report: Report) -> tuple[Decoder, DecoderSpec]:
    """Return a decoder that has loaded the model and decoded its own warm-up page, and what it announced.

    Args:
        plugin: the plugin.
        model: the model directory.
        texts: options as the user has written them.
        report: receives the progress.

    Raises:
        UsageError: an option is unknown or wrong.
        MissingError: a dependency or a file is missing.
        CommandFailedError: the plugin raises something else, or answers wrongly.
    """
    options = plugin.options(texts)
    with load_faults(str(plugin), "its constructor"):
        decoder: Decoder = plugin.cls()
    try:
        with load_faults(str(plugin), "load"):
            spec = decoder.load(model, options, report)
            if problem := _problem(spec):
                raise CommandFailedError(f"{plugin} fails on load: {problem}", REMEDY)
        require_all_read(options, str(plugin))
    except BaseException:  # the contract: closed once, also after a failed load
        close(plugin, decoder)
        raise
    return decoder, spec


def close(plugin: Plugin, decoder: Decoder) -> None:
    """Free a decoder; what it raises meanwhile is only logged."""
    try:
        decoder.close()
    except (Exception, SystemExit):
        log.exception("%s, close", plugin)


def _problem(spec: Any) -> str:
    """Return the fault of what ``load`` returned; empty: none."""
    if not isinstance(spec, DecoderSpec):
        return f"it returned {'None' if spec is None else type(spec).__name__}, not a DecoderSpec"
    for name in ("width", "capacity"):
        value = getattr(spec, name)
        if type(value) is not int or value < 1:
            return f"DecoderSpec has {name} {value!r}, not a positive whole number"
    if not (isinstance(spec.tasks, tuple) and spec.tasks and all(isinstance(task, str) for task in spec.tasks)):
        return f"DecoderSpec has tasks {spec.tasks!r:.60}, not a tuple of names"
    if not (isinstance(spec.fingerprint, str) and spec.fingerprint):
        return f"DecoderSpec has fingerprint {spec.fingerprint!r}, not the text that identifies the model"
    return ""
