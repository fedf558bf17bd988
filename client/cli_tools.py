"""Commands whose work a program of ``tools/`` does in its own process: their options, and the way there.

The options stand here alone. ``dotsctl NAME`` understands them, so that ``--help`` and wrong usage cost no second
process, and hands the words of the command line on; the tool understands them again with the same command.
"""

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
from dotsctl.client.cli_options import document_options
from dotsctl.client.cli_print import ClosedPipeError
from dotsctl.protocol.errors import DotsctlError, ExitCode

WORDS = "dotsctl.words"
COREML = "--coreml"


class ToolCommand(click.Command):
    """Runs ``dotsctl.tools.NAME`` with the words that it was given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the words, then check them."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> NoReturn:
        """Start the tool and answer with its exit code."""
        from dotsctl.client.cli_status import run_tool

        ctx.exit(run_tool(str(self.name), ctx.meta[WORDS]))


class DoctorCommand(ToolCommand):
    """With ``--coreml`` the other words are for another tool, which knows its own options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check the words, unless they are for the other tool."""
        if COREML not in args:
            return super().parse_args(ctx, args)
        ctx.meta[WORDS] = tuple(word for word in args if word != COREML)
        ctx.meta[COREML] = True
        return []

    def invoke(self, ctx: click.Context) -> NoReturn:
        """Start the tool that was asked for."""
        from dotsctl.client.cli_status import run_tool

        ctx.exit(run_tool("doctor_coreml" if ctx.meta.get(COREML) else "doctor", ctx.meta[WORDS]))


def main(command: click.Command, run: Callable[..., int | None]) -> NoReturn:
    """Entry point of a tool: understand the words of ``command``, call ``run`` with the options, and exit.

    Every error becomes a message and its exit code, as everywhere. When the process is told to end, what is half
    done is removed first.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    tool = click.Command(
        command.name,
        params=command.params,
        help=command.help,
        callback=run,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    try:
        code = tool.main(prog_name=f"dotsctl {command.name}", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except DotsctlError as error:
        click.echo(f"dotsctl: {error}", err=True)
        code = error.exit_code
    except ClosedPipeError:
        code = ExitCode.BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        code = ExitCode.INTERRUPTED
    sys.exit(int(code or ExitCode.OK))


@click.command(cls=ToolCommand, short_help="Write the embeddings of pages into files.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", required=True, help="Folder of the .npz files.")
@click.option(
    "--model", metavar="NAME|PATH", help="Installed model, folder of a checkpoint, or 'demo'. [default: the only one]"
)
@click.option("--encoder", metavar="NAME[:KEY=VALUE,...]", help="Turns pages into embeddings. [default: auto]")
@click.option("--max-pixels", type=click.IntRange(min=784), metavar="N", help="Shrink larger pages to N pixels.")
@document_options
@click.option("--force", is_flag=True, help="Embed again what an earlier run has done.")
def embed(**_: Any) -> None:
    """Write what the encoder makes of each page into a .npz file, without a decoder.

    A file holds embeddings (n, width) as float32, grid (height, width in patches), resized (height, width in pixels)
    and the model's fingerprint; numpy.load reads it. Names follow those of 'dotsctl ocr -o DIR': a.png becomes a.npz,
    the pages of b.pdf become b/page-0001.npz and so on. A second call embeds only what is new or has changed.

    \b
    Examples:
      dotsctl embed scans/ -o embeddings/                  every picture in scans/
      dotsctl embed b.pdf -o embeddings/ --encoder mlx     with the encoder that you name
    """


@click.command(cls=ToolCommand, short_help="Make Core ML packages or a smaller decoder of a model.")
@click.argument("model", metavar="MODEL")
@click.option("--encoder", type=click.Choice(["coreml"]), help="Make Core ML packages of the vision encoder.")
@click.option("--precision", type=click.Choice(["float16", "float32"]), help="Of the packages. [default: float16]")
@click.option(
    "--weights",
    type=click.Choice(["same", "int8", "int8-per-tensor", "int4", "palette6"]),
    help="How weights are stored on the disk; others than 'same' are not faster. [default: same]",
)
@click.option("--buckets", metavar="N,N,...", help="Patches of the page shapes. [default: for the model's limit]")
@click.option("--query-tile", type=click.IntRange(min=1), metavar="N", help="Queries at a time. [default: 512]")
@click.option(
    "--chunks", type=click.IntRange(min=1), metavar="N", help="Number of packages. [default: the fewest below 0.5 GB]"
)
@click.option(
    "--compute-units",
    type=click.Choice(["cpu_and_ne", "cpu_and_gpu", "cpu_only", "all"]),
    help="What the encoder takes for these packages unless told otherwise. [default: cpu_and_ne]",
)
@click.option("--build", metavar="NAME", help="Name of the packages. [default: from the options]")
@click.option("--float16", is_flag=True, help="Measure the model for dtype=float16 of encoder and decoder mlx.")
@click.option("--decoder-bits", type=click.Choice(["8", "4"]), help="Quantise the decoder to so many bits a weight.")
@click.option(
    "--group-size",
    type=click.Choice(["32", "64", "128"]),
    help="Weights that share a scale: fewer are more exact and larger. [default: 64]",
)
@click.option(
    "--pages",
    metavar="FILE",
    multiple=True,
    help="A page, PDF or folder to compare the two decoders on; may be repeated. [default for 'demo': printed pages]",
)
@click.option("--skip-report", is_flag=True, help="Do not compare the two decoders.")
@click.option("--force", is_flag=True, help="Make it again where it is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON instead of a table.")
def convert(**_: Any) -> None:
    """Make another form of a half of a model and keep it beside the installed models; the model itself stays as it is.

    Core ML packages let the vision encoder run on the Neural Engine of a Mac. They are made on any Mac or x86-64 Linux.
    A page is placed in the bucket, a fixed number of patches, that loses least of it.

    int8, int4 and palette6 save disk space and nothing else: the encoder is limited by computing, not by reading
    weights, and M1 and M2 expand them when they compile. Each package is therefore planned by its expanded weights.

    Every package is checked against the rules of the Neural Engine before it is kept. The packages are then executed
    by an interpreter on a drawn page, whose embeddings and largest values must be right; other page sizes are not.

    A quantised decoder takes about half (8 bits) or a third (4 bits) of the memory. It is meant for GPUs, for MLX
    multiplies by quantised weights slowly on a CPU. What it costs in exactness is measured on pages, with both
    decoders, and kept in the manifest; a warning says when it is much.

    float16 has the precision of 11 bits, bfloat16 of 8, but ends at 65,504. --float16 computes drawn pages once in
    float32, finds what would be larger, and scales those weights by powers of two when dtype=float16 is used; the
    result stays the same. A layer that cannot be scaled is named. M1 and M2 emulate bfloat16 and have float16 in
    hardware; nothing about speed was measured on a Mac. 'dotsctl compare' shows both. Core ML packages in float16 are
    scaled in the same way.

    \b
    Examples:
      dotsctl convert ~/dots.ocr --encoder coreml
      dotsctl convert demo --decoder-bits 8
      dotsctl convert ~/dots.ocr --decoder-bits 8 --pages scans/typical.png
      dotsctl ocr scans/ --decoder mlx:bits=8               read with it
      dotsctl convert ~/dots.ocr --float16
      dotsctl ocr scans/ --encoder mlx:dtype=float16 --decoder mlx:dtype=float16
    """


@click.command(cls=ToolCommand, short_help="Run several encoders over the same pages, and compare them.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--encoder",
    "encoders",
    metavar="NAME[:KEY=VALUE,...]",
    multiple=True,
    required=True,
    help="Two or more; the last one is the reference.",
)
@click.option(
    "--model", metavar="NAME|PATH", help="Installed model, folder of a checkpoint, or 'demo'. [default: the only one]"
)
@click.option("--decoder", metavar="NAME[:KEY=VALUE,...]", help="Turns embeddings into text. [default: mlx]")
@click.option("--task", metavar="NAME", help="What is read: text, layout, ... [default: layout if the model has it]")
@click.option("--max-pixels", type=click.IntRange(min=784), metavar="N", help="Shrink larger pages to N pixels.")
@document_options
@click.option("-o", "--output", metavar="FILE", help="Write a report as HTML, with pictures and marked texts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the texts, instead of a table.")
def compare(**_: Any) -> None:
    """Run several encoders over the same pages and tell how they differ, page by page.

    Of each encoder you see the milliseconds that a page takes, how near its embeddings are to those of the reference
    (cosine over tokens, median and smallest; relative error), and how many characters of the text are others. Times and
    texts are those of each encoder as it would be used. Where an encoder lays a page out on another grid of patches,
    its embeddings are compared with what the reference makes of the same pixels.

    \b
    Examples:
      dotsctl compare scans/ --encoder coreml --encoder mlx
      dotsctl compare a.pdf --encoder coreml:build=float16-int8 --encoder mlx -o report.html
    """


@click.command(cls=DoctorCommand, short_help="Find what keeps dotsctl from working, and what to do about it.")
@click.option("--model", metavar="NAME|PATH", help="The model to try. [default: that of other commands, else 'demo']")
@click.option("--encoder", metavar="NAME[:KEY=VALUE,...]", help="The encoder that must work. [default: auto]")
@click.option("--decoder", metavar="NAME[:KEY=VALUE,...]", help="The decoder that must work. [default: mlx]")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), default=300.0, show_default=True, metavar="SECONDS",
    help="Longest time of each plugin, and of the test page."
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="For machines.")
@click.option(
    COREML, "coreml", is_flag=True,
    help="Examine the Core ML encoder on a Mac instead, for a report to send back; --coreml --help shows its options."
)  # fmt: skip
def doctor(**_: Any) -> None:
    """Check Python, the system, the libraries and their speed, models, disks, memory, runtimes and every plugin, and
    read a test page. Each line says ok, warn or FAIL; what is not ok has its remedy below it.

    \b
    Exit codes: 0 pages can be read, perhaps with warnings; 7 something fails.

    \b
    Examples:
      dotsctl doctor                                 with the installed model
      dotsctl doctor --model demo --encoder coreml   another one
    """


TOOL_COMMANDS = (embed, compare, convert, doctor)
