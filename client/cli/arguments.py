"""Arguments of the command line that are more than one word: a prompt from a file, a box."""

from pathlib import Path

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import Box
from dotsctl.protocol.parts import MAX_PROMPT_BYTES


def read_prompt(argument: str | None) -> str | None:
    """A prompt as it stands, or the content of the file behind ``@``. Raises UsageError."""
    if argument is None or not argument.startswith("@"):
        return argument
    path = Path(argument[1:])
    try:
        with path.open("rb") as stream:  # it may be a FIFO, or a device without an end
            content = stream.read(MAX_PROMPT_BYTES + 1)
        text = content.decode("utf-8").strip()
    except OSError as error:
        raise UsageError(
            f"--prompt {argument}: {path} cannot be read ({error.strerror})", "give an existing file"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"--prompt {argument}: {path} is not UTF-8 text", "give a text file") from None
    if not 0 < len(content) <= MAX_PROMPT_BYTES or not text:
        raise UsageError(f"--prompt {argument}: {path} is empty or larger than 1 MiB", "write the prompt into it")
    return text


def parse_box(argument: str | None) -> Box | None:
    """``x0,y0,x1,y1`` as numbers. Raises UsageError."""
    if argument is None:
        return None
    try:
        x0, y0, x1, y1 = (float(side) for side in argument.split(","))
    except ValueError:
        raise UsageError(f"--box {argument!r} is not four numbers", "write --box 100,200,600,250") from None
    if not (0 <= x0 < x1 < float("inf") and 0 <= y0 < y1 < float("inf")):
        raise UsageError(
            f"--box {argument} is not a valid box",
            "write left,top,right,bottom in pixels of the page, with left < right and top < bottom",
        )
    return x0, y0, x1, y1
