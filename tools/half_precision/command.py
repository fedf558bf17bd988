"""``dotsctl convert MODEL --float16``: measures both halves and keeps their plans under the model's fingerprint."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import REINSTALL, CommandFailedError, MissingError
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.model.half_precision import HalfPlan, plan_file, read_plan
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.derived import write_synced

Report = Callable[[str], None]


def run(model: str, report: Report, *, force: bool, as_json: bool) -> None:
    """Measure a model, unless that was done, and print what has to be scaled.

    Args:
        model: name or path of the model.
        report: called with a line of progress.
        force: measure again.
        as_json: print the plans as JSON instead of lines.

    Raises:
        MissingError: the model, a file of it, or MLX is missing.
        UsageError: the model is of another kind.
        CommandFailedError: the disk cannot be written, or a layer cannot be computed in float16.
    """
    name, folder = find_model(model)
    validate_checkpoint(folder)
    report(f"computing the fingerprint of {name}")
    digest = fingerprint(folder)
    plans = None if force else _known(folder, digest)
    if plans is None:
        plans = _measured(folder, digest, report)
    else:
        report("the magnitudes were measured already; --force measures again")
    if as_json:
        print(json.dumps({half.value: asdict(plan) for half, plan in plans.items()}, indent=2))
    else:
        print("\n".join(_line(half, plan) for half, plan in plans.items()))
    for half, plan in plans.items():
        if plan.imprecise:
            report(
                f"WARNING: {half}: {plan.imprecise}. Compare its texts with those of bfloat16: dotsctl compare --help"
            )
    problems = [f"{half}: {problem}" for half, plan in plans.items() for problem in plan.hopeless]
    if problems:
        raise CommandFailedError(f"float16 cannot compute this model. {'; '.join(problems)}", "use dtype=bfloat16")


def encoder_plan(model: Path, digest: str, report: Report, *, is_tried: bool = True) -> HalfPlan:
    """The plan for the encoder, measured now where it was not. Raises as :func:`run` does.

    A plan that is not tried is for packages, which are executed on their golden page; it is not kept for MLX.
    """
    try:
        return read_plan(digest, Role.ENCODER, model)
    except MissingError:
        pass  # as most models that are converted for the first time
    plan, _ = _measured_encoder(model, report, is_tried=is_tried)
    if is_tried:
        _write(digest, Role.ENCODER, plan)
    return plan


def _known(model: Path, digest: str) -> dict[Role, HalfPlan] | None:
    """Both plans; none where one is missing or damaged."""
    try:
        return {half: read_plan(digest, half, model) for half in Role}
    except MissingError:
        return None


def _measured(model: Path, digest: str, report: Report) -> dict[Role, HalfPlan]:
    """Both plans, measured now and written to the disk."""
    encoder, (pages, embeddings) = _measured_encoder(model, report, is_tried=True)
    _write(digest, Role.ENCODER, encoder)
    from dotsctl.tools.half_precision.decoder import plan_decoder

    decoder = plan_decoder(model, pages, embeddings, report)
    _write(digest, Role.DECODER, decoder)
    return {Role.ENCODER: encoder, Role.DECODER: decoder}


def _measured_encoder(model: Path, report: Report, *, is_tried: bool) -> tuple[HalfPlan, Any]:
    """The plan for the encoder; and the drawn pages with their embeddings, for the decoder."""
    preload_blas()
    try:
        from dotsctl.tools.half_precision.encoder import plan_encoder
    except ImportError as error:
        raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
    from dotsctl.tools.half_precision.pages import drawn_pages

    pages = drawn_pages()
    plan, embeddings = plan_encoder(model, pages, report, is_tried=is_tried)
    return plan, (pages, embeddings)


def _write(digest: str, half: Role, plan: HalfPlan) -> None:
    write_synced(plan_file(digest, half), plan)


def _line(half: Role, plan: HalfPlan) -> str:
    scaled = f"{len(plan.exponents)} tensors scaled, residual stream by 2^{plan.residual_exponent}"
    if plan.worst_cosine is None:
        return f"{half}  {scaled}; not tried in float16"
    return f"{half}  {scaled}; smallest cosine of a token to float32: {plan.worst_cosine:.6f}"
