"""What is made of the pixels of pages: pictures that are cut out, overlays, and HTML."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from dotsctl.client.formats import html_view
from dotsctl.client.formats.format import Images
from dotsctl.client.formats.pictures import PagePixels
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.sources import InputFile, expand
from dotsctl.client.outputs.destination import choose_output
from dotsctl.client.outputs.folder_output import FolderOutput
from dotsctl.client.outputs.journal import JOURNAL_NAME
from dotsctl.client.outputs.output_base import Output, WriteOptions
from dotsctl.client.outputs.runs import RUNS_NAME
from dotsctl.client.results.categories import colour
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import PageError, UsageError
from PIL import Image

from tests.fake_client import FakeClient, call
from tests.readings import is_done, reading

READING = reading("f" * 64, "mlx", "mlx", task="layout")
RED, BLUE = (200, 0, 0), (0, 0, 200)
CELLS = (
    Cell((5, 5, 60, 15), "Page-header", "top"),
    Cell((10, 20, 30, 30), "Picture", ""),
    Cell((40, 20, 40, 30), "Picture", ""),
    Cell((0, 35, 60, 40), "Text", "words <script>alert(1)</script>"),
)
FILES = Style("md", images=Images.FILES)


def scan(path: Path, colours: list[tuple[int, int, int]], **options: object) -> None:
    """Pages of 60x40 px, white but for their picture."""
    pages = []
    for each in colours:
        page = Image.new("RGB", (60, 40), "white")
        page.paste(each, (10, 20, 30, 30))
        pages.append(page)
    more = {"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(path, **more, **options)


def documents(*paths: Path) -> list[InputFile]:
    return list(expand([str(path) for path in paths], io.BytesIO()))


def page(document: InputFile, number: int = 1, of: int = 1, cells: tuple[Cell, ...] = CELLS) -> Page:
    return Page(document.name, document.path, number, of, "ok", "raw", cells, 60, 40, task="layout")


def failed(document: InputFile, number: int, of: int) -> Page:
    return Page(document.name, document.path, number, of, "failed").from_failure(
        next(document.pages()), Failure("E_OOM", "no <b>memory</b>"), model="", fingerprint="", task="layout"
    )


def shade(image: Image.Image, at: tuple[int, int]) -> str:
    return "#" + bytes(image.convert("RGB").getpixel(at)).hex()


def only_shade(image: Image.Image) -> tuple[int, ...]:
    ((_, shade),) = image.getcolors()
    return tuple(shade)


def files(folder: Path) -> list[str]:
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in found if not name.endswith((JOURNAL_NAME, ".pages")) and RUNS_NAME not in name)


def write(output: Output, inputs: list[InputFile], pages: list[Page]) -> None:
    output.prepare()
    for document in inputs:
        is_done(output, document, READING)
    for one in pages:
        output.add(one)
    output.finish()


# --- pictures in Markdown --------------------------------------------------------------------------------------------


def test_pictures_are_files_beside_the_document_and_linked(tmp_path: Path) -> None:
    scan(tmp_path / "in/a b.tif", [RED, BLUE])
    (document,) = inputs = documents(tmp_path / "in/a b.tif")
    write(FolderOutput(tmp_path / "out", inputs, FILES), inputs, [page(document, 2, 2), page(document, 1, 2)])
    names = ["a b/images/page-0001-01.png", "a b/images/page-0002-01.png"]
    assert files(tmp_path / "out") == ["a b.md", *names] or files(tmp_path / "out") == [*names, "a b.md"]
    text = (tmp_path / "out/a b.md").read_text()
    assert re.findall(r"!\[\]\((.*)\)", text) == [name.replace(" ", "%20") for name in names]
    for name, wanted in zip(names, (RED, BLUE), strict=True):
        with Image.open(tmp_path / "out" / name) as crop:
            assert (crop.size, only_shade(crop)) == ((20, 10), wanted)


def test_pictures_of_several_inputs_in_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        scan(tmp_path / name, [RED])
    inputs = documents(tmp_path / "a.png", tmp_path / "b.png")
    output = choose_output(f"{tmp_path}/all.md", inputs, FILES, print)
    write(output, inputs, [page(document) for document in inputs])
    assert [path.name for path in sorted((tmp_path / "all/images").iterdir())] == [
        "0001-page-0001-01.png",
        "0002-page-0001-01.png",
    ]


def test_pictures_can_be_within_the_document_also_on_standard_output(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [BLUE])
    inputs = documents(tmp_path / "a.png")
    text: list[str] = []
    write(choose_output(None, inputs, Style("md", images=Images.EMBED), text.append), inputs, [page(inputs[0])])
    found = re.search(r"!\[\]\(data:image/png;base64,(.*)\)", text[0])
    assert found
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as crop:
        assert only_shade(crop) == BLUE


def test_a_turned_scan_and_a_page_of_a_pdf_are_cut_as_viewers_show_them(tmp_path: Path) -> None:
    turned = Image.new("RGB", (40, 60), "white")
    turned.paste(RED, (10, 10, 20, 30))  # upright: 60x40 px, the picture at (10, 20, 30, 30)
    turned.save(tmp_path / "a.png", exif=_orientation(8))
    scan(tmp_path / "b.pdf", [BLUE], resolution=200)
    inputs = documents(tmp_path / "a.png", tmp_path / "b.pdf")
    pixels = PagePixels.of_files(inputs)
    assert pixels.load(page(inputs[0])).getpixel((12, 22)) == RED
    blue = pixels.load(page(inputs[1])).getpixel((20, 25))
    assert blue[2] > 150 and blue[0] < 60


def _orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def test_an_input_that_changed_or_went_is_reported(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [RED])
    inputs = documents(tmp_path / "a.png")
    pixels = PagePixels.of_files(inputs)
    with pytest.raises(PageError, match="it now has 60x40 px instead of 61x40"):
        pixels.load(replace(page(inputs[0]), width=61))
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        PageError, match=r"page 1 was read, but its pixels cannot be loaded again \(there is no such file"
    ):
        pixels.load(page(inputs[0]))


def test_only_one_page_is_loaded_and_only_when_it_has_pictures(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [RED])
    inputs = documents(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    bare = page(inputs[0], cells=(CELLS[0], CELLS[2]))
    write(FolderOutput(tmp_path / "out", inputs, FILES), inputs, [bare])
    assert files(tmp_path / "out") == ["a.md"]


def test_an_interrupted_document_leaves_no_pictures_where_a_complete_one_is(tmp_path: Path) -> None:
    scan(tmp_path / "a.tif", [RED, BLUE])
    (document,) = inputs = documents(tmp_path / "a.tif")
    out = tmp_path / "out"
    write(FolderOutput(out, inputs, FILES), inputs, [page(document, n, 2) for n in (1, 2)])
    before = {name: (out / name).read_bytes() for name in files(out)}
    other = (CELLS[1], replace(CELLS[1], bbox=(0, 0, 5, 5)))
    write(FolderOutput(out, inputs, FILES, WriteOptions(force=True)), inputs, [page(document, 1, 2, other)])
    assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_a_run_that_ends_in_an_error_leaves_no_parts(tmp_path: Path) -> None:
    scan(tmp_path / "a.tif", [RED, BLUE])
    (document,) = inputs = documents(tmp_path / "a.tif")
    output = FolderOutput(tmp_path / "out", inputs, FILES)
    output.prepare()
    output.add(page(document, 1, 2))
    assert len(files(tmp_path / "out")) == 2  # the parts of the text and of a picture
    del output
    assert files(tmp_path / "out") == []


def test_another_style_is_another_result(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [RED])
    inputs = documents(tmp_path / "a.png")
    out = tmp_path / "out"
    write(FolderOutput(out, inputs, FILES), inputs, [page(inputs[0])])
    assert is_done(FolderOutput(out, inputs, FILES), inputs[0], READING)
    for style in (Style("md"), replace(FILES, header_footer=False), Style("html")):
        assert not is_done(FolderOutput(out, inputs, style), inputs[0], READING)


# --- overlays --------------------------------------------------------------------------------------------------------


def test_an_overlay_has_the_boxes_in_the_colours_of_their_categories(tmp_path: Path) -> None:
    Image.new("RGB", (600, 400), "white").save(tmp_path / "a.png")
    inputs = documents(tmp_path / "a.png")
    slanted = Cell((300, 200, 580, 380), "Scene-text", "x", ((300, 200), (580, 240), (560, 380), (320, 360)))
    read = replace(page(inputs[0], cells=(Cell((10, 20, 200, 150), "Picture", ""), slanted)), width=600, height=400)
    write(FolderOutput(tmp_path / "out", inputs, Style("overlay")), inputs, [read])
    assert files(tmp_path / "out") == ["a.overlay.png"]
    with Image.open(tmp_path / "out/a.overlay.png") as drawn:
        assert drawn.size == (600, 400)
        shades = [shade(drawn, at) for at in ((200, 150), (560, 380), (100, 100), (580, 380))]
    assert shades == [colour("Picture"), colour("Scene-text"), "#ffffff", "#ffffff"]


def test_the_pages_of_a_document_are_a_folder_of_overlays_that_is_done_once(tmp_path: Path) -> None:
    scan(tmp_path / "a.tif", [RED, BLUE])
    (document,) = inputs = documents(tmp_path / "a.tif")
    out, style = tmp_path / "out", Style("overlay")
    write(FolderOutput(out, inputs, style), inputs, [page(document, n, 2) for n in (2, 1)])
    assert files(out) == ["a.overlay/page-0001.png", "a.overlay/page-0002.png"]
    assert is_done(FolderOutput(out, inputs, style), document, READING)
    for name in files(out):
        (out / name).unlink()
    (out / "a.overlay").rmdir()
    assert not is_done(FolderOutput(out, inputs, style), document, READING)


def test_one_input_can_have_its_overlay_in_one_file(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [RED])
    inputs = documents(tmp_path / "a.png")
    write(choose_output(f"{tmp_path}/x.png", inputs, Style("overlay"), print), inputs, [page(inputs[0])])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"a\.png is an input and would be lost"):
        choose_output(f"{tmp_path}/a.png", inputs, Style("overlay"), print)


def test_results_beside_scans_are_not_read_as_scans(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [RED])
    scan(tmp_path / "b.tif", [RED, BLUE])
    one, two = inputs = documents(tmp_path)
    pages = [page(one), page(two, 1, 2), page(two, 2, 2)]
    write(FolderOutput(tmp_path, inputs, FILES), inputs, pages)
    write(FolderOutput(tmp_path, inputs, Style("overlay")), inputs, pages)
    assert len(list(tmp_path.rglob("*.png"))) == 1 + 3 + 3
    assert [document.name for document in documents(tmp_path)] == [one.name, two.name]


# --- HTML ------------------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """Tags, attributes and scripts of an HTML document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] == "script":
            self.scripts += [data] if data.strip() else []
        self.words += data


def test_html_has_each_page_with_its_boxes_and_texts_and_fetches_nothing(tmp_path: Path) -> None:
    scan(tmp_path / "a.tif", [RED, BLUE])
    (document,) = inputs = documents(tmp_path / "a.tif")
    write(FolderOutput(tmp_path / "out", inputs, Style("html")), inputs, [page(document, n, 2) for n in (2, 1)])
    html = (tmp_path / "out/a.html").read_text()
    seen = Seen(html)
    assert [tag for tag, _ in seen.tags].count("polygon") == 2 * 4
    names = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    linked = [str(attributes["href"])[1:] for _, attributes in seen.tags if "href" in attributes]
    assert len(set(names)) == 8 and set(linked) == set(names)
    for tag, attributes in seen.tags:
        for key in ("src", "href"):
            assert re.match("data:image/jpeg|#", str(attributes.get(key, "#"))), (tag, attributes)
    assert html.index("page 1 of 2") < html.index("page 2 of 2")
    images = re.findall('data:image/jpeg;base64,([^"]*)', html)
    with Image.open(io.BytesIO(base64.b64decode(images[0]))) as image:
        assert image.getpixel((20, 25))[0] > 150


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</div></section><script>alert(1)</script>"]
)
@pytest.mark.parametrize("category", ["Text", "Table", "Formula", "<script>alert(1)</script>"])
def test_nothing_of_the_model_or_of_a_name_can_be_run(tmp_path: Path, text: str, category: str) -> None:
    scan(tmp_path / "<script>alert(1)<" / "a.png", [RED])
    (document,) = documents(tmp_path / "<script>alert(1)<" / "a.png")
    cells = (Cell((0, 0, 9, 9), category, f"<table>{text}" if category == "Table" else text),)
    shown = [
        html_view.section(replace(page(document, cells=cells), repaired=(text,)), Image.new("RGB", (60, 40))),
        html_view.section(replace(page(document, cells=()), text=text), None),
        html_view.section(failed(document, 1, 1), None),
    ]
    html = html_view.start([document.name]) + "".join(shown) + html_view.END
    seen = Seen(html)
    assert len(seen.scripts) == 1 and "querySelectorAll" in seen.scripts[0]
    assert not any(key.startswith("on") for _, attributes in seen.tags for key in attributes)
    assert [tag for tag, _ in seen.tags if tag == "img"] == ["img"]
    policy = next(attributes["content"] for _, attributes in seen.tags if "content" in attributes)
    assert policy is not None and policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_the_policy_of_the_document_allows_its_own_script_and_style() -> None:
    import hashlib

    html = html_view.start(["a"]) + html_view.END
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert content
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in html


def test_a_large_page_is_shown_smaller_with_its_boxes_in_their_places(tmp_path: Path) -> None:
    scan(tmp_path / "a.png", [RED])
    (document,) = documents(tmp_path / "a.png")
    html = html_view.section(page(document), Image.new("RGB", (4000, 3000)))
    image = re.search('base64,([^"]*)', html)
    assert image and 'viewBox="0 0 4000 3000"' in html
    with Image.open(io.BytesIO(base64.b64decode(image[1]))) as shown:
        assert shown.size == (1600, 1200)


def test_an_interrupted_html_document_states_what_is_missing(tmp_path: Path) -> None:
    scan(tmp_path / "a.tif", [RED, BLUE])
    (document,) = inputs = documents(tmp_path / "a.tif")
    write(FolderOutput(tmp_path / "out", inputs, Style("html")), inputs, [page(document, 2, 2)])
    html = (tmp_path / "out/a.html").read_text()
    assert "E_CANCELLED" in html and html.endswith("</html>\n")
    assert not is_done(FolderOutput(tmp_path / "out", inputs, Style("html")), document, READING)


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_line_writes_all_formats_with_pictures(client: type[FakeClient]) -> None:
    client.cells = CELLS
    scan(Path("in/a.png"), [RED])
    for format_ in ("md", "html", "overlay"):
        assert call("ocr", "in", "-o", "out/", "-f", format_, "--task", "layout").exit_code == 0
        assert "skipped" in call("ocr", "in", "-o", "out/", "-f", format_, "--task", "layout").stderr
    assert files(Path("out")) == ["a.html", "a.md", "a.overlay.png", "a/images/page-0001-01.png"]
    printed = call("ocr", "in/a.png", "--task", "layout", "--no-header-footer")
    assert printed.stdout == "words &lt;script>alert(1)&lt;/script>\n"
    assert "![](data:" in call("ocr", "in/a.png", "--task", "layout", "--images", "embed").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "overlay"], "cannot be shown in a terminal"),
        (["-f", "overlay", "-o", "out/", "--no-header-footer"], "-f overlay has none"),
        (["-f", "overlay", "-o", "out/"], "the task 'text' returns none"),
        (["-f", "json", "--images", "none"], "--images applies to -f md"),
        (["--images", "files"], "set one with -o"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(client: type[FakeClient], options: list[str], message: str) -> None:
    scan(Path("a.png"), [RED])
    result = call("ocr", "a.png", *options)
    assert result.exit_code == 2
    assert message in result.stderr
