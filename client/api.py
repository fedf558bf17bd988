"""``Client``: reads pages with a running runtime, or with a private one that ends with it."""

from collections.abc import Callable, Iterable, Iterator

from dotsctl.client import settings
from dotsctl.client.calls import Calls, Wanted
from dotsctl.client.cell import Cell
from dotsctl.client.connection import Connection
from dotsctl.client.job import Event, Input
from dotsctl.client.records import Page
from dotsctl.client.selection import DEFAULT_DPI
from dotsctl.client.waiting import Blocking, completed, iterate
from dotsctl.protocol.geometry import Box
from dotsctl.protocol.messages import Status


class Client:
    """Reads pages. Use it as a context manager, from any number of threads; each call is used by one of them.

    A runtime that was stopped and started again, or died, between two calls is found again by the next call; a private
    one is started again. Its loss within a call is a RuntimeLostError of that call.

    Attributes:
        model_name: name of the model that the runtime holds.
        fingerprint: sha256 of the model.
        encoder: the encoder plugin with its options; ``auto`` where the runtime chooses for each page.
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

        Raises:
            UsageError: the running runtime holds another model or encoder, or an option is wrong.
            MissingError: there is no such model, or a dependency is missing.
            CommandFailedError: the workers could not be started.
        """
        choices = settings.choose(
            model=model,
            encoder=encoder,
            decoder=decoder,
            name=name,
            stall_timeout_s=stall_timeout_s,
            page_timeout_s=page_timeout_s,
            memory=None if memory is None else str(memory),
        )
        self._connection = Connection(choices, private=private, timeout_s=timeout_s)
        welcome = self._connection.session().welcome
        self.model_name, self.fingerprint = welcome.model, welcome.fingerprint
        self.encoder, self.decoder, self.tasks = self._connection.encoder, welcome.decoder, welcome.tasks
        self._calls = Calls(self._connection, Blocking(), window)

    def ocr(
        self,
        inputs: Iterable[Input],
        *,
        task: str | None = None,
        prompt: str | None = None,
        box: Box | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        reread: bool = True,
        on_event: Callable[[Event], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Iterator[Page]:
        """Read pages; yields them in the order in which they finish, ``Page.index`` counts them in input order.

        Args:
            inputs: paths, bytes of image files or PDFs, PIL images, arrays (height, width, 3), or :class:`PageInput`.
            task: one of :attr:`tasks`; none: ``ground`` where there is a box, else the first.
            prompt: replaces the task's prompt; ``{box}`` in it stands for the box.
            box: the part of every page that is read, x0, y0, x1, y1 in pixels of the page as viewers show it.
            max_tokens: most tokens of an answer.
            max_pixels: resize pages to at most so many pixels; none: the model's own limit.
            quality: the resolution, ``full`` (the model's limit), ``balanced`` (1.6 megapixels) or ``fast`` (1.0
                megapixel), the last two after white margins are trimmed; none: ``full`` for pages that are predicted to
                take at most 30 s on this machine, else ``balanced``.
            hint: text that the pages probably hold; speeds decoding up, never changes the result.
            pages: those of each PDF or TIFF that are read, as ``1-3,7,10-``; none: all.
            dpi: resolution at which pages of a PDF are rendered, 36 to 1200.
            password: of protected PDFs; none: ``DOTSCTL_PASSWORD``.
            check_blank: answer pages without anything on them at once, with ``finish_reason`` ``blank``.
            reread: read a page whose text repeats itself, is cut or damaged once more: at full quality where it was
                read at less, else a little smaller.
            on_event: called with every group of tokens and every restart of a page.
            on_notice: called with a line of text when ``balanced`` is first chosen for a page, with both times.

        A page that cannot be read is a ``Page`` with ``error``; the others go on. Breaking off cancels the rest.

        Raises:
            UsageError: unknown task, or wrong box, pages or resolution.
            RuntimeLostError: the runtime went away.
        """
        asked = {"task": task, "prompt": prompt, "box": box, "hint": hint, "check_blank": check_blank}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        wanted = Wanted({**asked, **sizes}, pages, dpi, password, on_notice)
        yield from iterate(self._calls.ocr(inputs, wanted, reread=reread, on_event=on_event))

    def ask(
        self,
        question: str,
        inputs: Iterable[Input],
        *,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Page:
        """Ask one question about all pages of all inputs together, which stand in one prompt, in their order.

        The other arguments are those of :meth:`ocr`. The answer is a page with the name and size of the first image;
        ``text`` is what the model says.

        Raises:
            UsageError: the model has not learnt to answer questions, or there is no question.
            PageError: there is no image, or there are more than 16.
            RuntimeLostError: the runtime went away.
        """
        asked = {"task": "ask", "prompt": question, "box": None, "hint": "", "check_blank": False}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        return completed(self._calls.ask(question, inputs, Wanted({**asked, **sizes}, pages, dpi, password, on_notice)))

    def stream(
        self,
        source: Input,
        *,
        task: str | None = None,
        prompt: str | None = None,
        box: Box | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        on_notice: Callable[[str], None] | None = None,
    ) -> Iterator[str]:
        """Text of an input as it is decoded; the arguments are those of :meth:`ocr`, several pages follow each other.

        After a restart of a worker a page is read again; what was given before is not repeated. A text that repeats
        itself is cut and not read again, as it was given already.

        Raises:
            PageError: a page cannot be read.
        """
        asked = {"task": task, "prompt": prompt, "box": box, "hint": hint, "check_blank": check_blank}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        yield from iterate(self._calls.stream(source, Wanted({**asked, **sizes}, pages, dpi, password, on_notice)))

    def stream_cells(
        self,
        source: Input,
        *,
        task: str | None = None,
        prompt: str | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        on_notice: Callable[[str], None] | None = None,
    ) -> Iterator[Cell]:
        """Cells of an input, with boxes in pixels of the page, each as soon as it is whole; see :meth:`stream`.

        Raises:
            UsageError: the task does not tell where things are.
            PageError: a page cannot be read.
        """
        asked = {"task": task, "prompt": prompt, "box": None, "hint": hint, "check_blank": check_blank}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        yield from iterate(
            self._calls.stream_cells(source, Wanted({**asked, **sizes}, pages, dpi, password, on_notice))
        )

    def status(self) -> Status:
        """State of the runtime, its workers and its requests."""
        return completed(self._calls.status())

    def close(self) -> None:
        """Close the connection, and end the private runtime if there is one."""
        self._connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
