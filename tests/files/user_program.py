"""A user's program with every public name; type checkers read it, nobody runs it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dotsctl
from dotsctl import (
    AlreadyRunningError,
    AskOptions,
    AsyncClient,
    Box,
    Cell,
    Client,
    CommandFailedError,
    Document,
    DotsctlError,
    ErrorCode,
    ExitCode,
    Failure,
    HintBlock,
    Inputs,
    MissingError,
    OutputError,
    Page,
    PageError,
    PageEvent,
    PageHint,
    PageInput,
    PageRestarted,
    PageText,
    ProtocolError,
    ReadOptions,
    RuntimeLostError,
    Source,
    Status,
    StreamOptions,
    UsageError,
)
from dotsctl.testing import FakeAsyncClient, FakeClient
from PIL import Image

HEAD: Box = (0.0, 0.0, 100.0, 20.0)
SETUP = (MissingError, CommandFailedError, AlreadyRunningError, RuntimeLostError, ProtocolError, OutputError)


def words(client: Client, inputs: Inputs) -> Iterator[str]:
    """Text of all pages."""
    reading: ReadOptions = {"dpi": 300, "box": HEAD, "quality": "fast"}
    for page in client.ocr(inputs, on_event=watch, **reading):
        failure: Failure | None = page.error
        code = ErrorCode(failure.code) if failure is not None else ""
        yield f"{page.source} {page.page} {code} {page.markdown}"


def watch(event: PageEvent) -> None:
    """Print what happens."""
    match event:
        case PageText(text=text):
            print(text, end="")
        case PageRestarted(reason=reason):
            print(reason)


def several(scan: Source, stack: list[PageInput]) -> list[Cell]:
    """Other calls."""
    ask: AskOptions = {"max_tokens": 9}
    stream: StreamOptions = {"task": "layout"}
    with Client(model="demo", memory="8G") as client, FakeClient(["text", PageError("torn")]) as fake:
        document: Document = client.read(["a.png", Path("b.pdf"), b"", Image.new("RGB", (9, 9))])
        document.save("out.md", header_footer=False)
        hint = PageHint((HintBlock("text", HEAD),), (100.0, 200.0))
        client.read("a.png", hint=lambda page: hint if page.page == 1 else None)
        events: list[PageEvent | Page] = list(fake.events(scan))
        answer: Page = client.ask("Why?", stack, **ask)
        status: Status = client.status()
        print(*words(fake, scan), events, answer.record()["md"], status.state, *client.stream("a.png", prompt="Read"))
        return [*Page.from_record(answer.record()).cells, *client.stream_cells(Path("a.png").open("rb"), **stream)]


async def main() -> ExitCode:
    """The same with tasks."""
    async with AsyncClient(private=True) as client, FakeAsyncClient("text") as fake:
        pages: list[Page] = [page async for page in client.ocr("a.png")]
        print(len(pages), len(await fake.read("b.png")), (await client.ask("Why?", "a.png")).text, dotsctl.__version__)
    return ExitCode.OK


try:
    asyncio.run(main())
except UsageError as error:
    print(error.problem, error.remedy)
except SETUP:
    print("not ready")
except DotsctlError as error:
    print(error.code)
