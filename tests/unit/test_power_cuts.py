"""A power cut after every file operation of a run: the next run finds no stale, missing or damaged result.

A model of the disk keeps what was flushed: the data of files, and the names in folders, apart from each other. After
each operation the folder is restored as the disk may hold it then: with everything that was not flushed, without it,
with names alone or data alone, and with a part of each by chance. Names of one folder come to the disk in their order,
as journalling file systems bring them. CI has one chance a step, ``python -P -m dotsctl.tools.dev.longrun power-model``
has ten.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHANCES = int(os.environ.get("DOTSCTL_TEST_EXAMPLES", "1"))
PROGRAM = r'''
import io, json, os, random, shutil, stat, sys
from pathlib import Path

from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.sources import expand
from dotsctl.client.outputs.destination import choose_output
from dotsctl.client.outputs.output_base import Reading, State
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Page
from PIL import Image

BASE, OUT, CHANCES = Path.cwd(), str(Path.cwd() / sys.argv[1]), int(sys.argv[2])
SINGLE = not OUT.endswith("out")
FOLDER = Path(OUT).parent if SINGLE else Path(OUT)
frames = [Image.new("RGB", (40, 30), (colour, 0, 0)) for colour in (1, 2)]
(BASE / "in").mkdir()
frames[0].save(BASE / "in/a.tif", save_all=True, append_images=frames[1:])
frames[0].save(BASE / "in/b.png")
DOCUMENTS = list(expand([str(BASE / "in")], io.BytesIO()))
os_fsync = os.fsync
os.fsync = lambda descriptor: None


def run(options):
    """What ``dotsctl ocr`` does with a reader of its own; the texts tell the options."""
    reading = Reading("f" * 64, "mlx", "mlx", {"task": "layout", "prompt": options})
    output = choose_output(OUT, DOCUMENTS, Style.of("md", to_stdout=False), print)
    output.prepare()
    for document in DOCUMENTS:
        state = output.take(document, reading)
        assert state in (State.TO_READ, State.DONE), f"{document.name} is {state}"
        for page in document.pages() if state is State.TO_READ else ():
            if (kept := output.kept(page)) is not None:
                output.add(kept)
                continue
            cells = (Cell((0, 0, 9, 9), "Text", f"{options} {Path(document.name).name} {page.page}"),)
            if page.page == 2:
                cells += (Cell((1, 1, 5 + len(options), 9), "Picture", ""),)
            place = (page.source, page.path, page.page, page.num_pages)
            output.add(Page(*place, "ok", "raw", cells, 40, 30, task="layout", chosen=page.chosen))
    output.finish()
    output.close()


def forked(work):
    if (pid := os.fork()) == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def content():
    """All files that a user sees."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(FOLDER).parts)
    } if FOLDER.exists() else {}


class Disk:
    """What may be on the disk of the folder, after each operation."""

    def __init__(self):
        self.born, self.ids, self.names, self.data, self.pending, self.kept_data = 0, {}, {}, {}, {}, {}
        self.folders, self.layouts, self.rng, self.is_looking = {BASE: "base"}, [], random.Random(7), False
        self.names["base"], self.pending["base"] = {}, []
        self.look()
        for key in self.pending:  # what an earlier run has written is on the disk
            self.flush_folder(key)
        self.kept_data = dict(self.data)

    def look(self):
        """Note what has changed since the last look."""
        self.is_looking, seen, names, data = True, {}, {}, {}
        for folder, _, _ in os.walk(BASE):
            if Path(folder) != BASE and FOLDER not in (Path(folder), *Path(folder).parents):
                continue
            owner = "base" if Path(folder) == BASE else seen[os.stat(folder).st_ino]
            names.setdefault(owner, {})
            for entry in os.scandir(folder):
                path = Path(entry.path)
                if Path(folder) == BASE and path != FOLDER:
                    continue
                number = entry.inode()
                if number not in self.ids:
                    self.born += 1
                    self.ids[number] = f"{self.born}"
                seen[number] = names[owner][entry.name] = self.ids[number]
                if entry.is_file():
                    data[seen[number]] = path.read_bytes()
        self.ids = seen  # a number that is gone may be used again for something else
        for owner in names.keys() | self.names.keys():
            old, new = self.names.get(owner, {}), names.get(owner, {})
            change = {name: new.get(name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
            self.pending.setdefault(owner, [])
            if change:
                self.pending[owner].append(change)
        self.names, self.data = names, {**self.data, **data}
        self.is_looking = False

    def flush(self, descriptor):
        self.look()
        status = os.fstat(descriptor)
        owner = "base" if os.path.samestat(status, os.stat(BASE)) else self.ids.get(status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            self.flush_folder(owner)
        else:
            self.kept_data[owner] = self.data[owner]
        self.note()

    def flush_folder(self, owner):
        self.folders.setdefault(owner, {})
        for change in self.pending.get(owner, []):
            self.folders[owner] = {**self.folders[owner], **change}
        self.pending[owner] = []

    def note(self):
        """Keep what may be on the disk now."""
        choices = [(names, data) for names in (0, 1) for data in (0, 1)] + [(None, None)] * CHANCES
        for names, data in choices:
            layout = self.layout("base", names, data)
            if layout not in self.layouts:
                self.layouts.append(layout)

    def layout(self, owner, names, data, depth=0):
        pending = self.pending.get(owner, [])
        count = self.rng.randint(0, len(pending)) if names is None else names * len(pending)
        entries = dict(self.folders.get(owner, {}))
        for change in pending[:count]:
            entries = {**entries, **change}
        found = {}
        for name, key in entries.items():
            if key is None:
                continue
            if key in self.data:
                old, new = self.kept_data.get(key, b""), self.data[key]
                share = self.rng.choice((0, 0.5, 1)) if data is None else data
                at = len(old) + int(share * (len(new) - len(old))) if new.startswith(old) else len(new)
                found[name] = (new[:at] if share and new.startswith(old) else new if share else old).hex()
            elif depth < 6:
                found[name] = self.layout(key, names, data, depth + 1)
        return found


def restore(layout, folder):
    for name, found in layout.items():
        path = folder / name
        if isinstance(found, str):
            path.write_bytes(bytes.fromhex(found))
        else:
            path.mkdir()
            restore(found, path)


def recorded():
    disk = Disk()

    def audit(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and not disk.is_looking:
            if arguments and str(arguments[0]).startswith(str(FOLDER)):
                disk.look()
                disk.note()

    os.fsync = disk.flush
    sys.addaudithook(audit)
    run("second")
    disk.look()
    disk.note()
    disk.is_looking = True  # the hook stays
    (BASE / "layouts").write_text(json.dumps(disk.layouts))


expected = {}
for options in ("first", "second"):
    assert forked(lambda: run(options))
    expected[options] = content()
    shutil.rmtree(FOLDER)
assert expected["first"].keys() == expected["second"].keys() and expected["first"] != expected["second"]
count = 0
for has_run_before in (False, True):
    if has_run_before:
        assert forked(lambda: run("first"))
    assert forked(recorded)
    assert content() == expected["second"]
    layouts = json.loads((BASE / "layouts").read_text())
    for number, layout in enumerate(layouts):
        if CHANCES == 1 and number % 8 and number != len(layouts) - 1:
            continue  # the whole is done on demand
        for options in ("second", "first"):
            shutil.rmtree(FOLDER, ignore_errors=True)
            restore(layout, BASE)
            whole = [expected["first"], expected["second"]]
            for name, text in content().items():
                assert any(text == each.get(name) for each in whole), f"{number}: {name} is damaged"
            assert forked(lambda: run(options)), f"{number}, {options}: {layout}"
            assert content() == expected[options], f"{number}, {options}: {content()} after {layout}"
            hidden = {path.name for path in FOLDER.rglob(".*")} - {".dotsctl-journal.jsonl"}
            if has_run_before and options == "first":  # nothing is written into the folder of the pictures
                hidden = {name for name in hidden if not name.endswith(".part")}
            assert not hidden, f"{number}, {options}: {hidden} is left"
            count += 1
    shutil.rmtree(FOLDER)
print(count)
'''


@pytest.mark.parametrize("target", ["out", "new/all.md"])
def test_the_next_run_after_a_power_cut_at_any_step_has_the_right_results(tmp_path: Path, target: str) -> None:
    command = [sys.executable, "-P", "-c", PROGRAM, target, str(CHANCES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100 * CHANCES)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 30
