"""Loads an encoder plugin and gives it its first page, in the worker and in tools; a faulty plugin ends here."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from dotsctl.encoder_worker.checks import check_spec, checked
from dotsctl.encoder_worker.plugin import Encoder, EncoderSpec, PageImage, Report, encode_images
from dotsctl.protocol.worker.plugin_faults import load_faults
from dotsctl.protocol.worker.plugin_options import require_all_read
from dotsctl.protocol.worker.plugins import Plugin

log = logging.getLogger(__name__)

WARM_UP_PX = 56


def load_encoder(plugin: Plugin, model: Path, texts: Mapping[str, str], report: Report) -> tuple[Encoder, EncoderSpec]:
    """Return an encoder that has loaded the model and encoded a tiny page, and what it announced.

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
        encoder: Encoder = plugin.cls()
    try:
        with load_faults(str(plugin), "load"):
            spec = encoder.load(model, options, report)
            check_spec(spec)
        report("warm-up page")
        require_all_read(options, str(plugin))
        with load_faults(str(plugin), "the warm-up page"):
            checked(encode_images(encoder, [blank_page()]), 1, spec)
    except BaseException:  # the contract: closed once, also after a failed load
        close(plugin, encoder)
        raise
    return encoder, spec


def close(plugin: Plugin, encoder: Encoder) -> None:
    """Free an encoder; what it raises meanwhile is only logged."""
    try:
        encoder.close()
    except (Exception, SystemExit):
        log.exception("%s, close", plugin)


def blank_page() -> PageImage:
    """Return a white page of the smallest size that every model takes."""
    return PageImage(None, np.full((WARM_UP_PX, WARM_UP_PX, 3), 255, np.uint8), None)
