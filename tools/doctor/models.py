"""Checks of the models: which one is used, whether the files of each are complete, whether the memory suffices."""

from functools import partial

from dotsctl.client.files.sizes import memory_text, size_text
from dotsctl.client.settings.memory_plan import need_of
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.machine.memory import memory_limit
from dotsctl.protocol.machine.memory_share import share
from dotsctl.protocol.model.directory import (
    DEMO,
    PUBLISHED,
    SMALL_BUILD,
    demo_directory,
    installed_models,
    models_directory,
)
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import find_plugin
from dotsctl.tools.doctor.report import Check, CheckStatus, Finding, fail, of_error, ok, warn
from dotsctl.tools.doctor.setup import Setup


def model_checks(setup: Setup) -> list[Check]:
    """Settings, the chosen model, the files of each model, the memory."""
    names = list(dict.fromkeys((*installed_models(), DEMO, setup.model_name)))
    return [
        Check("settings", partial(check_settings, setup)),
        Check("default model", partial(check_default_model, setup)),
        *(Check(f"model {name}", partial(check_model, name, setup)) for name in names),
        Check("memory", partial(check_memory, setup)),
    ]


def check_settings(setup: Setup) -> Finding:
    """Check whether environment and configuration files can be understood."""
    if error := setup.wrong_settings:
        remedy = f"{error.remedy or 'correct it'}; the checks below took the defaults instead"
        return fail("settings", error.problem, remedy)
    limit = f", memory {memory_text(setup.memory_bytes)}" if setup.memory_bytes else ""
    return ok("settings", f"encoder {setup.encoder}, decoder {setup.decoder}{limit}")


def check_default_model(setup: Setup) -> Finding:
    """Check whether a command without ``--model`` finds one, and whether the chosen one exists."""
    name = "default model"
    if setup.missing_model is None:
        return ok(name, f"{setup.model_name}, {setup.model}")
    if isinstance(setup.missing_model, UsageError):
        return warn(
            name, setup.missing_model.problem, "--model NAME, DOTSCTL_MODEL, or model in the configuration file"
        )
    if installed_models():
        return fail(name, setup.missing_model.problem, "choose an installed one: dotsctl ls")
    remedy = (
        f"dotsctl pull {SMALL_BUILD} downloads 3.5 GB, dotsctl pull {PUBLISHED} 6 GB; --model demo tries the small one "
        "that is here"
    )
    return warn(name, setup.missing_model.problem, remedy)


def check_model(name: str, setup: Setup) -> Finding:
    """Check whether the files of a model are complete; another one than the chosen may be broken."""
    chosen = name == setup.model_name
    folder = setup.model if chosen else demo_directory() if name == DEMO else models_directory() / name
    try:
        facts = validate_checkpoint(folder)
    except DotsctlError as error:
        return of_error(f"model {name}", error, CheckStatus.FAIL if chosen else CheckStatus.WARN)
    parameters = facts.encoder.parameters + facts.decoder.parameters
    size = size_text(facts.encoder.size_bytes + facts.decoder.size_bytes)
    return ok(f"model {name}", f"{parameters / 1e6:,.0f} million parameters, {size}, complete")


def check_memory(setup: Setup) -> Finding:
    """Check whether the chosen model fits, into the machine and into the limit that was set."""
    name, machine = "memory", memory_limit()
    try:
        need = need_of(validate_checkpoint(setup.model), [setup.encoder], setup.decoder)
    except DotsctlError as error:
        return warn(name, f"not known: {error.problem}", error.remedy or "fix the model or the plugin first")
    smaller = find_plugin(Role.DECODER, setup.decoder.name).description.smaller
    if setup.memory_bytes is not None:
        share(setup.memory_bytes, need, smaller=smaller)  # its error is the finding
    found = (
        f"{setup.model_name} takes {memory_text(need.least_bytes)} at least, {memory_text(need.most_bytes)} at most; "
        f"this machine has {memory_text(machine.physical_bytes)}, a model may use {memory_text(machine.usable_bytes)}"
    )
    other = f"; or {smaller}" if smaller else ""
    if need.least_bytes > machine.usable_bytes:
        return fail(name, found, f"use a machine with more memory{other}")
    if need.most_bytes > machine.usable_bytes:
        limit = memory_text(machine.usable_bytes * 3 // 4).replace(" ", "").replace("iB", "")
        return warn(name, found, f"set a limit, as --memory {limit}; lower --max-pixels{other}")
    return ok(name, found)
