"""Strict validation of a model directory before anything of it is loaded.

Only JSON files and the headers of the tensor files are read. Whatever differs from the layout that config.json
describes is found here, with a message that names file, key, both shapes and a remedy; a loader would name one of them,
or compute wrong text without a word.
"""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.model.checkpoint import read_index, read_json
from dotsctl.protocol.model.config import CONFIG, Problem, config_problems, sizes
from dotsctl.protocol.model.layout import TextSizes, VisionSizes
from dotsctl.protocol.model.quantisation import stored_quantisation
from dotsctl.protocol.model.safetensors_header import shown
from dotsctl.protocol.model.tokenizer import token_problems
from dotsctl.protocol.model.weights import HalfFacts, half_facts, read_headers, weight_problems
from dotsctl.protocol.parts import Role

PREPROCESSOR = "preprocessor_config.json"
SHOWN = 5
"""Problems that a message lists."""


@dataclass(frozen=True)
class CheckpointFacts:
    """The facts about a valid model that are known without its weights."""

    text: TextSizes
    vision: VisionSizes
    encoder: HalfFacts
    decoder: HalfFacts
    limits: PixelLimits
    """Fewest and most pixels of a page."""


def validate_checkpoint(folder: Path) -> CheckpointFacts:
    """Check a complete model directory; takes milliseconds whatever the size of the model.

    Raises:
        MissingError: it cannot be used. The message lists the first few reasons and what to do.
    """
    config = read_json(folder, CONFIG)
    _refuse(folder, config_problems(config))
    text, vision = sizes(config)
    limits = read_limits(folder)
    _refuse(folder, token_problems(folder, config))
    headers = read_headers(folder)
    _refuse(folder, weight_problems(config, headers, read_index(folder)))
    halves = half_facts(headers, stored_quantisation(config))
    return CheckpointFacts(text, vision, halves[Role.ENCODER], halves[Role.DECODER], limits)


def read_limits(folder: Path) -> PixelLimits:
    """Return the pixel limits of a model; the encoder checks the other fields of the file.

    Raises:
        MissingError: the file is missing or has no whole numbers.
    """
    content = read_json(folder, PREPROCESSOR)
    values = {key: content[key] for key in ("min_pixels", "max_pixels") if key in content}
    try:
        if all(type(value) is int for value in values.values()):
            return PixelLimits(**values)
        what = f"min_pixels and max_pixels must be whole numbers, not {shown(str(list(values.values())))}"
    except ValueError as error:
        what = str(error)
    raise _refusal(folder, [Problem(PREPROCESSOR, what)])


def _refuse(folder: Path, problems: list[Problem]) -> None:
    """Raise MissingError if there are problems."""
    if problems:
        raise _refusal(folder, problems)


def _refusal(folder: Path, problems: list[Problem]) -> MissingError:
    """One message with the first few problems and what to do about them."""
    if len(problems) == 1:
        return MissingError(f"{folder / problems[0].file}: {problems[0].what}", f"{problems[0].remedy}")
    listed = problems[:SHOWN]
    lines = [f"the model in {folder} cannot be used ({len(problems)} problems):"]
    lines += [f"  {problem.file}: {problem.what}" for problem in listed]
    if more := len(problems) - len(listed):
        lines.append(f"  and {more} more")
    remedies = dict.fromkeys(problem.remedy for problem in listed)
    return MissingError("\n".join(lines), "; or ".join(remedies))
