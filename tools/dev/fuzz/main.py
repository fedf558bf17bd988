"""Fuzzing of everything that reads bytes from a socket or a file, on demand.

``python -P -m dotsctl.tools.dev.fuzz codec --messages 10000000`` for one reader, ``all`` for each in turn. It ends with
1, and stores the input, as soon as a reader raises anything but the errors that it names, hangs, or makes memory grow.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from dotsctl.tools.dev.fuzz.mutation import LONGEST_INPUT_BYTES, Fuzzer, FuzzOutcome
from dotsctl.tools.dev.fuzz.targets import TARGETS

CORPUS = Path("tests/corpus")
"""The corpus in the checkout, which is the current folder."""
MOST_GROWTH_BYTES = 64 << 20
DEFAULT_SECONDS = 60.0
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""The folder for the files that readers need; on a disk, the disk would be measured."""


def seeds_of(name: str, corpus: Path) -> list[bytes]:
    """The stored inputs of a target. Raises ClickException when there are none."""
    paths = sorted((corpus / name).glob("*"))
    if not paths:
        raise click.ClickException(f"{corpus / name} holds no inputs: run this in the checkout, or name --corpus")
    return [path.read_bytes() for path in paths]


def run_mutations(name: str, corpus: Path, *, messages: int | None, seconds: float | None, seed: int) -> FuzzOutcome:
    """Fuzz one target with our own mutations, with a folder of models of its own."""
    before = os.environ.get("DOTSCTL_MODELS")
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=MEMORY) as folder:
        os.environ["DOTSCTL_MODELS"] = folder
        try:
            fuzzer = Fuzzer(TARGETS[name], seeds_of(name, corpus), Path(folder), seed)
            return fuzzer.run(messages=messages, seconds=seconds)
        finally:
            os.environ.pop("DOTSCTL_MODELS")
            if before is not None:
                os.environ["DOTSCTL_MODELS"] = before


def run_atheris(name: str, corpus: Path, seconds: float) -> int:
    """Fuzz one target guided by coverage, in a child process; returns its exit code."""
    program = (
        "import sys, atheris\n"
        "with atheris.instrument_imports(include=['dotsctl']):\n"
        "    from dotsctl.tools.dev.fuzz.targets import TARGETS\n"
        "from pathlib import Path\n"
        "target, folder = TARGETS[sys.argv.pop(1)], Path(sys.argv.pop(1))\n"
        "atheris.Setup(sys.argv, lambda content: target.check(content, folder) and None)\n"
        "atheris.Fuzz()\n"
    )
    limits = [f"-max_total_time={seconds:.0f}", f"-max_len={LONGEST_INPUT_BYTES}", "-rss_limit_mb=2048", "-timeout=30"]
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=MEMORY) as folder:
        found = Path(folder, "found")
        found.mkdir()
        command = [sys.executable, "-P", "-c", program, name, folder, *limits, str(found), str(corpus / name)]
        return subprocess.run(command, env=os.environ | {"DOTSCTL_MODELS": folder}, check=False).returncode


def describe(name: str, outcome: FuzzOutcome) -> str:
    """One line."""
    rate = outcome.messages / max(outcome.seconds, 1e-9)
    return (
        f"{name}: {outcome.messages:,} messages in {outcome.seconds:.0f} s ({rate:,.0f}/s), {outcome.kept} kept, "
        f"memory {outcome.grown_bytes / (1 << 20):+.1f} MiB after the first tenth"
    )


@click.command()
@click.argument("target", type=click.Choice([*TARGETS, "all"]))
@click.option("--messages", type=click.IntRange(min=1), metavar="N", help="Inputs of each target.")
@click.option("--seconds", type=click.FloatRange(min=1), metavar="S", help="Time for each target. [default: 60]")
@click.option("--engine", type=click.Choice(["own", "atheris"]), default="own", show_default=True)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the built-in engine; it selects the inputs."
)
@click.option("--corpus", type=click.Path(path_type=Path), default=CORPUS, show_default=True)
def main(target: str, messages: int | None, seconds: float | None, engine: str, seed: int, corpus: Path) -> None:
    """Feed readers with damaged input; the engine atheris (pip install 'dotsctl[fuzz]') is guided by coverage."""
    limit_s = seconds if seconds or messages else DEFAULT_SECONDS
    for name in TARGETS if target == "all" else [target]:
        if engine == "atheris":
            if run_atheris(name, corpus, limit_s or DEFAULT_SECONDS) != 0:
                raise click.ClickException(f"{name}: see above, and the crash-* or timeout-* file in this folder")
            continue
        outcome = run_mutations(name, corpus, messages=messages, seconds=limit_s, seed=seed)
        click.echo(describe(name, outcome))
        if outcome.finding is not None:
            path = Path(f"finding-{name}.bin")
            path.write_bytes(outcome.finding)
            raise click.ClickException(f"{name}: the input {path} breaks it\n{outcome.trace}")
        if outcome.grown_bytes > MOST_GROWTH_BYTES:
            raise click.ClickException(f"{name}: memory grows without an end")
