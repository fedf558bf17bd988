"""What is fuzzed: every reader of bytes that come from a socket or a file, as a function of these bytes.

A target returns what the reader answered, in words; whatever it raises is a finding. It raises by itself where a
reader accepts something that it should not.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dotsctl.client import settings
from dotsctl.client.answers import cell_stream, read_answer
from dotsctl.client.inputs import PageInput
from dotsctl.client.journal import JOURNAL_NAME, Journal
from dotsctl.client.model_card import prompts_of
from dotsctl.client.model_record import RECORD, read_record
from dotsctl.client.page_store import PageStore
from dotsctl.decoder_worker.quantised import MANIFEST as DECODER_MANIFEST
from dotsctl.decoder_worker.quantised import Quantisation, open_quantised
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.encoder_worker.coreml.manifest import MANIFEST as BUILD_MANIFEST
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.protocol import codec
from dotsctl.protocol.checkpoint import INDEX, read_index, read_json
from dotsctl.protocol.checkpoint_config import config_problems
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import MissingError, ProtocolError, UsageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.safetensors_header import read_header
from dotsctl.protocol.tasks import PROMPTS

SEPARATOR = b"|FRAME|"
"""Between the frames of a message in one file of the corpus."""
GEOMETRY = PageGeometry(source=(1000, 1400), orientation=1, resized=(700, 980), scale=(0.7, 0.7))
DIGEST = "ab" * 32
NESTED = (b"[" * 2000, b'{"a":' * 600, b"{" * 500, b"9" * 5000)
MSGPACK_TOKENS = (
    *(b"\xc0", b"\xc1", b"\xc2", b"\xff", b"\xc4\xff", b"\xc6\xff\xff\xff\xff", b"\xcb\x7f\xf8\0\0\0\0\0\0"),
    *(b"\xcf" + b"\xff" * 8, b"\xd9\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91" * 600),
    *(b"\x81\xa1t", SEPARATOR),
)
JSON_TOKENS = (
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b"18446744073709551616", b"0.5", b'""', b'"\\ud800"', b'"\\u0000"'),
    *(b"[]", b"{}", b",", b":", b'"', b"\\", b"\xff", b"\n", b'"../x"', b'"format":1', *NESTED),
)
TEXT_TOKENS = (
    *(b'{"bbox":', b"[1,2,3,4]", b'"category":', b'"text":', b'"', b"\\", b"\\ud800", b"'", b"]", b"}", b"\n", b"```"),
    *(b"(1,2),(3,4)", b'prompt = """', b'"""', b" " * 300, b"\\" * 300, *NESTED),
)

Check = Callable[[bytes, Path], str]


@dataclass(frozen=True)
class Target:
    """One reader."""

    check: Check
    """Reads the bytes, with an empty folder of its own if it needs files; returns what came of it."""
    tokens: tuple[bytes, ...]
    """Pieces that matter to this reader, for the mutations."""


def codec_message(content: bytes, _: Path) -> str:
    """A message; what is accepted comes back the same when it is sent on."""
    try:
        received = codec.decode(content.split(SEPARATOR))
    except ProtocolError as error:
        return str(error)
    again = codec.decode(codec.encode(received.message, received.buffers))
    if again.message != received.message:
        raise ValueError(f"{received.message} is {again.message} after one more journey")
    return type(received.message).__name__


def safetensors(content: bytes, folder: Path) -> str:
    """The header of a weight file."""
    path = _stored(folder / "x.safetensors", content)
    try:
        return f"{len(read_header(path))} tensors"
    except MissingError as error:
        return str(error)


def coreml_build(content: bytes, folder: Path) -> str:
    """The manifest of a Core ML build; also the look at its files, of which there are none."""
    _stored(folder / BUILD_MANIFEST, content)
    try:
        build = Build.read(folder)
        build.check_files(folder)
        return f"{build.nbytes} bytes"
    except MissingError as error:
        return str(error)


def quantised_decoder(content: bytes, folder: Path) -> str:
    """The manifest of a quantised decoder; ``DOTSCTL_MODELS`` is the folder."""
    quantisation = Quantisation(8)
    _stored(quantisation.folder(DIGEST) / DECODER_MANIFEST, content)
    try:
        return f"{len(open_quantised(folder, DIGEST, quantisation).files)} files"
    except MissingError as error:
        return str(error)


def pull_record(content: bytes, folder: Path) -> str:
    """Where a model comes from."""
    _stored(folder / RECORD, content)
    record = read_record(folder)
    return "none" if record is None else f"{record.repo!s:.9} {sorted(record.digests)[:1]}"


def journal(content: bytes, folder: Path) -> str:
    """What a folder of results holds already; what was read is asked for."""
    _stored(folder / JOURNAL_NAME, content)
    return str(Journal(folder).entry("a.md"))


def page_store(content: bytes, folder: Path) -> str:
    """Pages of an output that is not whole; what was read is written again."""
    store = PageStore(folder, "a.md")
    _stored(store.path, content)
    page = store.find("key", PageInput("a.tif", None, 1, 3))
    if page is None:
        return "none"
    page.to_markdown().encode()
    return f"{page.status:.9} {len(page.cells)}"


def runtime_facts(content: bytes, folder: Path) -> str:
    """What a runtime tells of itself in its folder."""
    directory = InstanceDirectory("x", folder)
    _stored(directory.facts_path, content)
    facts = directory.read_facts()
    return "none" if facts is None else f"{facts.pid + 0} {facts.model!s:.9}"


def layout_answer(content: bytes, _: Path) -> str:
    """The answer of a model, which may be anything; the pieces in which it comes change nothing."""
    text = content.decode("utf-8", "replace")
    told = []
    for task in ("layout", "web", "scene"):
        cells, repairs = read_answer(task, text, GEOMETRY)
        stream = cell_stream(task, GEOMETRY)
        pieces = [cell for start in range(0, len(text), 61) for cell in stream.push(text[start : start + 61])]
        rest, told_late = stream.finish()
        if ((*pieces, *rest), told_late) != (cells, repairs):
            raise ValueError(f"{task}: in pieces it is {pieces + rest}, {told_late}, at once {cells}, {repairs}")
        "".join(cell.markdown for cell in cells).encode()
        told.append(f"{len(cells)} {' '.join(repairs)}")
    return " ".join(told)


def prompts(content: bytes, folder: Path) -> str:
    """``prompts.json`` of a model."""
    _stored(folder / PROMPTS, content)
    try:
        return str(len("".join(read_prompts(folder).values()).encode()) > 0)
    except (UsageError, MissingError) as error:
        return str(error)


def model_config(content: bytes, folder: Path) -> str:
    """``config.json`` and the index of a model."""
    _stored(folder / "config.json", content)
    _stored(folder / INDEX, content)
    told = []
    for read in (lambda: config_problems(read_json(folder, "config.json")), lambda: read_index(folder)):
        try:
            told.append(str(read()))
        except MissingError as error:
            told.append(str(error))
    return " ".join(told)


def user_config(content: bytes, folder: Path) -> str:
    """The user's configuration file."""
    path = _stored(folder / "config.toml", content)
    try:
        return str(settings.choose(environment={}, files=(path,)))
    except UsageError as error:
        return str(error)


def model_card(content: bytes, _: Path) -> str:
    """The README of a model on the hub."""
    return str(sorted(prompts_of(io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace").read())))


def _stored(path: Path, content: bytes) -> Path:
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


TARGETS = {
    "codec": Target(codec_message, MSGPACK_TOKENS),
    "safetensors": Target(safetensors, (*JSON_TOKENS, b'"F32"', b'"shape"', b'"data_offsets"', b"\x00" * 8)),
    "coreml-build": Target(coreml_build, JSON_TOKENS),
    "quantised-decoder": Target(quantised_decoder, (*JSON_TOKENS, DIGEST.encode())),
    "pull-record": Target(pull_record, JSON_TOKENS),
    "journal": Target(journal, JSON_TOKENS),
    "page-store": Target(page_store, JSON_TOKENS),
    "runtime-facts": Target(runtime_facts, JSON_TOKENS),
    "layout-answer": Target(layout_answer, TEXT_TOKENS),
    "prompts": Target(prompts, JSON_TOKENS),
    "model-config": Target(model_config, JSON_TOKENS),
    "user-config": Target(user_config, (*JSON_TOKENS, b"=", b'model = "demo"', b"[a]", b"'''", b"a = " + b"[" * 3000)),
    "model-card": Target(model_card, TEXT_TOKENS),
}
"""By the name on the command line, which is also that of the folder of its corpus."""
