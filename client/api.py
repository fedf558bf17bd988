"""``Client``: reads pages with a running runtime, or with a private one that ends with it.

Importing this module is cheap: the connection, the pages and their formats are imported when a client is made.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Unpack

from dotsctl.client.connection.waiting import Blocking, completed, iterate

if TYPE_CHECKING:
    from dotsctl.client.connection.attach import Connection
    from dotsctl.client.inputs.accepted import Inputs
    from dotsctl.client.jobs.calls import Calls
    from dotsctl.client.jobs.page_options import AskOptions, ReadOptions, StreamOptions
    from dotsctl.client.outputs.document import Document
    from dotsctl.client.results.cell import Cell
    from dotsctl.client.results.events import PageEvent
    from dotsctl.client.results.page import Page
    from dotsctl.protocol.messages import Status


class Client:
    """Reads pages. Use it as a context manager, from any number of threads; each call is used by one of them.

    A runtime that was stopped and started again, or died, between two calls is found again by the next call; a private
    one is started again. Its loss within a call is a RuntimeLostError of that call. A client belongs to the process
    that made it: in a forked child each call is a UsageError.

    Attributes:
        model_name: name of the model that the runtime holds.
        fingerprint: sha256 of the model.
        encoder: the encoder plugin with its options; ``auto`` where the runtime chooses for each page.
        decoder: the decoder plugin with its options.
        tasks: the tasks of the model; the first one is the default.
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
        readiness_page: bool | None = None,
    ) -> None:
        """Connect to the running runtime, or start a private one.

        Args:
            model: path or name of a model; none: ``DOTSCTL_MODEL``, the configuration file, the only installed one.
            encoder: encoder plugin, ``NAME`` or ``NAME:key=value,...``; ``auto``, or one of those of the running
                runtime.
            decoder: decoder plugin, likewise.
            name: the running instance to use; none: ``DOTSCTL_NAME`` or ``default``.
            window: most pages in flight; none: as many as the runtime allows.
            private: start a private runtime even if one is running.
            timeout_s: longest time until all workers are ready.
            stall_timeout_s: of a runtime that is started: longest silence of a worker that has work.
            page_timeout_s: of a runtime that is started: longest time of one page.
            memory: of a runtime that is started: what its workers may take together, as ``"8G"`` or in bytes.
            readiness_page: of a runtime that is started: false for a model that cannot read the page of known words
                that every model must read before it gets pages, as one with random weights.

        Raises:
            UsageError: the running runtime holds another model or encoder, or an option is wrong.
            MissingError: there is no such model, or a dependency is missing.
            CommandFailedError: the workers could not be started.
        """
        from dotsctl.client.connection.attach import Connection
        from dotsctl.client.jobs.calls import Calls
        from dotsctl.client.settings.choices import choose

        choices = choose(
            model=model,
            encoder=encoder,
            decoder=decoder,
            name=name,
            stall_timeout_s=stall_timeout_s,
            page_timeout_s=page_timeout_s,
            memory=None if memory is None else str(memory),
            readiness_page=readiness_page,
        )
        connection = Connection(choices, private=private, timeout_s=timeout_s, owner=type(self).__name__)
        connection.session()
        self._use(connection, Calls(connection, Blocking(), window))

    def _use(self, connection: "Connection", calls: "Calls") -> None:
        """Take a connection that has a session."""
        self._connection, self._calls = connection, calls
        welcome = connection.session().welcome
        self.model_name, self.fingerprint = welcome.model, welcome.fingerprint
        self.encoder, self.decoder, self.tasks = connection.encoder, welcome.decoder, welcome.tasks

    def ocr(
        self,
        inputs: "Inputs",
        *,
        on_event: "Callable[[PageEvent], None] | None" = None,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[ReadOptions]",
    ) -> "Iterator[Page]":
        """Read pages; yields them in the order in which they finish, ``Page.index`` counts them in input order.

        Args:
            inputs: one or many of: the path of a picture, a PDF or a folder, a glob, the bytes of a picture file or a
                PDF, an open file, a PIL image, an array (height, width, 3), a stack of such arrays.
            on_event: called with each :class:`PageText` and :class:`PageRestarted`.
            on_notice: called with a line of text when ``balanced`` is first chosen for a page, with both times, and
                when a source of hints first fails.
            options: see :class:`dotsctl.client.jobs.page_options.ReadOptions`.

        A page that cannot be read is a ``Page`` with ``error``; the others continue. Leaving the loop cancels the rest.

        Raises:
            UsageError: unknown task, or wrong box, pages or resolution; by the call itself.
            RuntimeLostError: the runtime went away.
        """
        call = self._calls.arguments(inputs, options, on_notice)
        return iterate(self._calls.ocr(call, on_event))

    def read(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[ReadOptions]",
    ) -> "Document":
        """Read one input, or several as one document, with its pages in order; the arguments are those of :meth:`ocr`.

        A page that cannot be read is one of the pages, with ``error``.
        """
        from dotsctl.client.outputs.document import Document

        return Document(*completed(self._calls.read(self._calls.arguments(inputs, options, on_notice))))

    def events(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[ReadOptions]",
    ) -> "Iterator[PageEvent | Page]":
        """Read pages and yield what happens: text as it is decoded, restarts, and each page when it is read.

        The arguments are those of :meth:`ocr`. After a :class:`PageRestarted` the text of that page begins anew.
        """
        return iterate(self._calls.events(self._calls.arguments(inputs, options, on_notice)))

    def ask(
        self,
        question: str,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[AskOptions]",
    ) -> "Page":
        """Ask one question about all pages of all inputs together; one prompt holds them in their order.

        The other arguments are those of :meth:`ocr`. The answer is a page with the name and size of the first image;
        ``text`` is the model's answer.

        Raises:
            UsageError: the model does not support questions, or there is no question.
            PageError: there is no image, or there are more than 16.
            RuntimeLostError: the runtime went away.
        """
        return completed(self._calls.ask(self._calls.question(question, inputs, options, on_notice)))

    def stream(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[StreamOptions]",
    ) -> Iterator[str]:
        """Text of pages as it is decoded; the arguments are those of :meth:`ocr`, several pages follow each other.

        After a restart of a worker a page is read again; what was given before is not repeated. A text that repeats
        itself is cut and not read again, as it was given already.

        Raises:
            PageError: a page cannot be read.
        """
        call = self._calls.stream_arguments(inputs, options, on_notice)
        return iterate(self._calls.stream(call))

    def stream_cells(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[StreamOptions]",
    ) -> "Iterator[Cell]":
        """Yield cells of pages, with boxes in pixels of the page, each as soon as it is complete; see :meth:`stream`.

        Raises:
            UsageError: the task has no boxes.
            PageError: a page cannot be read.
        """
        call = self._calls.stream_arguments(inputs, options, on_notice, with_cells=True)
        return iterate(self._calls.stream_cells(call))

    def status(self) -> "Status":
        """State of the runtime, its workers and its requests."""
        return completed(self._calls.status())

    def close(self) -> None:
        """Close the connection, and end the private runtime if there is one."""
        from dotsctl.client.inputs.pages import close_renderer

        self._connection.close()
        close_renderer()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
