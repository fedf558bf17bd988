"""Process shell of the decoder worker: arguments, plugin, warm-up, exit code."""

import logging
import os
import sys
import time
from pathlib import Path

from dotsctl import __version__
from dotsctl.decoder_worker.loading import close, load_decoder
from dotsctl.decoder_worker.plugin import Decoder, DecoderSpec
from dotsctl.decoder_worker.service import DecoderService
from dotsctl.decoder_worker.sockets import DecoderSockets
from dotsctl.protocol import release
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import DotsctlError, ExitCode
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Configure, Ready
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import Plugin, find_plugin
from dotsctl.protocol.worker.shell import START_AGAIN, Control, prepare_process, read_arguments

log = logging.getLogger(__name__)


def main() -> None:
    """Run one decoder worker and exit."""
    arguments = read_arguments(Role.DECODER)
    prepare_process(arguments)
    links = Links()
    control = Control(links, arguments, Role.DECODER)
    configure = control.handshake(release(__version__))
    try:
        plugin, decoder, spec, load_s = load(configure, control)
        here = Path.cwd()  # the folder of the instance
        endpoint = InstanceDirectory(here.name, here).data_endpoint(arguments.epoch)
        pull = links.pull(endpoint)
    except DotsctlError as error:
        control.load_failed(error)
        links.wait(5.0, [control.link])  # sockets drop unsent messages when they close
        sys.exit(error.exit_code)
    except RuntimeError:  # the GPU refuses work from this process
        log.exception("%s", configure.plugin)
        sys.exit(START_AGAIN)
    reads = plugin.description.reads_pages
    facts = (spec.fingerprint, spec.width, endpoint, spec.capacity, spec.tasks, load_s)
    control.ready(Ready(*facts, device=spec.device, reads_pages=reads))
    sockets = DecoderSockets(links, control, pull, spec.width)
    sockets.start()
    try:
        DecoderService(sockets, decoder, str(plugin)).run()
    finally:
        close(plugin, decoder)
    # The I/O thread still owns the sockets, so the process ends without tearing them down.
    os._exit(ExitCode.OK)


def load(configure: Configure, control: Control) -> tuple[Plugin, Decoder, DecoderSpec, float]:
    """Import the plugin and load the model; the plugin decodes its own warm-up page.

    Raises:
        DotsctlError: the plugin cannot be used, and another start would not help.
    """
    started = time.monotonic()
    plugin = find_plugin(Role.DECODER, configure.plugin)
    decoder, spec = load_decoder(plugin, Path(configure.model), configure.options, control.report)
    return plugin, decoder, spec, time.monotonic() - started
