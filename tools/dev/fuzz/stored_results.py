"""Fuzz targets of what dotsctl itself has stored: caches, plans, reports, and files of a build; see ``targets.py``."""

from pathlib import Path

from dotsctl.client.cli.arguments import read_prompt
from dotsctl.encoder_worker.coreml.golden_page import Golden
from dotsctl.encoder_worker.coreml.manifest import GOLDEN
from dotsctl.encoder_worker.coreml.manifest import MANIFEST as BUILD_MANIFEST
from dotsctl.encoder_worker.coreml.offers import described_build
from dotsctl.protocol.endpoints import InstanceDirectory, lock_holder
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.locks import try_lock
from dotsctl.protocol.machine.measured_costs import MeasuredCosts, read_costs
from dotsctl.protocol.machine.verdicts import build_digest, complaints, read_mlx, read_verdict, refusal
from dotsctl.protocol.model.directory import read_fingerprint
from dotsctl.protocol.model.half_precision import plan_file, read_plan
from dotsctl.protocol.parts import Role
from dotsctl.tools.doctor_coreml.report import CoreMLReport, lines
from dotsctl.tools.embed import is_embedded

DIGEST = "ab" * 32


def stored(path: Path, content: bytes) -> Path:
    """The path, with this content."""
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def runtime_lock(content: bytes, folder: Path) -> str:
    """The process id in the lock file that a running instance holds."""
    directory = InstanceDirectory("x", folder)
    with stored(directory.lock_path, content).open("rb") as lock:
        assert try_lock(lock.fileno()), "each folder is of one process"
        return f"process {lock_holder(directory)!s:.9}"


def verdict(content: bytes, folder: Path) -> str:
    """Read the findings about a Core ML build, and judge them."""
    found = read_verdict(stored(folder / "verdict.json", content))
    if found is None:
        return "none"
    build_digest(folder / found.build)
    return f"{refusal(found):.9} {len(complaints(found, {96: 1.0}))} {len(found.good_buckets)} {found.is_good}"


def mlx_times(content: bytes, folder: Path) -> str:
    """Seconds of pages with the MLX encoder."""
    found = read_mlx(stored(folder / "mlx.json", content))
    return f"{sorted(found)[:1]} {sum(found.values()):.0e}" if found else "none"


def costs(content: bytes, folder: Path) -> str:
    """Read measured seconds of encoders and speeds of decoders; query, print and extend them."""
    found = read_costs(stored(folder / "costs.json", content))
    listed = " ".join(map(str, found.preferences))
    found.with_newer(found.costs, found.decodings, found.preferences)
    return f"{len(found.costs)} costs, {listed:.9}" if found != MeasuredCosts() else "none"


def fingerprint_cache(content: bytes, folder: Path) -> str:
    """The fingerprint of a model that was hashed before."""
    return str(read_fingerprint(stored(folder / "fingerprint", content)))


def float16_plan(content: bytes, folder: Path) -> str:
    """The scales of a half in float16; ``DOTSCTL_MODELS`` is the folder."""
    stored(plan_file(DIGEST, Role.ENCODER), content)
    try:
        plan = read_plan(DIGEST, Role.ENCODER, folder)
        plan.require_possible("use another type")
        return f"{len(plan.exponents)} exponents"
    except (MissingError, UsageError) as error:
        return str(error)


def build_facts(content: bytes, folder: Path) -> str:
    """The fields of a build's manifest that ``--encoder auto`` reads."""
    units, buckets = described_build(stored(folder / BUILD_MANIFEST, content))
    return f"{units:.9} {buckets[:2]}" if buckets else "none"


def golden_page(content: bytes, folder: Path) -> str:
    """The stored embeddings of a build's golden page."""
    stored(folder / GOLDEN, content)
    try:
        golden = Golden.read(folder)
    except MissingError as error:
        return str(error)
    return f"{golden.bucket} {golden.embeddings.shape}"


def embeddings(content: bytes, folder: Path) -> str:
    """A file of ``dotsctl embed``, which a later run compares with what it would write."""
    return str(is_embedded(stored(folder / "a.npz", content), {"page": 1}))


def doctor_report(content: bytes, folder: Path) -> str:
    """A report of ``doctor --coreml`` to be resumed; what was read is printed and written again."""
    path = stored(folder / "report.json", content)
    try:
        report = CoreMLReport.read(path)
    except UsageError as error:
        return str(error)
    report.write(path)
    printed = [line for name, section in report.sections.items() for line in lines(name, section)]
    return f"{len(printed)} lines, {report.is_settled('system')}"


def prompt_file(content: bytes, folder: Path) -> str:
    """The file behind ``--prompt @``."""
    try:
        text = read_prompt(f"@{stored(folder / 'prompt.txt', content)}")
        return f"about {len(text or ''):.0e} characters"
    except UsageError as error:
        return str(error)
