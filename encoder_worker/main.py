"""Process shell of the encoder worker: arguments, plugin, warm-up, exit code."""

import io
import sys
import time
from pathlib import Path

from dotsctl import __version__
from dotsctl.encoder_worker.plugin import Encoder, EncoderSpec, PageImage
from dotsctl.encoder_worker.service import EncoderService
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ExitCode
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Configure, Ready
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker_shell import Control, find_plugin, import_errors, prepare_process, read_arguments

WARM_UP_PX = 56


def main() -> None:
    """Run one encoder worker and exit."""
    arguments = read_arguments(Role.ENCODER)
    prepare_process()
    with Links() as links:
        control = Control(links, arguments, Role.ENCODER)
        configure = control.handshake(__version__)
        try:
            encoder, spec, load_s = load(configure, control)
        except DotsctlError as error:
            control.load_failed(error)
            sys.exit(_outlive_the_message(links, control))
        try:
            control.ready(Ready(spec.fingerprint, spec.width, "", 1, (), load_s, spec.buckets, spec.device))
            EncoderService(links, control, encoder, spec).run()
        finally:
            encoder.close()
    sys.exit(ExitCode.OK)


def load(configure: Configure, control: Control) -> tuple[Encoder, EncoderSpec, float]:
    """Import the plugin, load the model and encode a tiny page: a model that loads may still fail at its first use."""
    started = time.monotonic()
    with import_errors(f"encoder {configure.plugin!r}"):  # plugins may import what is heavy only when they load
        encoder: Encoder = find_plugin("dotsctl.encoders", configure.plugin)()
        spec = encoder.load(Path(configure.model), configure.options, control.report)
    control.report("warm-up page")
    (page,) = encoder.encode([PageImage(blank_page(), None, None)])
    if page.embeddings.ndim != 2 or page.embeddings.shape[1] != spec.width:
        raise CommandFailedError(
            f"encoder {configure.plugin!r}: the warm-up page has embeddings of shape {page.embeddings.shape}, "
            f"not of width {spec.width}"
        )
    return encoder, spec, time.monotonic() - started


def blank_page() -> bytes:
    """A white PNG of the smallest size that every model takes."""
    from PIL import Image  # a plugin that decodes nothing should not pay for it at import

    stream = io.BytesIO()
    Image.new("RGB", (WARM_UP_PX, WARM_UP_PX), "white").save(stream, "PNG")
    return stream.getvalue()


def _outlive_the_message(links: Links, control: Control) -> int:
    """Sockets drop unsent messages when they close, so wait until the coordinator has ended us, or a few seconds."""
    links.wait(5.0, [control.link])
    return ExitCode.COMMAND
