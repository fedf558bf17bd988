"""Parts of messages: headers of buffers, options of a page, enumerations and limits. See ``messages.py``."""

from dataclasses import dataclass
from enum import StrEnum

from dotsctl.protocol.checks import require, require_text
from dotsctl.protocol.page_hint import PageHint

MAX_PROMPT_BYTES = 1024 * 1024
MAX_NAME_BYTES = 1024
"""Length limit of the name of a page's source."""
MAX_RGB_BYTES = 256 * 1024 * 1024
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_REQUEST_BYTES = 576 * 1024 * 1024
"""Size limit of all images of a request: four photos of 48 megapixels, the most that telephones take, as pixels."""
FRAME_BYTES = 8 * 1024 * 1024
"""Large buffers are cut into frames of this size: within 1.3 times of the best size at 15 MiB as at 44 MiB."""
MIN_PIXELS = 784
"""The size of the smallest page that an encoder takes: 28 x 28."""
MAX_IMAGES = 16
"""Images in one request."""
MAX_GATHER_S = 3600.0
"""The longest time for which a decoder may be requested to wait for more pages."""
MAX_EMBEDDINGS = 57_600
"""The limit for one request: four of the largest pages, which have 11,289,600 pixels over 28 x 28 each."""


class Role(StrEnum):
    """The part of the work that a worker does."""

    ENCODER = "encoder"
    DECODER = "decoder"


class FinishReason(StrEnum):
    """The reason why the decoder stopped."""

    STOP = "stop"
    """The model ended the answer."""
    LENGTH = "length"
    """The token limit was reached; the text is cut."""
    LOOP = "loop"
    """The text repeated itself; the repetition was cut off."""
    BLANK = "blank"
    """Nothing is on the page; it was not decoded."""


class ImageKind(StrEnum):
    """The form in which a page is sent."""

    FILE = "file"
    """The bytes of an image file with one frame."""
    RGB = "rgb"
    """uint8 (height, width, 3), rows from top to bottom."""


class Quality(StrEnum):
    """Resolution at which a page is read."""

    FULL = "full"
    """The model's own limit of pixels."""
    BALANCED = "balanced"
    """1.6 megapixels, after white margins are trimmed."""
    FAST = "fast"
    """1.0 megapixel, after white margins are trimmed."""


QUALITY_PIXELS: dict[Quality, int | None] = {
    Quality.FULL: None,
    Quality.BALANCED: 1_600_000,
    Quality.FAST: 1_000_000,
}
"""Most pixels of a resized page at each quality; none: the model's own limit."""


class Device(StrEnum):
    """The part of a machine that a worker computes on."""

    NE = "ne"
    """The Neural Engine of a Mac."""
    GPU = "gpu"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Describes a page's image; its bytes are the message's buffers."""

    kind: ImageKind
    nbytes: int
    width: int
    """Pixels as stored, before EXIF orientation."""
    height: int

    def __post_init__(self) -> None:
        require(self.width >= 1 and self.height >= 1, f"image of {self.width}x{self.height} px")
        if self.kind is ImageKind.RGB:
            require(self.nbytes == 3 * self.width * self.height, f"nbytes {self.nbytes} is not 3 * width * height")
            require(self.nbytes <= MAX_RGB_BYTES, f"nbytes {self.nbytes} is above {MAX_RGB_BYTES}")
        require(0 <= self.nbytes <= MAX_FILE_BYTES, f"nbytes {self.nbytes} is not between 0 and {MAX_FILE_BYTES}")


def require_images(images: tuple[ImageHeader, ...]) -> None:
    """Refuse a request without images, or with more than any machine would take."""
    require(1 <= len(images) <= MAX_IMAGES, f"{len(images)} images, not 1 to {MAX_IMAGES}")
    nbytes = sum(image.nbytes for image in images)
    require(nbytes <= MAX_REQUEST_BYTES, f"images of {nbytes} bytes together, at most {MAX_REQUEST_BYTES}")


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Describes an array of two dimensions; its bytes are the message's buffers."""

    dtype: str
    """``<f2``, ``<f4`` or ``bf16``."""
    shape: tuple[int, int]
    """Embeddings, width."""
    nbytes: int

    def __post_init__(self) -> None:
        sizes = {"<f2": 2, "bf16": 2, "<f4": 4}
        require(self.dtype in sizes, f"dtype {self.dtype!r} is none of {', '.join(sizes)}")
        require(1 <= self.shape[0] <= MAX_EMBEDDINGS, f"shape[0] {self.shape[0]} is not 1 to {MAX_EMBEDDINGS}")
        require(1 <= self.shape[1] <= 65_536, f"shape[1] {self.shape[1]} is not 1 to 65536")
        expected = self.shape[0] * self.shape[1] * sizes[self.dtype]
        require(self.nbytes == expected, f"nbytes {self.nbytes} is not {expected} as shape and dtype say")


@dataclass(frozen=True, slots=True)
class PageOptions:
    """The options of one page."""

    task: str
    prompt: str | None
    """Replaces the prompt of the task."""
    max_tokens: int | None
    """The most tokens of an answer; none: what the model's limit leaves."""
    max_pixels: int | None
    """Resize to at most so many pixels; none: the model's own limit."""
    hint: PageHint | None = None
    """The probable text of the page, for drafts; never changes the result."""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1 in pixels of the page as viewers show it, for tasks that read a part of a page."""
    check_blank: bool = False
    """Whether a page with nothing on it may be answered without decoding."""
    quality: Quality = Quality.FULL
    """Resolution at which the page is read; ``max_pixels`` may lower it further."""
    source: str = ""
    """Name of the page's source without folder and ending, for recorded answers; never changes what a model reads."""

    @property
    def pixel_limit(self) -> int | None:
        """The most pixels that ``quality`` and ``max_pixels`` allow a resized page; none: the model's own limit."""
        limits = (self.max_pixels, QUALITY_PIXELS[self.quality])
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def trims_margins(self) -> bool:
        """Return whether white margins are trimmed before the page is resized; not with a box, which may lie in one."""
        return self.quality is not Quality.FULL and self.box is None

    def __post_init__(self) -> None:
        require(self.max_tokens is None or self.max_tokens >= 1, f"max_tokens {self.max_tokens} is below 1")
        require(
            self.max_pixels is None or self.max_pixels >= MIN_PIXELS,
            f"max_pixels {self.max_pixels} is below {MIN_PIXELS}",
        )
        require_text("prompt", self.prompt or "", MAX_PROMPT_BYTES)
        require_text("source", self.source, MAX_NAME_BYTES)
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            require(0 <= x0 < x1 and 0 <= y0 < y1, f"box {self.box} is not x0,y0,x1,y1 with x0 < x1 and y0 < y1")


def worker_name(role: Role, index: int) -> str:
    """``decoder``, ``encoder``, and ``encoder2`` and so on for additional encoders: in logs and messages."""
    return f"{role}{index + 1}" if index else str(role)


@dataclass(frozen=True, slots=True)
class Capability:
    """The device of an encoder and the page sizes that it takes."""

    device: Device
    buckets: tuple[int, ...] = ()
    """Numbers of patches that a page can have, ascending; empty: any number."""

    def __post_init__(self) -> None:
        require_buckets(self.buckets)


def require_buckets(buckets: tuple[int, ...]) -> None:
    """Refuse page sizes that are not positive and ascending."""
    ascending = all(smaller < larger for smaller, larger in zip((0, *buckets), buckets, strict=False))
    require(ascending, f"buckets {buckets} are not positive and ascending")


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker in an answer to :class:`StatusRequest`."""

    role: Role
    plugin: str
    state: str
    pid: int
    epoch: int
    restarts: int
    last_exit: str
    pages: int
    busy_share: float
    """Share of the time since it was ready in which it had work, 0 to 1."""
    log: str
    """Path of the log file."""
    busy_for_s: float = 0.0
    """Seconds for which it has had work and made no progress; 0 without work."""
    rss_bytes: int = 0
    """Resident memory of the process; 0 when there is none, or it is unknown."""
    peak_bytes: int = 0
    """The most that it was since the process was started."""
    place: int = 0
    """The slot of an encoder among the encoders."""
    note: str = ""
    """The part that an encoder has where the runtime chooses between several; empty: nothing special."""
    readiness: str = ""
    """The verdict on the readiness page; empty: there is none."""
    readiness_age_s: float = 0.0
    """Seconds since that verdict."""

    @property
    def name(self) -> str:
        """See :func:`worker_name`."""
        return worker_name(self.role, self.place)
