"""The commands that read: ``ocr`` and ``ask``; what they do is imported when they are called."""

from typing import Any

import click
from dotsctl.client.cli_options import (
    VERBOSE,
    document_options,
    model_options,
    name_option,
    quality_option,
    verbose_option,
)


@click.command(short_help="Read pages.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="DIR|FILE|-",
    help="Where the text goes: a folder for several inputs (or with a slash at its end), a file for one. "
    "[default: -, the terminal]",
)
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(["md", "txt", "json", "jsonl", "html", "overlay"]),
    help="html and overlay show boxes on the pages. [default: the ending of -o, else md]",
)
@click.option(
    "--images",
    type=click.Choice(["files", "embed", "none"]),
    help="Pictures of a page, in Markdown: beside it, within it, or left out. [default: files with -o, else none]",
)
@click.option("--no-header-footer", is_flag=True, help="Leave headers and footers of pages out of the text.")
@click.option("--task", metavar="TASK", help="What to read, as 'layout' or 'text'. [default: the model's first]")
@click.option("--prompt", metavar="TEXT|@FILE", help="Replace the prompt of the task; {box} in it stands for the box.")
@click.option(
    "--box", metavar="X0,Y0,X1,Y1", help="Read this part of every page, in pixels of the page (task 'ground')."
)
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Cut the text of a page at N tokens.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=784),
    metavar="N",
    help="Shrink larger pages to N pixels: faster, less exact.",
)
@quality_option
@document_options
@model_options
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Pages in work at once. [default: what fits]"
)
@name_option
@click.option("--no-blank-check", is_flag=True, help="Ask the model about pages with nothing on them, too.")
@click.option(
    "--no-reread", is_flag=True, help="Do not read a page again whose text repeats itself, is cut or damaged."
)
@click.option("--force", is_flag=True, help="Read again what an earlier run has finished.")
@click.option(
    "--retry-failed", is_flag=True, help="Read only what failed in an earlier run; without it, that and all new inputs."
)
@click.option("-q", "--quiet", is_flag=True, help="Only errors on the terminal: no bar, no summary.")
@verbose_option
@click.pass_context
def ocr(ctx: click.Context, /, **options: Any) -> None:
    """Read pages: pictures, PDFs, folders of them, quoted globs, or - for standard input.

    Without a running runtime ('dotsctl up') one is started for this call and ended after it. Several inputs are
    printed in their order under '==> name <=='. With -o DIR the tree of folders is kept, and a second call reads only
    what is new, has changed or has failed. Pages that fail are named, the others go on. Ctrl-C finishes the pages in
    work, a second Ctrl-C stops now; after that, or a crash, the same command goes on where it was.

    \b
    Examples:
      dotsctl ocr scan.png --model demo                try it with the model that comes with dotsctl
      dotsctl ocr scans/ -o texts/                     every picture in scans/ and its folders
      dotsctl ocr 'scans/**/*.tif' -o texts/ -f json   text, boxes and timings of each page
      dotsctl ocr *.jpg -o all.jsonl                   a line of JSON for each page, in one file
      dotsctl ocr report.pdf --pages 1-3 -o report.md  the first three pages of a PDF
      curl -s URL | dotsctl ocr - -f txt | less        a picture from another program
    """
    from dotsctl.client.cli_ocr import Order, run

    ctx.exit(run(Order(**options, verbose=bool(ctx.meta.get(VERBOSE)))))


@click.command(short_help="Ask a question about pictures.")
@click.argument("question")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="The answer with model, tokens and timings.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Cut the answer at N tokens.")
@click.option("--max-pixels", type=click.IntRange(min=784), metavar="N", help="Shrink larger images to N pixels each.")
@quality_option
@document_options
@model_options
@name_option
@verbose_option
@click.pass_context
def ask(ctx: click.Context, /, question: str, inputs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask one question about one or more pictures or pages, together.

    All of them stand in one prompt, in their order. It takes a model that has learnt to answer: dots.mocr.

    \b
    Examples:
      dotsctl ask 'What is the total?' receipt.jpg
      dotsctl ask 'Which of the two pages is newer?' old.png new.png
    """
    from dotsctl.client.cli_ask import run

    ctx.exit(run(question, inputs, as_json=as_json, **options))


READING_COMMANDS = (ocr, ask)
