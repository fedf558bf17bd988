"""The steps of the tests of both contracts: each ends as passed, as not applicable, or with a problem."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.errors import DotsctlError, PageError, UsageError
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.worker.plugin_faults import location_of, raised
from dotsctl.protocol.worker.plugin_options import require_all_read
from dotsctl.protocol.worker.plugins import Plugin

UNKNOWN_OPTION = "no_such_option"
Note = Callable[[str], None]
"""Called with the step that runs, so that a hang can be located."""


class BrokenContractError(Exception):
    """The plugin does something that the contract does not allow."""


class NotApplicableError(Exception):
    """The step does not concern this plugin."""


@dataclass(frozen=True)
class Subject:
    """The plugin under test and what it is loaded with."""

    plugin: Plugin
    texts: Mapping[str, str]
    """Options as the user has written them."""
    model: Path


@dataclass(frozen=True)
class StepOutcome:
    """The outcome of one step."""

    step: str
    found: str
    """The measurement; the reason of a step that is not applicable; or the problem."""
    problem: bool = False
    skipped: bool = False


@dataclass(frozen=True)
class Step:
    """One test of a contract."""

    name: str
    run: Callable[[], str]
    """Return what was found. Raises BrokenContractError, NotApplicableError or whatever the plugin raises."""
    is_vital: bool = False
    """Whether the later steps need this one."""


def play(steps: list[Step], note: Note) -> Iterator[StepOutcome]:
    """Run the steps in order; after a vital one that fails, none."""
    for step in steps:
        note(step.name)
        outcome = _play_one(step)
        yield outcome
        if step.is_vital and outcome.problem:
            return


def _play_one(step: Step) -> StepOutcome:
    try:
        return StepOutcome(step.name, step.run())
    except NotApplicableError as reason:
        return StepOutcome(step.name, str(reason), skipped=True)
    except (BrokenContractError, DotsctlError) as error:
        return StepOutcome(step.name, error.problem if isinstance(error, DotsctlError) else str(error), problem=True)
    except (Exception, SystemExit) as error:  # the code of others may raise anything
        return StepOutcome(step.name, raised(error) + location_of(error), problem=True)


def description_step(subject: Subject) -> str:
    """The description is complete, and the plugin can run here."""
    plugin = subject.plugin
    if not plugin.description.help or "\n" in plugin.description.help:
        raise BrokenContractError("description.help is not one line about what the plugin does")
    if reason := plugin.unavailable(subject.texts):
        raise BrokenContractError(f"it cannot run here: {reason}")
    facts = validate_checkpoint(subject.model) if plugin.description.needs_model else None
    need = plugin.need(facts, subject.texts)
    memory = f"{need.least_bytes / 2**20:.0f} MiB" if plugin.description.memory else "no estimate of its memory"
    return f"runs on the {str(plugin.device_of(subject.texts)).upper()}, {memory}"


def options_step(subject: Subject, load: Callable[[Mapping[str, str]], object]) -> str:
    """An option that the plugin does not have is an error of the user.

    Args:
        subject: the plugin.
        load: loads another object of the plugin with such an option, where no options are declared.
    """
    texts = {**subject.texts, UNKNOWN_OPTION: "1"}
    try:
        if subject.plugin.description.options is None:
            load(texts)
        else:
            require_all_read(subject.plugin.options(texts), str(subject.plugin))
    except UsageError:
        return "an unknown option is refused"
    raise BrokenContractError(f"an unknown option ({UNKNOWN_OPTION}=1) is not refused with UsageError")


def expect_page_error(what: str, call: Callable[[], object]) -> str:
    """Call a plugin with a page that it must refuse.

    Raises:
        BrokenContractError: it takes the page, or raises something else than PageError.
    """
    try:
        call()
    except PageError as error:
        return f"{what} is refused: {error.problem}"
    except (Exception, SystemExit) as error:
        raise BrokenContractError(f"{raised(error)}{location_of(error)} for {what}, not PageError") from error
    raise BrokenContractError(f"{what} is not refused with PageError")
