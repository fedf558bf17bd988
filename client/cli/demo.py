"""``dotsctl demo``: the sample pages of the package, read with the demo model."""

from pathlib import Path

import click
from dotsctl.client.cli.ocr import OcrOptions, run
from dotsctl.client.formats.registry import format_of
from dotsctl.client.inputs.sources import InputFile
from dotsctl.protocol.errors import ExitCode, UsageError
from dotsctl.protocol.model.directory import DEMO, demo_directory

HTML = "html"
SAMPLE_PAGES = demo_directory().with_name("sample_pages")
"""Folder of PNG files: a letter, an invoice, a notice, a page of a book and a table."""


def read_sample_pages(output: str, *, overwrite: bool) -> ExitCode:
    """Read the sample pages: their text to standard output, pages and boxes to the HTML file ``output``.

    Raises:
        UsageError: the name of the file does not end with ``.html``.
        DotsctlError: as ``dotsctl ocr`` does.
    """
    if format_of(Path(output)) != HTML:
        raise UsageError(f"-o {output} is no HTML file", f"end its name with .{HTML}")
    pages = [InputFile(path.name, path, SAMPLE_PAGES) for path in sorted(SAMPLE_PAGES.glob("*.png"))]
    code = run(OcrOptions(model=DEMO, also=output, overwrite=overwrite), pages)
    click.echo(f"pages with boxes, for a browser: {Path(output).absolute().as_uri()}", err=True)
    return code
