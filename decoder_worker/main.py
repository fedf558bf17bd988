"""Process shell of the decoder worker: arguments, plugin, warm-up, exit code."""

import logging
import os
import sys
import time
from pathlib import Path

from dotsctl import __version__
from dotsctl.decoder_worker.gathering import Gathering
from dotsctl.decoder_worker.loading import close, load_decoder
from dotsctl.decoder_worker.plugin import Decoder, DecoderSpec
from dotsctl.decoder_worker.service import DecoderService
from dotsctl.decoder_worker.sockets import DecoderSockets
from dotsctl.protocol import release
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import DotsctlError, ExitCode
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Configure, Ready
from dotsctl.protocol.parts import Device, Role
from dotsctl.protocol.worker.blas import WORKERS, usable_cores
from dotsctl.protocol.worker.gpu_faults import is_gpu_fault, note_faults
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
    except RuntimeError:  # macOS ended or refused work on the GPU
        log.exception("%s", configure.plugin)
        sys.exit(START_AGAIN)
    reads = plugin.description.reads_pages
    facts = (spec.fingerprint, spec.width, endpoint, spec.capacity, spec.tasks, load_s)
    control.ready(Ready(*facts, device=spec.device, reads_pages=reads))
    is_exclusive = spec.device is not Device.CPU or usable_cores() < WORKERS
    gathering = Gathering.on(spec.capacity, is_exclusive=is_exclusive)
    sockets = DecoderSockets(links, control, pull, spec.width)
    sockets.start()
    code: int = ExitCode.OK
    try:
        DecoderService(sockets, decoder, str(plugin), gathering).run()
    except RuntimeError as error:
        if not is_gpu_fault(error):
            raise
        log.exception("%s", plugin)
        code = START_AGAIN
    finally:
        close(plugin, decoder)
    # The I/O thread still owns the sockets, so the process ends without tearing them down.
    os._exit(code)


def load(configure: Configure, control: Control) -> tuple[Plugin, Decoder, DecoderSpec, float]:
    """Import the plugin and load the model; the plugin decodes its own warm-up page.

    Raises:
        DotsctlError: the plugin cannot be used, and another start would not help.
    """
    started = time.monotonic()
    note_faults(configure.gpu_faults)
    plugin = find_plugin(Role.DECODER, configure.plugin)
    decoder, spec = load_decoder(plugin, Path(configure.model), configure.options, control.report)
    return plugin, decoder, spec, time.monotonic() - started
