"""The plan behind ``--encoder auto``: the encoder for all pages, and another for the pages that it reads sooner.

Nothing is loaded or tried here. The plugins offer what they have (``EncoderOffers`` in ``protocol/worker/plugins.py``),
the runtime compares both encoders with the decoder running (``protocol/machine/measured_costs.py``); this module reads
what they wrote, so that the runtime begins with the encoder that proved itself. Without any figures it begins with the
one for all pages.
"""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.settings.defaults import AUTO_FIRST, AUTO_SECOND
from dotsctl.client.settings.runtime_config import AutoEncoders, PluginChoice
from dotsctl.protocol.machine import measured_costs
from dotsctl.protocol.machine.identity import Machine, this_machine
from dotsctl.protocol.model.directory import cached_fingerprint
from dotsctl.protocol.model.validation import read_limits
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import EncoderOffer, EncoderOffers, find_plugin


@dataclass(frozen=True)
class AutoPlan:
    """The encoders that ``--encoder auto`` stands for with a model on this machine."""

    encoder: PluginChoice
    """The one that takes pages of any size."""
    alternative: PluginChoice | None = None
    """The second encoder; none: there is only the first one."""
    auto: AutoEncoders | None = None
    """Facts for the runtime before it compares them; none: this machine never has a choice."""

    def __str__(self) -> str:
        others = [self.alternative] if self.alternative else []
        return self.auto.line(self.encoder, *others) if self.auto else str(self.encoder)


def choose_encoder(model: Path | None, options: dict[str, str], machine: Machine | None = None) -> AutoPlan:
    """Return the encoders for a model on this machine.

    Args:
        model: its directory; none: there is no model.
        options: what the user wrote behind ``auto``. They are those of the first encoder, so with any of them that one
            is taken.
        machine: another one than this, for tests.
    """
    first = PluginChoice(AUTO_FIRST, options)
    second = find_plugin(Role.ENCODER, AUTO_SECOND).description
    if model is None or options or second.offers is None:
        return AutoPlan(first)
    machine = machine or this_machine()
    fingerprint = cached_fingerprint(model) or ""
    found = second.offers(model, fingerprint, machine)
    usable = [offer for offer in found.offers if not offer.refused]
    if not usable:
        reason = _reason(found)
        return AutoPlan(first, auto=AutoEncoders(refused=reason) if reason else None)
    best = min(usable, key=lambda offer: offer.rank)
    alternative = PluginChoice(AUTO_SECOND, dict(best.options))
    known = measured_costs.recall(fingerprint, machine).preferences
    compared = (str(alternative), str(first), best.basis)
    device = find_plugin(Role.ENCODER, AUTO_FIRST).device_of(options)
    auto = AutoEncoders(
        limits=read_limits(model),
        buckets=best.buckets,
        devices=(device, found.device),
        preferences=tuple(each for each in known if (each.encoder, each.instead_of, each.basis) == compared),
        basis=best.basis,
        size_option=found.size_option,
    )
    return AutoPlan(first, alternative, auto)


def _reason(found: EncoderOffers) -> str:
    """Return why there is no second encoder; empty: there never is one on this machine."""
    if not found.offers:
        return found.missing
    return f"{found.failing} ({'; '.join(map(_refusal, found.offers))})"


def _refusal(offer: EncoderOffer) -> str:
    return f"{offer.name}: {offer.refused}"
