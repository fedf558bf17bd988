"""``Client``: reads pages with a running runtime, or with a private one that ends with it."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from dotsctl.client import launch, settings
from dotsctl.client.config import PluginChoice, RuntimeConfig
from dotsctl.client.inputs import pages_of
from dotsctl.client.job import Event, Input, Job, new_text
from dotsctl.client.records import Failure, Page
from dotsctl.client.selection import DEFAULT_DPI, Selection
from dotsctl.client.session import Session
from dotsctl.protocol import endpoints
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.protocol.messages import PageResult, Status
from dotsctl.protocol.model_directory import find_model
from dotsctl.protocol.parts import PageOptions


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

    def _start_private(self, chosen: "settings.Choices", timeout_s: float) -> Session:
        deadline = time.monotonic() + timeout_s
        self._runtime = launch.start(runtime_config(chosen, launch.private_name()), private=True)
        try:
            self._runtime.wait_ready(timeout_s)
            return Session(self._runtime.directory, max(1.0, deadline - time.monotonic()))
        except BaseException:  # Ctrl-C too: nobody has this object yet, so nobody else could end the runtime
            self._runtime.end(now=True)
            raise

    def _check_same(self, chosen: "settings.Choices") -> None:
        """Refuse a running runtime that is not what the caller asked for, naming both."""
        welcome = self._session.welcome
        asked = {"model": chosen.model or "", "encoder": resolve_encoder(chosen.encoder), "decoder": chosen.decoder}
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
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Iterator[Page]:
        """Read pages; yields them in the order in which they finish, ``Page.index`` counts them in input order.

        Args:
            inputs: paths, bytes of image files or PDFs, PIL images, arrays (height, width, 3), or :class:`PageInput`.
            task: one of :attr:`tasks`; none: the first.
            prompt: replaces the task's prompt.
            max_tokens: most tokens of an answer.
            max_pixels: resize pages to at most so many pixels; none: the model's own limit.
            hint: text that the pages probably hold; speeds decoding up, never changes the result.
            pages: those of each PDF or TIFF that are read, as ``1-3,7,10-``; none: all.
            dpi: resolution at which pages of a PDF are rendered, 36 to 1200.
            password: of protected PDFs; none: ``DOTSCTL_PASSWORD``.
            on_event: called with every group of tokens and every restart of a page.

        A page that cannot be read is a ``Page`` with ``error``; the others go on. Breaking off cancels the rest.

        Raises:
            UsageError: unknown task, or wrong pages or resolution.
            RuntimeLostError: the runtime went away.
        """
        options = self._options(task, prompt, max_tokens, max_pixels, hint)
        selection = Selection.of(pages, dpi, password)
        facts: dict[str, Any] = {"model": self.model_name, "fingerprint": self.fingerprint, "task": options.task}
        job = Job(self._session, options, self._window, stream=on_event is not None)
        try:
            for index, page, news in job.run(inputs, selection):
                if isinstance(news, PageResult):
                    yield replace(Page.from_result(page, news, **facts), index=index)
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
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
    ) -> Iterator[str]:
        """Text of an input as it is decoded; the arguments are those of :meth:`ocr`, several pages follow each other.

        After a restart of a worker a page is read again; what was given before is not repeated.

        Raises:
            PageError: a page cannot be read.
        """
        options = self._options(task, prompt, max_tokens, max_pixels, hint)
        for one in pages_of(source, Selection.of(pages, dpi, password)):
            job = Job(self._session, options, 1, stream=True)
            try:
                yield from new_text(job, one)
            finally:
                job.close()

    def _options(
        self, task: str | None, prompt: str | None, max_tokens: int | None, max_pixels: int | None, hint: str
    ) -> PageOptions:
        task = task or self.tasks[0]
        if task not in self.tasks:
            raise UsageError(f"unknown task {task!r}; the model {self.model_name!r} knows: {', '.join(self.tasks)}")
        try:
            return PageOptions(task, prompt, max_tokens, max_pixels, hint)
        except ValueError as error:
            raise UsageError(str(error)) from None

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


def resolve_encoder(text: str) -> str:
    """The encoder that ``auto`` stands for: ``mlx``, as long as there is no other one for real pages."""
    choice = PluginChoice.parse(text)
    return str(PluginChoice("mlx", choice.options)) if choice.name == "auto" else str(choice)


def runtime_config(chosen: settings.Choices, instance: str) -> RuntimeConfig:
    """Configuration of a runtime from the user's choices; two ``fake`` plugins need no model."""
    encoder = PluginChoice.parse(resolve_encoder(chosen.encoder))
    decoder = PluginChoice.parse(chosen.decoder)
    if chosen.model is None and encoder.name == decoder.name == "fake":
        model_name, folder = "fake", ""
    else:
        model_name, found = find_model(chosen.model)
        folder = str(found)
    return RuntimeConfig(
        instance=instance,
        model_name=model_name,
        model=folder,
        encoder=encoder,
        decoder=decoder,
        stall_timeout_s=chosen.stall_timeout_s,
        page_timeout_s=chosen.page_timeout_s,
    )
