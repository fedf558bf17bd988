"""kill -9 at every step of writing results: outputs are whole or absent, and the next run completes them.

The steps are Python's audit events about the folder of results (opening, making, renaming and removing files) and
``os.fsync``. One process forks a run for each step, which kills itself in front of it.
"""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = '''
import io, os, shutil, signal, sys
from pathlib import Path

from dotsctl.client.results.cell import Cell
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.outputs.output_base import Reading, State
from dotsctl.client.outputs.destination import choose_output
from dotsctl.client.results.page import Page
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.sources import expand
from PIL import Image

from dotsctl.client.inputs import loading
from tests.decoding import RendererHere

loading.RENDERER = RendererHere()  # a process for each of the forked ones would take most of the time
BASE, OUT = Path.cwd(), str(Path.cwd() / sys.argv[1])
SINGLE = not OUT.endswith("out")
FOLDER = Path(OUT).parent if SINGLE else Path(OUT)
READING = Reading("f" * 64, "mlx", "mlx", {"task": "layout"})
frames = [Image.new("RGB", (40, 30), (colour, 0, 0)) for colour in (1, 2)]
(BASE / "in").mkdir()
frames[0].save(BASE / "in/a.tif", save_all=True, append_images=frames[1:])
frames[0].save(BASE / "in/b.png")
DOCUMENTS = list(expand([str(BASE / "in")], io.BytesIO()))
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir"}
left, read_pages, steps = None, BASE / "read", [0]


def step():
    global left
    steps[0] += 1
    if left is not None:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def audit(event, arguments):
    if event in EVENTS and arguments and str(arguments[0]).startswith(str(FOLDER)):
        step()


def fsync(descriptor):
    step()  # the disk itself need not be waited for: kill -9 takes no power away


def run():
    """What ``dotsctl ocr`` does with a reader of its own; notes every page that it reads."""
    output = choose_output(OUT, DOCUMENTS, Style.of("md", to_stdout=False), print)
    output.prepare()
    for document in DOCUMENTS:
        if output.take(document, READING) is not State.TO_READ:
            continue
        for page in document.pages():
            if (kept := output.kept(page)) is not None:
                output.add(kept)
                continue
            with read_pages.open("a") as notes:
                notes.write(f"{document.name}:{page.page}\\n")
            cells = (Cell((0, 0, 9, 9), "Text", f"{document.name} {page.page}"),)
            if page.page == 2:
                cells += (Cell((1, 1, 9, 9), "Picture", ""),)
            place = (page.source, page.path, page.page, page.num_pages)
            output.add(Page(*place, "ok", "raw", cells, 40, 30, task="layout", chosen=page.chosen))
    output.finish()
    output.close()


def content():
    """All files that a user sees."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(FOLDER).parts)
    } if FOLDER.exists() else {}


def forked(limit):
    global left
    if (pid := os.fork()) == 0:
        left = limit
        run()
        os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


sys.addaudithook(audit)
os.fsync = fsync
assert not forked(None)
calm, count = content(), 0
assert sum(name.endswith(".md") for name in calm) == (1 if SINGLE else 2) and len(calm) == (2 if SINGLE else 3)
while True:
    shutil.rmtree(FOLDER)
    read_pages.unlink(missing_ok=True)
    killed = forked(count)
    for name, text in content().items():
        assert calm[name] == text, f"step {count}: {name} is not whole"
    is_over = SINGLE and content() == calm and not list(FOLDER.glob(".*.pages"))  # killed after its last deed
    assert not forked(None), "the next run is not killed"
    assert content() == calm, f"step {count}: {content().keys()}"
    again = read_pages.read_text().splitlines()
    # A page may be read twice only when the kill came before it was noted on the disk.
    assert is_over or len(again) - len(set(again)) <= 1, f"step {count}: {again}"
    hidden = {path.name for path in FOLDER.rglob(".*")} - {".dotsctl-journal.jsonl"}
    assert not hidden, f"step {count}: {hidden} is left"
    if not killed:
        break
    count += 1
print(count)
'''


def outcome(tmp_path: Path, target: str) -> int:
    """How many steps there were."""
    command = [sys.executable, "-P", "-c", PROGRAM, target]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_folder_survives_a_kill_at_every_step(tmp_path: Path) -> None:
    assert outcome(tmp_path, "out") > 30


def test_a_single_file_survives_a_kill_at_every_step(tmp_path: Path) -> None:
    assert outcome(tmp_path, "new/all.md") > 25
