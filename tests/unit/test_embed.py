import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.client.inputs.pages import PageInput
from dotsctl.encoder_worker.plugins.fake import digest_rows
from dotsctl.protocol.errors import CommandFailedError, ExitCode, MissingError, UsageError
from dotsctl.tools import embed
from dotsctl.tools.measuring.encoding import as_float32
from PIL import Image

from tests.decoding import decode_image

Run = Callable[..., ExitCode]


@pytest.fixture
def run(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``dotsctl embed`` in this process, with the fake encoder, into ``out``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    defaults: dict[str, Any] = dict.fromkeys(("model", "max_pixels", "pages", "password"))
    defaults |= {"output": "out", "encoder": "fake", "dpi": 72, "force": False}
    return lambda *inputs, **options: embed.run(inputs=inputs, **defaults | options)


def save(path: Path, *colours: int) -> Path:
    frames = [Image.new("RGB", (40, 30), (colour, 0, 0)) for colour in colours]
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {"save_all": True, "append_images": frames[1:]} if len(frames) > 1 else {}
    frames[0].save(path, **more)
    return path


def load(path: str) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored}


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.npz")}


def test_a_picture_becomes_a_file_with_what_the_encoder_made(run: Run, tmp_path: Path) -> None:
    content = decode_image(save(tmp_path / "a.png", 1).read_bytes())[0].tobytes()
    assert run("a.png") == ExitCode.OK
    page = load("out/a.npz")
    expected = digest_rows(hashlib.sha256(content).digest(), 4)
    assert page["embeddings"].dtype == np.float32 and np.array_equal(page["embeddings"], expected)
    assert page["grid"].tolist() == [2, 8]
    assert page["resized"].tolist() == [56, 84]
    assert len(page["fingerprint"].item()) == 64


def test_each_page_of_a_pdf_becomes_a_file(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    save(tmp_path / "in" / "b.pdf", 1, 2, 3)
    save(tmp_path / "in" / "deep" / "c.png", 4)
    assert run("in") == ExitCode.OK
    assert written(tmp_path / "out") == {"b/page-0001.npz", "b/page-0002.npz", "b/page-0003.npz", "deep/c.npz"}
    first, third = load("out/b/page-0001.npz"), load("out/b/page-0003.npz")
    assert not np.array_equal(first["embeddings"], third["embeddings"])
    assert (third["page"].item(), third["resolution"].item()) == (3, "72 dpi")


def test_chosen_pages_alone_are_embedded_and_count_as_done_later(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "t.tiff", 1, 2, 3)
    run("t.tiff", pages="2-3")
    assert written(tmp_path / "out") == {"t/page-0002.npz", "t/page-0003.npz"}
    run("t.tiff")
    assert "1 page embedded, 2 skipped (already done; --force embeds them again)" in capfd.readouterr().err


def test_what_is_done_is_skipped_and_nothing_is_loaded_for_it(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", 1)
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "models" / "small" / "config.json").write_text("{}")
    assert run("a.png", model="small") == ExitCode.OK
    before = (tmp_path / "out" / "a.npz").stat().st_mtime_ns
    capfd.readouterr()

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(embed, "PageEncoder", refuse)
    assert run("a.png", model="small") == ExitCode.OK
    assert capfd.readouterr().err.startswith("0 pages embedded, 1 skipped")
    assert (tmp_path / "out" / "a.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "change", [{"force": True}, {"encoder": "fake:embed_mib=0.1"}, {"max_pixels": 1000}, {"model": "small"}]
)
def test_a_page_is_embedded_again_when_something_else_was_chosen(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    save(tmp_path / "a.png", 1)
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "models" / "small" / "config.json").write_text("{}")
    run("a.png")
    capfd.readouterr()
    run("a.png", **change)
    assert "1 page embedded into" in capfd.readouterr().err
    run("a.png", **change | {"force": False})
    assert "0 pages embedded, 1 skipped" in capfd.readouterr().err


def test_a_changed_picture_is_embedded_again(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a.png", 1)
    run("a.png")
    save(tmp_path / "a.png", 2)
    capfd.readouterr()
    run("a.png")
    assert "1 page embedded into" in capfd.readouterr().err


@pytest.mark.parametrize("damage", ["cut file", "other npz", "text"])
def test_a_result_that_was_changed_is_kept_and_named_until_overwrite_is_given(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    save(tmp_path / "a.png", 1)
    run("a.png")
    result = tmp_path / "out" / "a.npz"
    good = result.read_bytes()
    match damage:
        case "cut file":
            result.write_bytes(good[: len(good) // 2])
        case "other npz":
            stream = io.BytesIO()
            np.savez(stream, embeddings=np.zeros(3))
            result.write_bytes(stream.getvalue())
        case "text":
            result.write_text("nothing")
    changed = result.read_bytes()
    capfd.readouterr()
    for force in (False, True):
        assert run("a.png", force=force) == ExitCode.OK
        named, summary = capfd.readouterr().err.splitlines()[-2:]
        assert named == "out/a.npz is kept: it was edited, or dotsctl did not write it"
        assert summary.startswith("0 pages embedded, 1 kept (edited, or not written by dotsctl; --overwrite")
        assert result.read_bytes() == changed
    assert run("a.png", overwrite=True) == ExitCode.OK
    assert "1 page embedded into" in capfd.readouterr().err
    assert load("out/a.npz")["embeddings"].shape == (4, 1024)


def test_a_file_of_somebody_else_and_a_fifo_are_kept_and_the_other_pages_are_embedded(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "t.tiff", 1, 2, 3)
    (tmp_path / "out" / "t").mkdir(parents=True)
    (tmp_path / "out" / "t" / "page-0001.npz").write_text("notes by hand")
    os.mkfifo(tmp_path / "out" / "t" / "page-0003.npz")
    assert run("in") == ExitCode.OK
    assert (tmp_path / "out" / "t" / "page-0001.npz").read_text() == "notes by hand"
    assert load("out/t/page-0002.npz")["page"].item() == 2
    run("in", overwrite=True)
    assert load("out/t/page-0001.npz")["page"].item() == 1
    assert (tmp_path / "out" / "t" / "page-0003.npz").is_fifo()


def test_a_result_that_a_link_leads_to_is_written_through_the_link(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").symlink_to(tmp_path / "elsewhere.npz")
    run("a.png")
    assert (tmp_path / "out" / "a.npz").is_symlink() and load("elsewhere.npz")["page"].item() == 1


def test_a_page_that_fails_is_one_line_and_the_others_continue(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in" / "a.png", 1)
    (tmp_path / "in" / "b.png").write_text("no picture")
    save(tmp_path / "in" / "c.png", 3)
    assert run("in") == ExitCode.SOME_FAILED
    assert written(tmp_path / "out") == {"a.npz", "c.npz"}
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("in/b.png:1: this file holds text")]
    assert lines[-1].startswith("2 pages embedded, 1 failed into out, ")


def test_no_readable_input_has_an_exit_code_of_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_text("no picture")
    assert run("b.png", "missing.png") == ExitCode.NO_INPUT


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", "encoder 'fake' raised ZeroDivisionError"),
        ("refuse", "set to refuse"),
        ("wrong-width", "embeddings have shape (4, 1023), not (4, 1024)"),
        ("wrong-grid", "not (6, 1024) as grid 2x12"),
        ("not-finite", "1 of 4096 embedding values are not finite"),
        ("no-memory", "lower --max-pixels"),
    ],
)
def test_a_faulty_plugin_fails_the_page_and_writes_nothing(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str, message: str
) -> None:
    save(tmp_path / "a.png", 1)
    assert run("a.png", encoder=f"fake:fault={fault}") == (
        ExitCode.NO_INPUT if fault == "refuse" else ExitCode.SOME_FAILED
    )
    assert message in capfd.readouterr().err
    assert written(tmp_path / "out") == set()


def test_an_encoder_that_cannot_load_ends_the_run(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    with pytest.raises(MissingError, match="set to miss something"):
        run("a.png", encoder="fake:load_fault=refuse")
    with pytest.raises(UsageError, match="there is no plugin 'nonsense'"):
        run("a.png", encoder="nonsense", model="demo")


def test_an_encoder_that_fails_at_the_warm_up_page_ends_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr("dotsctl.encoder_worker.plugins.fake.FakeEncoder.close", lambda _: closed.append(True))
    monkeypatch.setattr(
        "dotsctl.encoder_worker.plugins.fake.digest_rows", lambda _, rows: np.zeros((rows, 5), np.float32)
    )
    save(tmp_path / "a.png", 1)
    with pytest.raises(CommandFailedError, match=r"encoder 'fake' fails on the warm-up page: .*shape"):
        run("a.png")
    assert closed == [True]


def test_pictures_with_the_same_stem_do_not_overwrite_each_other_in_different_runs(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / "a.jpg", 2)
    run("a.png")
    run("a.jpg")
    assert written(tmp_path / "out") == {"a.npz", "a.jpg.npz"}


def test_a_page_of_a_document_gives_way_to_a_picture_of_that_name() -> None:
    page = PageInput("b.pdf", None, page=7, num_pages=9)
    assert embed.page_name("b.npz", page, {"b.npz"}) == "b/page-0007.npz"
    assert embed.page_name("b.npz", page, {"b.npz", "b/page-0007.npz"}) == "b.npz/page-0007.npz"


def test_bfloat16_becomes_float32_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = as_float32(bits.reshape(256, 256))
    assert values.dtype == np.float32
    assert np.array_equal(values.reshape(-1).view(np.uint32), bits.astype(np.uint32) << 16)
    assert as_float32(np.array([[0x3F80, 0xC040]], np.uint16)).tolist() == [[1.0, -3.0]]
    half = np.array([[0.1, -65504.0]], np.float16)
    assert as_float32(half).tolist() == half.tolist()


def test_the_command_reads_standard_input_and_names_what_it_wrote(run_folder: Path, tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", 1)
    command = [sys.executable, "-P", "-m", "dotsctl", "embed", "-", "--output", "out", "--encoder", "fake"]
    with picture.open("rb") as stream:
        done = subprocess.run(
            command, stdin=stream, capture_output=True, text=True, timeout=50, cwd=tmp_path, env=os.environ, check=False
        )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "1 page embedded into out" in done.stderr
    assert written(tmp_path / "out") == {"stdin.npz"}
