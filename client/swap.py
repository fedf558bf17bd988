"""Asking a running runtime to take another encoder."""

import time

from dotsctl.client.config import PluginChoice
from dotsctl.protocol import codec
from dotsctl.protocol.endpoints import instance_directory, lock_holder
from dotsctl.protocol.errors import CommandFailedError, RuntimeLostError
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Bye, Message, Refused, SwapEncoder, SwapResult

CHECK_S = 0.5
"""How often it is made sure that the runtime is still there."""


def swap_encoder(instance: str, choice: PluginChoice, timeout_s: float, place: int = 0) -> str:
    """Let pages go to another encoder from now on; returns its name with its options.

    Args:
        instance: name of the running runtime.
        choice: plugin and options.
        timeout_s: longest time for the new encoder to load.
        place: of the encoder that it takes the place of, where several stand side by side.

    Raises:
        RuntimeLostError: there is no such runtime, or it ended meanwhile.
        CommandFailedError: the new encoder cannot be used, and the old one goes on; or nothing came in time.
    """
    directory = instance_directory(instance)
    if lock_holder(directory) is None:
        raise RuntimeLostError(f"the runtime {instance!r} is not running: start it with 'dotsctl up -d'")
    with Links() as links:
        link = links.dealer(directory.client_endpoint)
        deadline = time.monotonic() + timeout_s
        frames = codec.encode(SwapEncoder(choice.name, choice.options, place))
        while not link.send(frames):
            links.wait(CHECK_S, writable=[link])
            _check(instance, deadline, timeout_s)
        while True:
            links.wait(CHECK_S, [link])
            while (message := _next(link)) is not None:
                if isinstance(message, SwapResult):
                    return _judge(message)
                if isinstance(message, Bye):
                    raise RuntimeLostError(f"the runtime {instance!r} ended before the swap: {message.reason}")
                if isinstance(message, Refused):
                    raise CommandFailedError(f"the runtime {instance!r} refused the swap: {message.message}")
            _check(instance, deadline, timeout_s)


def _next(link: Link) -> Message | None:
    incoming = link.receive()
    return None if incoming is None else codec.decode(incoming.frames).message


def _judge(result: SwapResult) -> str:
    if result.swapped:
        return result.encoder
    raise CommandFailedError(f"the encoder was not swapped, {result.encoder} goes on: {result.message}")


def _check(instance: str, deadline: float, timeout_s: float) -> None:
    if lock_holder(instance_directory(instance)) is None:
        raise RuntimeLostError(f"the runtime {instance!r} is gone: look at 'dotsctl logs'")
    if time.monotonic() > deadline:
        raise CommandFailedError(
            f"the swap did not come to an end within {timeout_s:.0f} s: 'dotsctl status' shows which encoder works"
        )
