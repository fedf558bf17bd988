"""The record that a pull leaves in a model's folder: where the files come from, and their digests."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dotsctl.protocol.typed_values import WrongValueError, from_json

RECORD = ".dotsctl-pull.json"


@dataclass(frozen=True)
class PullRecord:
    """Where an installed model comes from."""

    repo: str
    commit: str
    licence: str
    """As the repository states it; empty: it states none."""
    date: str
    """Of the pull, ISO 8601 in UTC."""
    prompts: str
    """Where prompts.json comes from: ``repository``, ``model card``, or empty where there is none."""
    digests: dict[str, str]
    """By file name, as :class:`dotsctl.client.hub.RemoteFile` states them."""


def write_record(folder: Path, record: PullRecord) -> None:
    """Write the record of a model."""
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> PullRecord | None:
    """The record of a model; none for one that was not pulled, or whose record is damaged."""
    try:
        return from_json(PullRecord, (folder / RECORD).read_bytes())
    except (OSError, WrongValueError):
        return None
