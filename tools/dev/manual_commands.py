"""Runs every command of the manuals: ``python -P -m dotsctl.tools.dev.manual_commands``.

Commands run in the order of each manual, in a folder with the files that they name, with the demo model, and with
runtime, caches and models of their own. What cannot run here (a Mac, the network, hours) is listed with the reason; a
long tool answers ``--help`` instead. The exit code is 1 if a command fails.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
from PIL import Image

CHECKOUT = Path(__file__).resolve().parents[2]
MANUALS = (
    "README.md",
    "client/README.md",
    "encoder_worker/README.md",
    "decoder_worker/README.md",
    "protocol/README.md",
    "tools/README.md",
    "CONTRIBUTING.md",
)
LIMIT_S = 300.0
PDF_PAGES = 12
SKIPPED = (
    (r"\bpull\b", "needs the network"),
    (r"\b(show|rm) dots\.", "needs an installed model"),
    (r"coreml(?!:compute_units=reference)|bench energy", "needs a Mac, or takes minutes"),
    (r"\b(MODEL|DIR|FOLDER|NAME|SIZE|STYLE|six|packed|OUT)\b", "has names to be filled in"),
    (r"plugins check colours|--encoder colours", "needs the plugin to be installed"),
    (r"^pip |venv|^ruff|^mypy|^pytest|^tools/|^python -m tests|^apt-get|^\. ", "is run by CI, or installs"),
)
LONG = re.compile(
    r"tools\.dev\.(train|chaos|fuzz|bench|page_sets|pack_training|longrun|evaluate|curves|noise|quantise|bucket_search"
    r"|trimming|training_plot|readme_picture|manual_commands)\b|bench "
)


@dataclass(frozen=True)
class ManualCommand:
    """One command line of a manual."""

    manual: str
    line: str

    @property
    def skipped(self) -> str:
        """The reason why it is not run; empty: it is."""
        if "tools.dev.train" in self.line and find_spec("torch") is None:
            return "needs PyTorch, which is not installed"
        return next((reason for pattern, reason in SKIPPED if re.search(pattern, self.line)), "")

    @property
    def words(self) -> list[str]:
        """The words to run: this interpreter in place of ``dotsctl`` and ``python``; ``--help`` of a long tool."""
        words = shlex.split(self.line)
        start = [sys.executable, "-P", "-m", *(["dotsctl"] if words[0] == "dotsctl" else [])]
        rest = words[1:] if words[0] == "dotsctl" else words[3:]
        if LONG.search(self.line):
            rest = [word for word in rest[:2] if re.fullmatch(r"[a-z_.]+", word)] + ["--help"]
        return [*start, *rest]


def blocks(text: str, language: str = "") -> list[str]:
    """Return fenced blocks of a language; blocks that are indented by four columns count as blocks without one."""
    fenced = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"\n\n((?:    \S.*\n?)+)", rest) if not language else []
    return fenced + indented


def commands(manual: str) -> Iterator[ManualCommand]:
    """Yield the commands in the blocks of a manual, without comments and redirections."""
    for block in blocks((CHECKOUT / manual).read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            first = re.split(r"\s+#|\s{3,}(?=[A-Za-z])| < | > | && ", line.strip())[0]
            if first.startswith(("dotsctl ", "python -P -m ")):
                yield ManualCommand(manual, first)


def prepare(folder: Path) -> None:
    """Write the files that the commands name."""
    pages = sorted((CHECKOUT / "client" / "sample_pages").glob("*.png"))
    (folder / "scans").mkdir()
    for page in pages[:2]:
        (folder / "scans" / page.name).write_bytes(page.read_bytes())
    for name in ("a.png", "b.png", "scan.png", "page.png"):
        (folder / name).write_bytes(pages[0].read_bytes())
    (folder / "answer.txt").write_text("an answer", "utf-8")
    (folder / "hint.json").write_text('{"blocks": [{"text": "an answer", "box": null}], "size": null, "source": ""}')
    (folder / "scan.txt").write_text("an answer", "utf-8")
    (folder / "texts").mkdir()
    (folder / "answers").mkdir()
    for name in ("page", *(page.stem for page in pages[:2])):
        (folder / "answers" / f"{name}.txt").write_text("an answer", "utf-8")
    (folder / "tests").symlink_to(CHECKOUT / "tests")
    sheets = [Image.new("RGB", (200, 100), "white") for _ in range(PDF_PAGES)]
    sheets[0].save(folder / "report.pdf", save_all=True, append_images=sheets[1:])
    sheets[0].save(folder / "scan.pdf")


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which the demo model is the default and nothing of the user is touched."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DOTSCTL_")}
    homes = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    return {**kept, **homes, "DOTSCTL_MODEL": "demo", "DOTSCTL_RUNTIME_DIR": str(folder / "run")}


def run_one(command: ManualCommand, folder: Path) -> str:
    """Run a command; return what went wrong, or nothing."""
    page = (folder / "scan.png").open("rb") if " - " in f"{command.line} " else subprocess.DEVNULL
    try:
        done = subprocess.run(
            command.words, cwd=folder, env=environment(folder), stdin=page, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT_S:.0f} s"
    finally:
        if not isinstance(page, int):
            page.close()
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"


@click.command()
def main() -> None:
    """Run every command of the manuals."""
    failed = 0
    for manual in MANUALS:
        with tempfile.TemporaryDirectory(prefix="m") as name:
            folder = Path(name)
            prepare(folder)
            for command in commands(manual):
                problem = "" if command.skipped else run_one(command, folder)
                failed += bool(problem)
                mark = "skip" if command.skipped else "FAIL" if problem else "ok"
                note = command.skipped or problem
                click.echo(f"{mark:<4}  {manual}: {command.line}" + (f"  ({note})" if note else ""))
            down = ManualCommand(manual, "dotsctl down --now")
            run_one(down, folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
