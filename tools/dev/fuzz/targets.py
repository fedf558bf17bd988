"""The targets of fuzzing: every reader of bytes that come from a socket or a file, as a function of these bytes.

A target returns the reader's result, as text; whatever it raises is a finding. It raises by itself where a
reader accepts something that it should not.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.models.card import prompts_of
from dotsctl.client.models.record import RECORD, read_record
from dotsctl.client.outputs.journal import JOURNAL_NAME, Journal
from dotsctl.client.outputs.page_store import PageStore
from dotsctl.client.results.answers import cell_stream, read_answer
from dotsctl.client.results.page import Page
from dotsctl.client.settings import choices as settings
from dotsctl.decoder_worker.quantised import MANIFEST as DECODER_MANIFEST
from dotsctl.decoder_worker.quantised import decoder_folder, open_quantised
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.encoder_worker.coreml.manifest import MANIFEST as BUILD_MANIFEST
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.protocol import codec
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import MissingError, ProtocolError, UsageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.model.checkpoint import INDEX, read_index, read_json
from dotsctl.protocol.model.config import config_problems
from dotsctl.protocol.model.quantisation import KINDS
from dotsctl.protocol.model.safetensors_header import read_header
from dotsctl.protocol.model.tasks import PROMPTS
from dotsctl.protocol.typed_values import WrongValueError, plain_json
from dotsctl.tools.dev.fuzz import stored_results
from dotsctl.tools.dev.fuzz.stored_results import DIGEST, stored

SEPARATOR = b"|FRAME|"
"""The separator between the frames of a message in one file of the corpus."""
GEOMETRY = PageGeometry(source=(1000, 1400), orientation=1, resized=(700, 980), scale=(0.7, 0.7))
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
WRONG_FIELDS = (b'"page_s": "fast"', b'"ne_share": "half"', b'"trials": []', b'"buckets": []', b'"bucket": 0')
NPZ_TOKENS = (
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"\x93NUMPY\x01\0",
    b"'descr': '|O'",
    b"'shape': (9999999999,)",
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
    path = stored(folder / "x.safetensors", content)
    try:
        return f"{len(read_header(path))} tensors"
    except MissingError as error:
        return str(error)


def coreml_build(content: bytes, folder: Path) -> str:
    """The manifest of a Core ML build; also the check of its files, of which there are none."""
    stored(folder / BUILD_MANIFEST, content)
    try:
        build = Build.read(folder)
        build.check_files(folder)
        return f"{build.nbytes} bytes"
    except MissingError as error:
        return str(error)


def quantised_decoder(content: bytes, folder: Path) -> str:
    """The manifest of a quantised decoder; ``DOTSCTL_MODELS`` is the folder."""
    quantisation = KINDS["8"]
    stored(decoder_folder(quantisation, DIGEST) / DECODER_MANIFEST, content)
    try:
        return f"{len(open_quantised(folder, DIGEST, quantisation).files)} files"
    except MissingError as error:
        return str(error)


def pull_record(content: bytes, folder: Path) -> str:
    """The source of a model."""
    stored(folder / RECORD, content)
    record = read_record(folder)
    return "none" if record is None else f"{record.repo!s:.9} {sorted(record.digests)[:1]}"


def journal(content: bytes, folder: Path) -> str:
    """The journal of a folder of results; one entry of it is queried."""
    stored(folder / JOURNAL_NAME, content)
    return str(Journal(folder).entry("a.md"))


def page_store(content: bytes, folder: Path) -> str:
    """Pages of an output that is not complete; what was read is written again."""
    store = PageStore(folder, "a.md")
    stored(store.path, content)
    page = store.find("key", PageInput("a.tif", None, 1, 3))
    if page is None:
        return "none"
    page.to_markdown().encode()
    return f"{page.status:.9} {len(page.cells)}"


def page_record(content: bytes, _: Path) -> str:
    """A page in JSON; what was read is written again."""
    try:
        page = Page.from_record(plain_json(content))
    except (UsageError, WrongValueError) as error:
        return str(error)[:60]
    page.to_markdown().encode()
    return f"{page.record()['status']:.9} {len(page.cells)}"


def runtime_facts(content: bytes, folder: Path) -> str:
    """The facts that a runtime stores in its folder."""
    directory = InstanceDirectory("x", folder)
    stored(directory.facts_path, content)
    facts = directory.read_facts()
    return "none" if facts is None else f"{facts.pid + 0} {facts.model!s:.9}"


def layout_answer(content: bytes, _: Path) -> str:
    """The answer of a model, which may be anything; the pieces in which it comes change nothing."""
    text = content.decode("utf-8", "replace")
    found = []
    for task in ("layout", "web", "scene"):
        cells, repairs = read_answer(task, text, GEOMETRY)
        stream = cell_stream(task, GEOMETRY)
        pieces = [cell for start in range(0, len(text), 61) for cell in stream.push(text[start : start + 61])]
        rest, late_repairs = stream.finish()
        if ((*pieces, *rest), late_repairs) != (cells, repairs):
            raise ValueError(f"{task}: in pieces it is {pieces + rest}, {late_repairs}, at once {cells}, {repairs}")
        "".join(cell.markdown for cell in cells).encode()
        found.append(f"{len(cells)} {' '.join(repairs)}")
    return " ".join(found)


def prompts(content: bytes, folder: Path) -> str:
    """``prompts.json`` of a model."""
    stored(folder / PROMPTS, content)
    try:
        return str(len("".join(read_prompts(folder).values()).encode()) > 0)
    except (UsageError, MissingError) as error:
        return str(error)


def model_config(content: bytes, folder: Path) -> str:
    """``config.json`` and the index of a model."""
    stored(folder / "config.json", content)
    stored(folder / INDEX, content)
    found = []
    for read in (lambda: config_problems(read_json(folder, "config.json")), lambda: read_index(folder)):
        try:
            found.append(str(read()))
        except MissingError as error:
            found.append(str(error))
    return " ".join(found)


def user_config(content: bytes, folder: Path) -> str:
    """The user's configuration file."""
    path = stored(folder / "config.toml", content)
    try:
        return str(settings.choose(environment={}, files=(path,)))
    except UsageError as error:
        return str(error)


def model_card(content: bytes, _: Path) -> str:
    """The README of a model on the hub."""
    return str(sorted(prompts_of(io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace").read())))


TARGETS = {
    "codec": Target(codec_message, MSGPACK_TOKENS),
    "safetensors": Target(safetensors, (*JSON_TOKENS, b'"F32"', b'"shape"', b'"data_offsets"', b"\x00" * 8)),
    "coreml-build": Target(coreml_build, JSON_TOKENS),
    "quantised-decoder": Target(quantised_decoder, (*JSON_TOKENS, DIGEST.encode())),
    "pull-record": Target(pull_record, JSON_TOKENS),
    "journal": Target(journal, JSON_TOKENS),
    "page-store": Target(page_store, JSON_TOKENS),
    "page-record": Target(page_record, JSON_TOKENS),
    "runtime-facts": Target(runtime_facts, JSON_TOKENS),
    "runtime-lock": Target(stored_results.runtime_lock, (b"0", "²٣".encode(), b"\n", b"-", b"9" * 40)),
    "verdict": Target(stored_results.verdict, (*JSON_TOKENS, *WRONG_FIELDS)),
    "mlx-times": Target(stored_results.mlx_times, JSON_TOKENS),
    "measured-costs": Target(stored_results.costs, JSON_TOKENS),
    "fingerprint-cache": Target(stored_results.fingerprint_cache, (b"\n", b"\xff", DIGEST.encode())),
    "float16-plan": Target(stored_results.float16_plan, JSON_TOKENS),
    "build-facts": Target(stored_results.build_facts, (*JSON_TOKENS, b'"buckets": [1e999]')),
    "golden-page": Target(stored_results.golden_page, NPZ_TOKENS),
    "embeddings": Target(stored_results.embeddings, NPZ_TOKENS),
    "doctor-report": Target(stored_results.doctor_report, JSON_TOKENS),
    "prompt-file": Target(stored_results.prompt_file, (b"\n", b"\xff", "²".encode())),
    "layout-answer": Target(layout_answer, TEXT_TOKENS),
    "prompts": Target(prompts, JSON_TOKENS),
    "model-config": Target(model_config, JSON_TOKENS),
    "user-config": Target(user_config, (*JSON_TOKENS, b"=", b'model = "demo"', b"[a]", b"'''", b"a = " + b"[" * 3000)),
    "model-card": Target(model_card, TEXT_TOKENS),
}
"""The targets by the name on the command line, which is also that of the folder of its corpus."""
