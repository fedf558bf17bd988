"""The record that a pull leaves in a model's folder: where the files come from, and their digests."""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.model.files import json_bytes, read_file, write_file
from dotsctl.protocol.typed_values import WrongValueError, from_json

RECORD = ".dotsctl-pull.json"


@dataclass(frozen=True)
class PullRecord:
    """The source of an installed model."""

    repo: str
    commit: str
    licence: str
    """The licence as the repository states it; empty where it states none."""
    date: str
    """The date of the pull, ISO 8601 in UTC."""
    prompts: str
    """The source of prompts.json: ``repository``, ``model card``, or empty where there is none."""
    digests: dict[str, str]
    """Digests by file name, as :class:`dotsctl.client.models.hub.RemoteFile` states them."""


def write_record(folder: Path, record: PullRecord) -> None:
    """Write the record of a model. Raises OSError."""
    write_file(folder / RECORD, json_bytes(record, indent=2))


def read_record(folder: Path) -> PullRecord | None:
    """The record of a model; none for one that was not pulled, or whose record is damaged."""
    try:
        return from_json(PullRecord, read_file(folder / RECORD))
    except (OSError, WrongValueError):
        return None
