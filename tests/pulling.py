"""Pulling the model of a ``FakeHub``, and what is heard meanwhile."""

from pathlib import Path

import pytest
from dotsctl.client.models.fitness import FIRST_BYTES
from dotsctl.client.models.hub import Hub
from dotsctl.client.models.pull import PullRequest, pull
from dotsctl.protocol.errors import CommandFailedError

from tests.fake_hub import REPO, FakeHub

WEIGHTS = "model.safetensors"
HEADER = f"bytes=0-{FIRST_BYTES - 1}"
"""The range in which the header of the weights is fetched."""


class Listener:
    """Remembers what it hears; raises ``fault`` when ``after_bytes`` are there."""

    def __init__(self, fault: BaseException | None = None, after_bytes: int = 0) -> None:
        self.lines: list[str] = []
        self.announced_bytes = self.present_bytes = 0
        self._fault, self._after_bytes = fault, after_bytes

    def line(self, text: str) -> None:
        self.lines.append(text)

    def begin(self, size_bytes: int) -> None:
        self.announced_bytes = size_bytes

    def advance(self, size_bytes: int) -> None:
        self.present_bytes += size_bytes
        if self._fault and self.present_bytes >= self._after_bytes:
            raise self._fault


def run(listener: Listener | None = None, **options: object) -> Path:
    return pull(PullRequest(**{"repo": REPO, **options}), Hub(), listener or Listener())  # type: ignore[arg-type]


def refused(listener: Listener | None = None, **options: object) -> str:
    """The message of a pull that must fail."""
    with pytest.raises(CommandFailedError) as caught:
        run(listener, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fetched(remote: FakeHub, name: str) -> list[str | None]:
    return [wanted for asked, wanted in remote.asked if asked == name]
