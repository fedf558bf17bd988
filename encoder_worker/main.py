"""Process shell of the encoder worker: arguments, plugin, warm-up, exit code."""

import logging
import os
import sys
import time
from pathlib import Path

from dotsctl import __version__
from dotsctl.encoder_worker.loading import close, load_encoder
from dotsctl.encoder_worker.opening import limit_rendering
from dotsctl.encoder_worker.plugin import Encoder, EncoderSpec
from dotsctl.encoder_worker.service import EncoderService
from dotsctl.protocol import release
from dotsctl.protocol.errors import DotsctlError, ExitCode
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Configure, Ready
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.gpu_faults import is_gpu_fault, note_faults
from dotsctl.protocol.worker.plugins import Plugin, find_plugin
from dotsctl.protocol.worker.shell import START_AGAIN, Control, prepare_process, read_arguments

log = logging.getLogger(__name__)


def main() -> None:
    """Run one encoder worker and exit."""
    arguments = read_arguments(Role.ENCODER)
    prepare_process(arguments)
    links = Links()
    control = Control(links, arguments, Role.ENCODER)
    configure = control.handshake(release(__version__))
    try:
        plugin, encoder, spec, load_s = load(configure, control)
    except DotsctlError as error:
        control.load_failed(error)
        links.wait(5.0, [control.link])  # sockets drop unsent messages when they close
        sys.exit(error.exit_code)
    except RuntimeError:  # macOS ended or refused work on the GPU
        log.exception("%s", configure.plugin)
        sys.exit(START_AGAIN)
    reads = plugin.description.reads_pages
    control.ready(Ready(spec.fingerprint, spec.width, "", 1, (), load_s, spec.buckets, spec.device, reads))
    service = EncoderService(links, control, encoder, spec, str(plugin))
    code: int = ExitCode.OK
    try:
        service.run()
    except RuntimeError as error:
        if not is_gpu_fault(error):
            raise
        log.exception("%s", plugin)
        code = START_AGAIN
    finally:
        close(plugin, encoder)
    # The other threads still own the sockets and the render process, so the process ends without tearing them down.
    os._exit(code)


def load(configure: Configure, control: Control) -> tuple[Plugin, Encoder, EncoderSpec, float]:
    """Import the plugin, load the model and encode a tiny page: a model that loads may still fail at its first use.

    Raises:
        DotsctlError: the plugin cannot be used, and another start would not help.
    """
    started = time.monotonic()
    limit_rendering(configure.render_timeout_s)
    note_faults(configure.gpu_faults)
    plugin = find_plugin(Role.ENCODER, configure.plugin)
    encoder, spec = load_encoder(plugin, Path(configure.model), configure.options, control.report)
    return plugin, encoder, spec, time.monotonic() - started
