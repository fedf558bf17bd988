"""The options of a reading: declared here once, for both clients, the command line, the runtime and the journal.

A new option is a key of :class:`ReadOptions` and a field of :class:`ReadingOptions`, which states whether results
depend on it. With a :class:`Flag` the command line has it as well. An option that workers need is also a field of
:class:`dotsctl.protocol.parts.PageOptions`, which is filled by name; its ``source`` and ``hint`` are set for each page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any, TypedDict, TypeVar, get_type_hints

from dotsctl.client.inputs.hints import AUTO, HintChoice, HintOption
from dotsctl.client.inputs.selection import DEFAULT_DPI, Selection
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import Box
from dotsctl.protocol.model.tasks import GROUND, LAYOUT, TASKS, AnswerKind, answer_kind
from dotsctl.protocol.parts import MIN_PIXELS, PageOptions, Quality
from dotsctl.protocol.typed_values import WrongValueError, reader

T = TypeVar("T")
IN_KEY, FLAG = "in_key", "flag"
OF_PAGE = ("source", "hint")
"""Fields of ``PageOptions`` that differ between the pages of a call."""
KINDS_OF_TEXT = (AnswerKind.CELLS, AnswerKind.LINES, AnswerKind.MARKDOWN)
"""Answers that a page's text layer is a hint for."""


class DocumentOptions(TypedDict, total=False):
    """The options of opening documents."""

    pages: str | None
    """Pages of each PDF or TIFF that are read, as ``1-3,7,10-``; none: all."""
    dpi: int
    """Resolution at which pages of a PDF are rendered, 36 to 1200; 200 by default."""
    password: str | None
    """Password of protected PDFs; none: ``DOTSCTL_PASSWORD``."""


class AskOptions(DocumentOptions, total=False):
    """The options of a question about pages."""

    max_tokens: int | None
    """Most tokens of an answer; none: what the model's limit leaves."""
    max_pixels: int | None
    """Resize pages to at most so many pixels; none: the model's own limit."""
    quality: str | None
    """The resolution, ``full`` (the model's limit), ``balanced`` (1.6 megapixels) or ``fast`` (1.0 megapixel), the last
    two after white margins are trimmed; none: ``full`` for pages that are predicted to take at most 30 s on this
    machine, else ``balanced``."""


class StreamOptions(AskOptions, total=False):
    """The options of a page whose text or cells are given as they are decoded."""

    task: str | None
    """One of the model's tasks; none: ``ground`` where there is a box and no prompt, else the first."""
    prompt: str | None
    """Replaces the task's prompt; ``{box}`` in it stands for the box."""
    box: Box | None
    """The part of every page that is read, x0, y0, x1, y1 in pixels of the page as viewers show it."""
    check_blank: bool
    """Answer pages without anything on them at once, with ``finish_reason`` ``blank``; true by default."""
    hint: HintOption
    """The text that pages probably hold; speeds decoding up, never changes the result. ``auto``, the default: the text
    layer of PDFs; ``none``; the name of a hint plugin; a :class:`pathlib.Path` of a text or of a folder with texts; a
    text; a :class:`dotsctl.PageHint`; or a function that returns one of the last two, or none, for a page."""


class ReadOptions(StreamOptions, total=False):
    """All options of a reading."""

    reread: bool
    """Read a page whose text repeats itself, is cut or damaged once more: at full quality where it was read at less,
    else a little smaller; true by default."""


@dataclass(frozen=True, slots=True)
class Flag:
    """An option on the command line."""

    help: str
    metavar: str | None = None
    minimum: int | None = None
    choices: tuple[str, ...] = ()
    switches_off: str = ""
    """Name of the flag that makes the option false."""


def option(*, in_key: bool, flag: Flag | None = None) -> Mapping[str, Any]:
    """Declare the properties of a field of :class:`ReadingOptions` in addition to its type and default.

    Args:
        in_key: whether a page is read again when this changes; part of the journal's key.
        flag: the option of the command line; none: it has none.
    """
    return {IN_KEY: in_key, FLAG: flag}


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """The options of a reading, checked; :class:`ReadOptions` documents each. Raises UsageError."""

    task: str | None = field(
        default=None,
        metadata=option(in_key=True, flag=Flag("Task, as 'layout' or 'text'. [default: the model's first]", "TASK")),
    )
    prompt: str | None = field(
        default=None,
        metadata=option(
            in_key=True,
            flag=Flag("Prompt to use instead of the task's own; {box} is replaced by the box.", "TEXT|@FILE"),
        ),
    )
    box: Box | None = field(
        default=None,
        metadata=option(
            in_key=True,
            flag=Flag("Part of each page to read, in pixels of the page (task 'ground').", "X0,Y0,X1,Y1"),
        ),
    )
    max_tokens: int | None = field(
        default=None,
        metadata=option(in_key=True, flag=Flag("Token limit for each page.", "N", minimum=1)),
    )
    max_pixels: int | None = field(
        default=None,
        metadata=option(
            in_key=True,
            flag=Flag(
                "Pixel limit: larger pages are reduced, which is faster and less accurate.", "N", minimum=MIN_PIXELS
            ),
        ),
    )
    quality: Quality | None = field(
        default=None,
        metadata=option(
            in_key=True,
            flag=Flag(
                "Resolution: the model's limit, 1.6 or 1.0 megapixels (the last two with white margins trimmed). "
                "[default: full, or balanced if a page would take more than 30 s]",
                choices=tuple(map(str, Quality)),
            ),
        ),
    )
    # The next three are in the key by InputFile.variant(), which has the kinds of files that they apply to.
    pages: str | None = field(
        default=None,
        metadata=option(in_key=False, flag=Flag("Pages of each PDF or TIFF, as '1-3,7,10-'. [default: all]", "RANGES")),
    )
    dpi: int = field(
        default=DEFAULT_DPI, metadata=option(in_key=False, flag=Flag("Resolution for PDF pages, 36 to 1200 dpi.", "N"))
    )
    password: str | None = field(
        default=None,
        repr=False,
        metadata=option(in_key=False, flag=Flag("Password of protected PDFs; safer in DOTSCTL_PASSWORD.", "TEXT")),
    )
    check_blank: bool = field(
        default=True,
        metadata=option(
            in_key=True,
            flag=Flag("Send blank pages to the model as well.", switches_off="--no-blank-check"),
        ),
    )
    reread: bool = field(
        default=True,
        metadata=option(
            in_key=True,
            flag=Flag(
                "Do not read a page again if its text repeats itself, is truncated or damaged.",
                switches_off="--no-reread",
            ),
        ),
    )
    hint: HintOption = field(
        default=AUTO,
        metadata=option(
            in_key=False,
            flag=Flag(
                "Probable text of the pages, which speeds decoding up: auto, none, a text file, a folder of texts "
                "named like the inputs, or a plugin.",
                "auto|none|FILE|DIR|NAME",
            ),
        ),
    )

    def __post_init__(self) -> None:
        for name, read in _readers().items():
            value = _plain(getattr(self, name))
            if name == "quality" and isinstance(value, str) and value not in list(Quality):
                raise UsageError(f"unknown quality {value!r}", f"choose one of {', '.join(Quality)}")
            try:
                object.__setattr__(self, name, read(value, name, False))
            except WrongValueError as error:
                raise UsageError(str(error)) from None
        self.selection()  # raises for a wrong hint as well
        self._page_options("")

    @classmethod
    def of(cls, options: Mapping[str, Any], kind: type = ReadOptions) -> "ReadingOptions":
        """Return the options that a caller gave as keyword arguments.

        Args:
            options: by name.
            kind: :class:`ReadOptions` or a part of it, whose keys are allowed.

        Raises:
            TypeError: there is no such option.
            UsageError: a value is wrong.
        """
        allowed = get_type_hints(kind)
        for name in options:
            if name not in allowed:
                raise TypeError(f"{name!r} is not an option of this call; the options are: {', '.join(allowed)}")
        return cls(**options)

    def given(self, kind: type[T]) -> T:
        """The options as keyword arguments of a call that takes those of ``kind``."""
        options: Any = {name: getattr(self, name) for name in get_type_hints(kind)}
        return options

    def selection(self) -> Selection:
        """Return which pages of documents are read, and how they are rendered. Raises UsageError."""
        return Selection.of(self.pages, self.dpi, self.password, hint=self.hints.document)

    @cached_property
    def hints(self) -> HintChoice:
        """Return how pages get their hints; automatic ones only where their text is requested."""
        choice = HintChoice.of(self.hint)
        return choice if choice.document != AUTO or self._reads_text() else HintChoice()

    def _reads_text(self) -> bool:
        """Return whether answers have the text, or at least the boxes, of a page or of a part of it."""
        task = self.task or self._task_of_box() or LAYOUT.name
        needs_box = task in TASKS and TASKS[task].needs_box
        return self.prompt is None and (needs_box or answer_kind(task) in KINDS_OF_TEXT)

    def for_model(self, model: str, tasks: Sequence[str]) -> PageOptions:
        """Return the options of each page for a runtime.

        Args:
            model: name of the model that the runtime holds.
            tasks: those that it supports; the first one is the default.

        Raises:
            UsageError: the model does not support the task, or the task reads no box.
        """
        task = self.task or self._task_of_box() or tasks[0]
        if task not in tasks:
            raise UsageError(f"unknown task {task!r}; the model {model!r} has: {', '.join(tasks)}")
        if self.box is not None and self.prompt is None and not (task in TASKS and TASKS[task].needs_box):
            raise UsageError(
                f"the task {task!r} reads complete pages", f"leave --box out, or take the task {GROUND.name!r}"
            )
        return self._page_options(task)

    def key(self, default_task: str = "") -> dict[str, Any]:
        """The options that results depend on, for the journal; the default task is empty, whatever its name.

        Args:
            default_task: of the model; empty: it is not known.
        """
        chosen = {each.name: getattr(self, each.name) for each in fields(self) if each.metadata[IN_KEY]}
        return {**chosen, "task": "" if self.task == default_task else self.task or self._task_of_box()}

    def _task_of_box(self) -> str:
        return GROUND.name if self.box is not None and self.prompt is None else ""

    def _page_options(self, task: str) -> PageOptions:
        """The part of the options that the workers get. Raises UsageError for one out of its range."""
        chosen = {each.name: getattr(self, each.name) for each in fields(PageOptions) if each.name not in OF_PAGE}
        try:
            return PageOptions(**{**chosen, "task": task, "quality": self.quality or Quality.FULL})
        except ValueError as error:
            raise UsageError(str(error)) from None


@cache
def _readers() -> Mapping[str, Any]:
    """Return the function that checks the type of each option but the hint, which is more than plain values."""
    hints = get_type_hints(ReadingOptions)
    return {each.name: reader(hints[each.name]) for each in fields(ReadingOptions) if each.name != "hint"}


def _plain(value: Any) -> Any:
    """Tuples as lists and numbers of NumPy as numbers, which :mod:`dotsctl.protocol.typed_values` reads."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if getattr(value, "shape", None) == () else value
