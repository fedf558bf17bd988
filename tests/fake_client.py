"""The command line without a runtime: a stand-in for ``Client``, and calls in this process."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from click.testing import CliRunner, Result
from dotsctl.client.cli.main import cli
from dotsctl.client.inputs.pages import pages_of
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import PageError
from PIL import Image


class FakeClient:
    """Stands for ``Client``: the text of a page is the name of its file; the attributes steer what goes wrong."""

    created: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[dict[str, Any]]] = []
    closed: ClassVar[int] = 0
    failing: ClassVar[dict[str, str]] = {}
    raising: ClassVar[BaseException | None] = None
    raise_after: ClassVar[int] = 0
    statuses: ClassVar[dict[str, str]] = {}
    cells: ClassVar[tuple[Cell, ...]] = ()
    losses: ClassVar[dict[str, float]] = {}
    notices: ClassVar[list[str]] = []

    model_name, fingerprint, encoder, decoder, tasks = "demo", "f" * 64, "mlx", "mlx", ("text", "layout")

    def __init__(self, **options: Any) -> None:
        self.created.append(options)

    def ocr(self, inputs: Iterable[Any], **options: Any) -> Iterator[Page]:
        self.asked.append(options)
        for notice in self.notices:
            options["on_notice"](notice)
        task = "layout" if self.cells else "text"
        facts = {"model": self.model_name, "fingerprint": self.fingerprint, "task": task}
        for number, page in enumerate(page for source in inputs for page in pages_of(source)):
            if self.raising is not None and number == self.raise_after:
                raise self.raising
            name = Path(page.source).name
            try:
                header, _, _ = page.load()
            except PageError as error:
                yield Page.from_failure(page, Failure.of(error), **facts)
                continue
            if name in self.failing:
                yield Page.from_failure(page, Failure(self.failing[name], "it failed"), **facts)
            else:
                reason = self.statuses.get(name, "stop")
                status = {"stop": "ok", "blank": "blank"}.get(reason, "partial")
                text = f"text of {name}"
                place = (page.source, page.path, page.page, page.num_pages)
                size = {"width": header.width, "height": header.height}
                seen = {"cells": self.cells, "task": task, "finish_reason": reason, "encoder": self.encoder}
                seen |= {"quality": "full", "resolution_loss": self.losses.get(name, 0.0)}
                seen |= {"input_width": 896, "input_height": 1260}
                yield Page(*place, status, text, chosen=page.chosen, **size, **seen)

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        type(self).closed += 1


def call(*arguments: str, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, arguments, input=stdin, prog_name="dotsctl")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def pictures(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (len(name), 0, 0)).save(name)
