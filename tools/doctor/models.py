"""Checks of the models: which one is used, whether the files of each are whole, whether the memory suffices."""

from functools import partial

from dotsctl.client.memory_plan import need_of
from dotsctl.client.sizes import memory_text, size_text
from dotsctl.protocol.checkpoint_validation import validate_checkpoint
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.memory import this_machine
from dotsctl.protocol.memory_share import share
from dotsctl.protocol.model_directory import (
    DEMO,
    PUBLISHED,
    demo_directory,
    installed_models,
    models_directory,
)
from dotsctl.tools.doctor.report import Check, Finding, Verdict, fail, of_error, ok, warn
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
    """Whether environment and configuration files can be understood."""
    if setup.wrong_settings:
        return fail("settings", setup.wrong_settings, "correct it; the checks below took the defaults instead")
    limit = f", memory {memory_text(setup.memory_bytes)}" if setup.memory_bytes else ""
    return ok("settings", f"encoder {setup.encoder}, decoder {setup.decoder}{limit}")


def check_default_model(setup: Setup) -> Finding:
    """Whether a command without ``--model`` knows which one to take; here also whether the chosen one is there."""
    name = "default model"
    if setup.missing_model is None:
        return ok(name, f"{setup.model_name}, {setup.model}")
    if isinstance(setup.missing_model, UsageError):
        return warn(name, str(setup.missing_model), "--model NAME, DOTSCTL_MODEL, or model in the configuration file")
    if installed_models():
        return fail(name, str(setup.missing_model), "choose one that is there: dotsctl ls")
    remedy = f"dotsctl pull {PUBLISHED} downloads dots.ocr, 6 GB; --model demo tries the small one that is here"
    return warn(name, str(setup.missing_model).split("\n")[0], remedy)


def check_model(name: str, setup: Setup) -> Finding:
    """Whether the files of a model are whole; another one than the chosen may be broken."""
    chosen = name == setup.model_name
    folder = setup.model if chosen else demo_directory() if name == DEMO else models_directory() / name
    try:
        facts = validate_checkpoint(folder)
    except DotsctlError as error:
        return of_error(f"model {name}", error, Verdict.FAIL if chosen else Verdict.WARN)
    parameters = facts.encoder.parameters + facts.decoder.parameters
    size = size_text(facts.encoder.size_bytes + facts.decoder.size_bytes)
    return ok(f"model {name}", f"{parameters / 1e6:,.0f} million parameters, {size}, whole")


def check_memory(setup: Setup) -> Finding:
    """Whether the chosen model fits, into the machine and into the limit that was set."""
    name, machine = "memory", this_machine()
    try:
        need = need_of(validate_checkpoint(setup.model), [setup.encoder], setup.decoder)
    except DotsctlError as error:
        return warn(name, f"not known, as the model cannot be read: {error}", "mend the model first")
    if setup.memory_bytes is not None:
        share(setup.memory_bytes, need)  # its error is the finding
    found = (
        f"{setup.model_name} takes {memory_text(need.least_bytes)} at least, {memory_text(need.most_bytes)} at most; "
        f"this machine has {memory_text(machine.physical_bytes)}, a model may use {memory_text(machine.usable_bytes)}"
    )
    smaller = "dotsctl convert MODEL --decoder-bits 4, then --decoder mlx:bits=4"
    if need.least_bytes > machine.usable_bytes:
        return fail(name, found, f"{smaller}; or use a machine with more memory")
    if need.most_bytes > machine.usable_bytes:
        limit = memory_text(machine.usable_bytes * 3 // 4).replace(" ", "").replace("iB", "")
        return warn(name, found, f"set a limit, as --memory {limit}; lower --max-pixels; or {smaller}")
    return ok(name, found)
