"""The commands that read: ``ocr``, ``ask`` and ``demo``; what they do is imported when they are called."""

from typing import Any

import click
from dotsctl.client.cli.completion import FILE
from dotsctl.client.cli.configured import ConfiguredCommand
from dotsctl.client.cli.options import (
    VERBOSE,
    model_options,
    name_option,
    reading_options,
    take_reading_options,
    verbose_option,
)
from dotsctl.client.formats.registry import FORMATS
from dotsctl.client.jobs.page_options import AskOptions


@click.command(cls=ConfiguredCommand, short_help="Read pages of pictures, PDFs and folders.")
@click.argument("inputs", type=FILE, metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="DIR|FILE|-",
    help="Write to a folder (several inputs, or a slash at the end), to a file, or to the terminal. [default: -]",
)
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Output format; html and overlay draw boxes, pdf is searchable. [default: the ending of -o, else md]",
)
@click.option(
    "--images",
    type=click.Choice(["files", "embed", "none"]),
    help="Pictures in Markdown: separate files, embedded, or left out. [default: files with -o, else none]",
)
@click.option("--no-header-footer", is_flag=True, help="Leave page headers and footers out of the text.")
@reading_options()
@model_options
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pages processed at once. [default: what fits into memory]",
)
@name_option
@click.option("--force", is_flag=True, help="Read again what an earlier run finished.")
@click.option("--overwrite", is_flag=True, help="Replace files that dotsctl did not write or that were edited.")
@click.option("--retry-failed", is_flag=True, help="Read only the pages that failed in an earlier run.")
@click.option("--strict", is_flag=True, help="Exit with 1 if a page is partial (truncated or damaged).")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only: no progress, no summary.")
@verbose_option
@click.pass_context
def ocr(ctx: click.Context, /, **options: Any) -> None:
    """Read pages of pictures, PDFs and folders.

    INPUT is a file, a folder, a glob in quotation marks, or - for standard input.

    If no runtime is running ('dotsctl up'), a temporary one is started for this command. Several inputs are printed in
    order under '==> name <=='. With -o DIR the folder tree is kept, and a second run reads only what is new, changed or
    failed. A page that fails is reported, and the other pages are still read. Ctrl-C finishes the pages in work; a
    second Ctrl-C stops at once. To resume after an interruption or a crash, run the same command again.

    \b
    Examples:
      dotsctl ocr scan.png --model demo                try it with the model that is included
      dotsctl ocr scans/ -o texts/                     every picture in scans/ and its folders
      dotsctl ocr 'scans/**/*.tif' -o texts/ -f json   text, boxes and times of each page
      dotsctl ocr *.jpg -o all.jsonl                   one line of JSON for each page
      dotsctl ocr report.pdf --pages 1-3 -o report.md  the first three pages of a PDF
      curl -s URL | dotsctl ocr - -f txt | less        a picture from standard input
    """
    from dotsctl.client.cli.ocr import OcrOptions, run

    reading = take_reading_options(options)
    ctx.exit(run(OcrOptions(**options, reading=reading, verbose=bool(ctx.meta.get(VERBOSE)))))


@click.command(short_help="Ask a question about pictures.")
@click.argument("question")
@click.argument("inputs", type=FILE, metavar="INPUT...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with model, tokens and times.")
@reading_options(AskOptions)
@model_options
@name_option
@verbose_option
@click.pass_context
def ask(ctx: click.Context, /, question: str, inputs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask a question about one or more pictures.

    All pictures are part of one prompt, in order. The model must support this task: dots.mocr does.

    \b
    Examples:
      dotsctl ask 'What is the total?' receipt.jpg
      dotsctl ask 'Which of the two pages is newer?' old.png new.png
    """
    from dotsctl.client.cli.ask import run

    reading = take_reading_options(options)
    ctx.exit(run(question, inputs, as_json=as_json, reading=reading, **options))


@click.command(short_help="Read the sample pages with the demo model.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    default="dotsctl-demo.html",
    show_default=True,
    help="HTML file with the pages and their boxes.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that dotsctl did not write.")
@verbose_option
@click.pass_context
def demo(ctx: click.Context, /, output: str, overwrite: bool) -> None:
    """Read the sample pages of this package with the demo model.

    Prints the text of five pages as Markdown, and writes an HTML file that shows each page with its boxes and its
    text. Nothing is downloaded. The demo model is small and reads clean print only.
    """
    from dotsctl.client.cli.demo import read_sample_pages

    ctx.exit(read_sample_pages(output, overwrite=overwrite))


READING_COMMANDS = (ocr, ask, demo)
