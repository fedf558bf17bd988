"""Process shell of the decoder worker: arguments, plugin, warm-up, exit code."""

import os
import sys
import time
from pathlib import Path

from dotsctl import __version__
from dotsctl.decoder_worker.plugin import Decoder, DecoderSpec
from dotsctl.decoder_worker.service import DecoderService
from dotsctl.decoder_worker.sockets import DecoderSockets
from dotsctl.protocol.errors import DotsctlError, ExitCode
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Configure, Ready
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker_shell import Control, find_plugin, import_errors, prepare_process, read_arguments


def main() -> None:
    """Run one decoder worker and exit."""
    arguments = read_arguments(Role.DECODER)
    prepare_process()
    links = Links()
    control = Control(links, arguments, Role.DECODER)
    configure = control.handshake(__version__)
    try:
        decoder, spec, load_s = load(configure, control)
        endpoint = f"ipc://{Path.cwd() / f'd.{arguments.epoch}.sock'}"
        pull = links.pull(endpoint)
    except DotsctlError as error:
        control.load_failed(error)
        links.wait(5.0, [control.link])  # sockets drop unsent messages when they close
        sys.exit(ExitCode.COMMAND)
    control.ready(Ready(spec.fingerprint, spec.width, endpoint, spec.capacity, spec.tasks, load_s, device=spec.device))
    sockets = DecoderSockets(links, control, pull, spec.width)
    sockets.start()
    try:
        DecoderService(sockets, decoder).run()
    finally:
        decoder.close()
    # The I/O thread still owns the sockets, so the process ends without tearing them down.
    os._exit(ExitCode.OK)


def load(configure: Configure, control: Control) -> tuple[Decoder, DecoderSpec, float]:
    """Import the plugin and load the model; the plugin decodes its own warm-up page."""
    started = time.monotonic()
    with import_errors(f"decoder {configure.plugin!r}"):  # plugins may import what is heavy only when they load
        decoder: Decoder = find_plugin("dotsctl.decoders", configure.plugin)()
        spec = decoder.load(Path(configure.model), configure.options, control.report)
    return decoder, spec, time.monotonic() - started
