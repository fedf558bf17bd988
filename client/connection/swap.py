"""Asking a running runtime to take another encoder."""

from contextlib import closing

from dotsctl.client.connection.session import Session
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.endpoints import instance_directory, lock_holder, not_running
from dotsctl.protocol.errors import CommandFailedError, ProtocolError
from dotsctl.protocol.messages import SwapEncoder


def swap_encoder(instance: str, choice: PluginChoice, timeout_s: float, slot: int = 0) -> str:
    """Let pages go to another encoder from now on; return its name with its options.

    Args:
        instance: name of the running runtime.
        choice: plugin and options.
        timeout_s: longest time for the new encoder to load.
        slot: slot of the encoder that it replaces, where there are several.

    Raises:
        RuntimeLostError: there is no such runtime, or it ended meanwhile.
        CommandFailedError: the new encoder cannot be used, and the old one stays; or no answer came in time.
    """
    directory = instance_directory(instance)
    if lock_holder(directory) is None:
        raise not_running(instance)
    with closing(Session(directory, timeout_s, hello=False)) as session:
        try:
            result = session.swap(SwapEncoder(choice.name, choice.options, slot), timeout_s)
        except ProtocolError as error:
            raise CommandFailedError(
                f"the runtime {instance!r} rejected the swap request: {error.problem}", error.remedy
            ) from None
    if result is None:
        raise CommandFailedError(
            f"the swap did not finish within {timeout_s:.0f} s", "check 'dotsctl status' for the encoder in use"
        )
    if not result.swapped:
        raise CommandFailedError(f"the encoder was not replaced, {result.encoder} stays in use: {result.message}")
    return result.encoder
