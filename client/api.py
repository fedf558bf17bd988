"""``Client``: reads pages with a running runtime, or with a private one that ends with it."""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dotsctl.client import launch, settings
from dotsctl.client.answers import has_cells
from dotsctl.client.cell import Cell
from dotsctl.client.inputs import PageInput, pages_of
from dotsctl.client.job import Answer, Event, Input, Job, new_text
from dotsctl.client.live_cells import new_cells
from dotsctl.client.page_options import page_options
from dotsctl.client.records import Failure, Page
from dotsctl.client.selection import DEFAULT_DPI, Selection
from dotsctl.client.session import Session
from dotsctl.protocol import endpoints
from dotsctl.protocol.errors import DotsctlError, PageError, UsageError
from dotsctl.protocol.geometry import Box
from dotsctl.protocol.messages import Status
from dotsctl.protocol.model_directory import find_model
from dotsctl.protocol.parts import MAX_IMAGES, PageOptions


class Client:
    """Reads pages. Use it as a context manager, from one thread at a time.

    Attributes:
        model_name: name of the model that the runtime holds.
        fingerprint: sha256 of the model.
        encoder: the encoder plugin with its options.
        decoder: the decoder plugin with its options.
        tasks: what can be asked of a page; the first one is the default.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        encoder: str | None = None,
        decoder: str | None = None,
        name: str | None = None,
        window: int | None = None,
        private: bool = False,
        timeout_s: float = 900.0,
        stall_timeout_s: float | None = None,
        page_timeout_s: float | None = None,
        memory: str | int | None = None,
    ) -> None:
        """Connect to the running runtime, or start a private one.

        Args:
            model: path or name of a model; none: ``DOTSCTL_MODEL``, the configuration file, the only installed one.
            encoder: encoder plugin, ``NAME`` or ``NAME:key=value,...``.
            decoder: decoder plugin, likewise.
            name: the running instance to use; none: ``DOTSCTL_NAME`` or ``default``.
            window: most pages in flight; none: as many as the runtime allows.
            private: start a private runtime even if one is running.
            timeout_s: longest time until both workers are ready.
            stall_timeout_s: of a runtime that is started: longest silence of a worker that has work.
            page_timeout_s: of a runtime that is started: longest time of one page.
            memory: of a runtime that is started: what both workers may take together, as ``"8G"`` or in bytes.

        Raises:
            UsageError: the running runtime holds another model or encoder, or an option is wrong.
            MissingError: there is no such model, or a dependency is missing.
            CommandFailedError: the workers could not be started.
        """
        self._runtime: launch.RuntimeProcess | None = None
        chosen = settings.choose(
            model=model,
            encoder=encoder,
            decoder=decoder,
            name=name,
            stall_timeout_s=stall_timeout_s,
            page_timeout_s=page_timeout_s,
            memory=None if memory is None else str(memory),
        )
        directory = endpoints.instance_directory(chosen.name)
        if not private and endpoints.lock_holder(directory) is not None:
            self._session = Session(directory, timeout_s)
            try:
                self._check_same(chosen)
            except DotsctlError:
                self._session.close()
                raise
        else:
            self._session = self._start_private(chosen, timeout_s)
        welcome = self._session.welcome
        self.model_name, self.fingerprint = welcome.model, welcome.fingerprint
        self.encoder, self.decoder, self.tasks = welcome.encoder, welcome.decoder, welcome.tasks
        self._window = min(window or welcome.window, welcome.window)
        self._options = functools.partial(page_options, self.model_name, self.tasks)

    def _start_private(self, chosen: "settings.Choices", timeout_s: float) -> Session:
        deadline = time.monotonic() + timeout_s
        self._runtime = launch.start(settings.runtime_config(chosen, launch.private_name()), private=True)
        try:
            self._runtime.wait_ready(timeout_s)
            return Session(self._runtime.directory, max(1.0, deadline - time.monotonic()))
        except BaseException:  # Ctrl-C too: nobody has this object yet, so nobody else could end the runtime
            self._runtime.end(now=True)
            raise

    def _check_same(self, chosen: "settings.Choices") -> None:
        """Refuse a running runtime that is not what the caller asked for, naming both."""
        welcome = self._session.welcome
        asked = {
            "model": chosen.model or "",
            "encoder": settings.resolve_encoder(chosen.encoder, chosen.model),
            "decoder": chosen.decoder,
        }
        if chosen.is_chosen("model"):
            asked["model"] = find_model(chosen.model)[0]
        running = {"model": welcome.model, "encoder": welcome.encoder, "decoder": welcome.decoder}
        for key, value in asked.items():
            if chosen.is_chosen(key) and value != running[key]:
                raise UsageError(
                    f"the running runtime {chosen.name!r} has {key} {running[key]!r}, asked for is {value!r}: "
                    "stop it with 'dotsctl down', or use another --name"
                )

    def ocr(
        self,
        inputs: Iterable[Input],
        *,
        task: str | None = None,
        prompt: str | None = None,
        box: Box | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        reread: bool = True,
        on_event: Callable[[Event], None] | None = None,
    ) -> Iterator[Page]:
        """Read pages; yields them in the order in which they finish, ``Page.index`` counts them in input order.

        Args:
            inputs: paths, bytes of image files or PDFs, PIL images, arrays (height, width, 3), or :class:`PageInput`.
            task: one of :attr:`tasks`; none: ``ground`` where there is a box, else the first.
            prompt: replaces the task's prompt; ``{box}`` in it stands for the box.
            box: the part of every page that is read, x0, y0, x1, y1 in pixels of the page as viewers show it.
            max_tokens: most tokens of an answer.
            max_pixels: resize pages to at most so many pixels; none: the model's own limit.
            hint: text that the pages probably hold; speeds decoding up, never changes the result.
            pages: those of each PDF or TIFF that are read, as ``1-3,7,10-``; none: all.
            dpi: resolution at which pages of a PDF are rendered, 36 to 1200.
            password: of protected PDFs; none: ``DOTSCTL_PASSWORD``.
            check_blank: answer pages without anything on them at once, with ``finish_reason`` ``blank``.
            reread: read a page whose text repeats itself or is cut once more, a little smaller.
            on_event: called with every group of tokens and every restart of a page.

        A page that cannot be read is a ``Page`` with ``error``; the others go on. Breaking off cancels the rest.

        Raises:
            UsageError: unknown task, or wrong box, pages or resolution.
            RuntimeLostError: the runtime went away.
        """
        options = self._options(task, prompt, max_tokens, max_pixels, hint, box, check_blank)
        selection = Selection.of(pages, dpi, password)
        job = Job(self._session, options, self._window, stream=on_event is not None, reread=reread)
        yield from self._pages(job, ((page,) for one in inputs for page in pages_of(one, selection)), options, on_event)

    def ask(
        self,
        question: str,
        inputs: Iterable[Input],
        *,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
    ) -> Page:
        """Ask one question about all pages of all inputs together, which stand in one prompt, in their order.

        The other arguments are those of :meth:`ocr`. The answer is a page with the name and size of the first image;
        ``text`` is what the model says.

        Raises:
            UsageError: the model has not learnt to answer questions, or there is no question.
            PageError: there is no image, or there are more than 16.
            RuntimeLostError: the runtime went away.
        """
        if not question.strip():
            raise UsageError("there is no question: write one, as 'What is the total?'")
        options = self._options("ask", question, max_tokens, max_pixels, "", None, False)
        selection = Selection.of(pages, dpi, password)
        images = tuple(itertools.islice((p for one in inputs for p in pages_of(one, selection)), MAX_IMAGES + 1))
        if not 1 <= len(images) <= MAX_IMAGES:
            count = f"more than {MAX_IMAGES}" if images else "no"
            raise PageError(f"a question about {count} images: ask about 1 to {MAX_IMAGES}, see --pages for documents")
        (page,) = self._pages(Job(self._session, options, 1, stream=False), [images], options, None)
        return page

    def _pages(
        self,
        job: Job,
        requests: Iterable[Sequence[PageInput]],
        options: PageOptions,
        on_event: Callable[[Event], None] | None,
    ) -> Iterator[Page]:
        """Run a job to its end and make records of its answers."""
        facts: dict[str, Any] = {"model": self.model_name, "fingerprint": self.fingerprint, "task": options.task}
        try:
            for index, page, news in job.run(requests):
                if isinstance(news, Answer):
                    read = Page.from_result(page, news.result, reread=news.reread, **facts)
                    yield replace(read, index=index)
                elif isinstance(news, Failure):
                    yield replace(Page.from_failure(page, news.code, news.message, **facts), index=index)
                elif on_event is not None:
                    on_event(news)
        finally:
            job.close()

    def stream(
        self,
        source: Input,
        *,
        task: str | None = None,
        prompt: str | None = None,
        box: Box | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
    ) -> Iterator[str]:
        """Text of an input as it is decoded; the arguments are those of :meth:`ocr`, several pages follow each other.

        After a restart of a worker a page is read again; what was given before is not repeated. A text that repeats
        itself is cut and not read again, as it was given already.

        Raises:
            PageError: a page cannot be read.
        """
        options = self._options(task, prompt, max_tokens, max_pixels, hint, box, check_blank)
        for one in pages_of(source, Selection.of(pages, dpi, password)):
            job = Job(self._session, options, 1, stream=True)
            try:
                yield from new_text(job, one)
            finally:
                job.close()

    def stream_cells(
        self,
        source: Input,
        *,
        task: str | None = None,
        prompt: str | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
    ) -> Iterator[Cell]:
        """Cells of an input, with boxes in pixels of the page, each as soon as it is whole; see :meth:`stream`.

        Raises:
            UsageError: the task does not tell where things are.
            PageError: a page cannot be read.
        """
        options = self._options(task, prompt, max_tokens, max_pixels, hint, None, check_blank)
        if not has_cells(options.task):
            raise UsageError(f"the task {options.task!r} gives text without boxes: choose another one, as 'layout'")
        for one in pages_of(source, Selection.of(pages, dpi, password)):
            job = Job(self._session, options, 1, stream=True)
            try:
                yield from new_cells(job, one, options.task)
            finally:
                job.close()

    def status(self) -> Status:
        """State of the runtime, its workers and its requests."""
        return self._session.status()

    def close(self) -> None:
        """Close the connection, and end the private runtime if there is one."""
        self._session.close()
        if self._runtime is not None:
            self._runtime.end(now=True)
            self._runtime = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
