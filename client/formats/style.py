"""The way in which pages are written: the format, and what the user chose within it."""

from dataclasses import dataclass

from dotsctl.client.formats.format import FileFormat, Format, Images
from dotsctl.client.formats.registry import FORMATS, format_named
from dotsctl.protocol.errors import UsageError


@dataclass(frozen=True, slots=True)
class Style:
    """The way in which pages are written."""

    format_: str
    """One of ``FORMATS``."""
    header_footer: bool = True
    """Whether text has the headers and footers of pages."""
    images: Images = Images.NONE
    """The treatment of pictures in a format that links them."""

    @property
    def format(self) -> Format:
        """The format itself."""
        return format_named(self.format_)

    @classmethod
    def of(cls, format_: str, *, to_stdout: bool, header_footer: bool = True, images: str | None = None) -> "Style":
        """Complete what the user chose. Raises UsageError for what does not go together."""
        chosen = format_named(format_)
        if isinstance(chosen, FileFormat) and to_stdout:
            raise UsageError(
                f"-f {format_} makes {chosen.content}, which cannot be shown in a terminal",
                "choose a file or folder with -o",
            )
        if isinstance(chosen, FileFormat) and not header_footer:
            raise UsageError(f"--no-header-footer applies to text, and -f {format_} has none", "leave one of them out")
        if not chosen.links_pictures and images is not None:
            linking = " and ".join(f"-f {name}" for name in FORMATS if format_named(name).links_pictures)
            raise UsageError(f"--images applies to {linking}, the format is {format_}", "leave one of them out")
        if to_stdout and images == Images.FILES:
            raise UsageError("--images files needs an output folder or file", "set one with -o, or use --images embed")
        if not chosen.links_pictures:
            return cls(format_, header_footer)
        return cls(format_, header_footer, Images(images or (Images.NONE if to_stdout else Images.FILES)))

    @property
    def variant(self) -> str:
        """Return the part of this that a result depends on in addition to the format; empty when nothing was chosen."""
        return " ".join(
            [
                *([] if self.header_footer else ["no header and footer"]),
                *([f"images {self.images}"] if self.format.links_pictures else []),
            ]
        )
