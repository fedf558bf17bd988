"""All messages as frozen dataclasses, grouped by sender and receiver. A reader of the system starts here.

The life of a page, with the messages in order::

    client          coordinator         encoder            decoder
      │ Submit  ─────────▶│                 │                  │
      │◀─────── Accepted  │ Encode ────────▶│                  │
      │                   │                 │ Embeddings ─────▶│   (data plane, raw frames)
      │                   │◀─────── Encoded │                  │   the encoder still answers for the page
      │                   │◀──────────────────────── Received  │   now the decoder does
      │                   │◀──────────────────────── Consumed  │   the credit is freed
      │◀────── PageTokens │◀────────────────────────── Decoded │   again and again
      │◀────── PageResult │◀────────────────────────────  Done │

Field types are what the codec knows: ``bool``, ``int``, ``float``, ``str``, ``StrEnum``, ``X | None``,
``tuple[X, ...]``, fixed tuples, ``dict[str, str | int | float]`` and nested dataclasses of the same. Ranges are
checked in ``__post_init__`` with ``ValueError``. ``SPEC.md`` describes the same messages; a test compares the two.
"""

from dataclasses import dataclass

from dotsctl.protocol.checks import require
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.parts import (
    MAX_GATHER_S,
    MAX_IMAGES,
    Capability,
    Device,
    FinishReason,
    ImageHeader,
    PageOptions,
    Role,
    TensorHeader,
    WorkerReport,
    require_buckets,
    require_images,
)

# --- client to coordinator -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientHello:
    """First message of a client."""

    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Submit:
    """One page, or several images in one prompt, with one task. Buffers: the bytes of the images, in order."""

    job_id: str
    page_index: int
    digest: str
    """Identifies the images among those of the client, as the sha256 of their bytes does; hexadecimal."""
    images: tuple[ImageHeader, ...]
    """Nearly always one."""
    options: PageOptions
    stream: bool
    """Whether the client requests the text while it is decoded."""
    encoder: int | None = None
    """Place in ``Welcome.encoders`` of the one that is to encode it; none: the runtime chooses."""

    def __post_init__(self) -> None:
        require(1 <= len(self.job_id) <= 64, f"job_id of {len(self.job_id)} characters")
        require(self.encoder is None or self.encoder >= 0, f"encoder {self.encoder} is negative")
        require(self.page_index >= 0, f"page_index {self.page_index} is negative")
        require_images(self.images)


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop all pages of a job, or one page."""

    job_id: str
    page_index: int | None


@dataclass(frozen=True, slots=True)
class HintPage:
    """The hint of a page that was submitted without one, or with another; ignored where it comes too late."""

    job_id: str
    page_index: int
    hint: PageHint


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Request a :class:`Status`."""


@dataclass(frozen=True, slots=True)
class SwapEncoder:
    """Take another encoder for the pages from now on; answered by :class:`SwapResult`."""

    plugin: str
    options: dict[str, str]
    place: int = 0
    """The slot of the encoder that it replaces, in ``Welcome.encoders``."""

    def __post_init__(self) -> None:
        require(self.place >= 0, f"place {self.place} is negative")


# --- coordinator to client -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to :class:`ClientHello` once all workers are ready."""

    instance: str
    pid: int
    window: int
    """Most pages that this client may have submitted and unanswered."""
    model: str
    fingerprint: str
    encoders: tuple[str, ...]
    """Plugin and options of each; pages go to the first unless they name another."""
    decoder: str
    tasks: tuple[str, ...]
    model_path: str = ""
    """Path of the model directory; empty where no plugin needs one."""
    capabilities: tuple[Capability, ...] = ()
    """Device and page sizes of each of ``encoders``."""
    decoder_device: Device = Device.CPU
    auto: bool = False
    """Whether the runtime chooses between the encoders for pages that name none."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The page is in the ledger."""

    job_id: str
    page_index: int
    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Busy:
    """The page was not taken because the client's window is full; submit it again after a result."""

    job_id: str
    page_index: int
    window: int


@dataclass(frozen=True, slots=True)
class PageTokens:
    """A group of tokens, as text that never splits a character."""

    job_id: str
    page_index: int
    request_id: int
    attempt: int
    text: str
    num_tokens: int
    geometry: PageGeometry | None
    """The geometry of the first image, with the first tokens of an attempt, to map boxes during the answer."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """A worker died or stalled; text streamed in earlier attempts is void."""

    job_id: str
    page_index: int
    request_id: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class PageResult:
    """The page is read."""

    job_id: str
    page_index: int
    request_id: int
    attempt: int
    text: str
    finish_reason: FinishReason
    geometries: tuple[PageGeometry, ...]
    """The geometry of each image."""
    image_tokens: int
    prompt_tokens: int
    completion_tokens: int
    encoder: str
    decoder: str
    timings_ms: dict[str, float]
    warning: str = ""
    """The doubt about the model that the readiness page raised; empty: none."""
    hint: str = ""
    """The source of the hint that drafts came from, ``user`` for one of the user; empty: there was none."""


@dataclass(frozen=True, slots=True)
class PageFailed:
    """The page is given up; the others continue."""

    job_id: str
    page_index: int
    request_id: int
    attempt: int
    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Status:
    """Answer to :class:`StatusRequest`."""

    instance: str
    pid: int
    version: str
    model: str
    fingerprint: str
    state: str
    uptime_s: float
    workers: tuple[WorkerReport, ...]
    clients: int
    requests: dict[str, int]
    """Requests in the ledger by state."""
    counters: dict[str, int]
    memory_bytes: int | None = None
    """The limit for all workers together; none: no limit was set."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Sent now and then to find clients that are gone; needs no answer."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer's last message was not understood or not accepted."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class SwapResult:
    """The outcome of a swap; if it failed, the old encoder stays."""

    swapped: bool
    encoder: str
    """Plugin and options that pages go to now."""
    message: str
    """The reason for the failure, or empty."""


@dataclass(frozen=True, slots=True)
class Bye:
    """The runtime ends; nothing more will come."""

    reason: str
    exit_code: int
    """0 for an orderly end, else the exit code of the client's command; see ``ExitCode``."""


# --- coordinator to workers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configure:
    """Answer to :class:`WorkerHello`: what to load."""

    plugin: str
    options: dict[str, str]
    model: str
    """Path of the model directory."""
    model_name: str
    render_timeout_s: float
    """Longest time for which an encoder may have the file of a page decoded."""
    gpu_faults: int = 0
    """Times in a row that macOS ended or refused the work of this slot on the GPU, or that on a page that waits."""

    def __post_init__(self) -> None:
        require(self.gpu_faults >= 0, f"gpu_faults {self.gpu_faults} is negative")


@dataclass(frozen=True, slots=True)
class Encode:
    """Encode a page and push it to ``data_endpoint``. Buffers: the bytes of the images, in order."""

    request_id: int
    attempt: int
    images: tuple[ImageHeader, ...]
    options: PageOptions
    data_endpoint: str

    def __post_init__(self) -> None:
        require_images(self.images)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Forget an attempt of a request, in whatever state it is."""

    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class HintRequest:
    """Take this hint for an attempt of a request whose embeddings may not have come; for decoders."""

    request_id: int
    attempt: int
    hint: PageHint


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish nothing more and exit."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Let the batch fill before it is decoded further: for a decoder that shares its device with an encoder.

    More pages are coming, and no client waits for the text while it is decoded. Each one replaces the one before.
    """

    for_s: float
    """Longest time from now without a decoding pass; 0: decode at once whatever the batch."""

    def __post_init__(self) -> None:
        require(0 <= self.for_s <= MAX_GATHER_S, f"for_s {self.for_s} is not 0 to {MAX_GATHER_S:g}")


# --- workers to coordinator ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """First message of a worker."""

    role: Role
    epoch: int
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress before :class:`Ready`; extends the load deadline."""

    note: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and a warm-up page went through the plugin."""

    fingerprint: str
    width: int
    """Columns of the embeddings."""
    data_endpoint: str
    """The address from which the decoder pulls embeddings; empty for an encoder."""
    capacity: int
    """Pages in work at once: 1 for an encoder, the batch for a decoder."""
    tasks: tuple[str, ...]
    load_s: float
    buckets: tuple[int, ...] = ()
    """Numbers of patches that a page can have for an encoder with fixed page sizes, ascending; empty: any number."""
    device: Device = Device.CPU
    """The device on which the worker computes."""
    reads_pages: bool = False
    """Whether the plugin reads what pages show, so that it must read the readiness page."""

    def __post_init__(self) -> None:
        require_buckets(self.buckets)


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded and another try would not help; the worker exits."""

    exit_code: int
    """The exit code of the command that started the runtime; see ``ExitCode``."""
    message: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """The page's embeddings were handed to the data plane; the decoder has perhaps not got them."""

    request_id: int
    attempt: int
    nbytes: int
    """Bytes of the embeddings."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The attempt was cancelled and will bring nothing more."""

    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Received:
    """The decoder process holds the page's embeddings: custody moves to it."""

    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Consumed:
    """The embeddings are in the decoder's arrays; their frames are free."""

    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """Some tokens of a page, as text that never splits a character."""

    request_id: int
    attempt: int
    text: str
    num_tokens: int
    geometry: PageGeometry | None
    """The geometry of the first image, with the first tokens of an attempt."""


@dataclass(frozen=True, slots=True)
class Done:
    """The complete answer of a page."""

    request_id: int
    attempt: int
    text: str
    finish_reason: FinishReason
    geometries: tuple[PageGeometry, ...]
    """The geometry of each image."""
    image_tokens: int
    prompt_tokens: int
    """Embeddings included."""
    completion_tokens: int
    timings_ms: dict[str, float]
    hint: str = ""
    """The source of the hint that drafts came from, ``user`` for one of the user; empty: there was none."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """This attempt failed in a worker that continues to work."""

    request_id: int
    attempt: int
    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Blank:
    """The page is blank: the encoder's last message about it; the decoder never receives it."""

    request_id: int
    attempt: int
    geometries: tuple[PageGeometry, ...]
    timings_ms: dict[str, float]


# --- encoder to decoder, on the data plane ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings of a page, or of several images one after the other. Buffers: the tensor's bytes."""

    request_id: int
    attempt: int
    tensor: TensorHeader
    rows: tuple[int, ...]
    """Embeddings of each image, as the encoder states them."""
    geometries: tuple[PageGeometry, ...]
    """The geometry of each image."""
    options: PageOptions
    timings_ms: dict[str, float]
    """The timings of the encoder; the decoder passes them on in :class:`Done` with its own."""

    def __post_init__(self) -> None:
        images = len(self.rows)
        require(1 <= images <= MAX_IMAGES, f"rows of {images} images, not of 1 to {MAX_IMAGES}")
        require(images == len(self.geometries), f"rows of {images} images, {len(self.geometries)} geometries")
        require(min(self.rows) >= 1, f"rows {self.rows} are not positive")
        require(
            sum(self.rows) == self.tensor.shape[0],
            f"rows {self.rows} are {sum(self.rows)} together, not {self.tensor.shape[0]}",
        )


Message = (
    ClientHello | Submit | CancelJob | HintPage | StatusRequest | SwapEncoder
    | Welcome | Accepted | Busy | PageTokens | Restarted | PageResult | PageFailed | Status | Ping | Refused | Bye
    | SwapResult
    | Configure | Encode | CancelRequest | HintRequest | Stop | Gather
    | WorkerHello | Loading | Ready | LoadFailed | Encoded | Dropped | Received | Consumed
    | Decoded | Done | RequestFailed | Blank
    | Embeddings
)  # fmt: skip

MESSAGE_TYPES: dict[int, type[Message]] = {
    1: ClientHello, 2: Submit, 3: CancelJob, 4: StatusRequest, 6: SwapEncoder, 7: HintPage,
    20: Welcome, 21: Accepted, 22: Busy, 23: PageTokens, 24: Restarted, 25: PageResult, 26: PageFailed, 27: Status,
    28: Ping, 29: Refused, 30: Bye, 31: SwapResult,
    40: Configure, 41: Encode, 42: CancelRequest, 43: Stop, 44: HintRequest, 45: Gather,
    60: WorkerHello, 61: Loading, 62: Ready, 63: LoadFailed, 64: Encoded, 65: Dropped, 66: Received, 67: Consumed,
    68: Decoded, 69: Done, 70: RequestFailed, 71: Blank,
    80: Embeddings,
}  # fmt: skip
"""Number on the wire of each message; numbers are never used again for something else (5 was a message once)."""
