"""The commands ``embed``, ``convert``, ``compare`` and ``doctor``: options and help, found by the command line through
the entry-point group ``dotsctl.commands``. What they do is imported when they run.
"""

import signal
import sys
from typing import Any

import click
from dotsctl.client.cli.completion import DECODER, ENCODER, FILE, FOLDER, MODEL, TASK
from dotsctl.client.cli.options import document_options
from dotsctl.client.settings.defaults import MAX_TIMEOUT_S
from dotsctl.encoder_worker.plugins import COREML
from dotsctl.protocol.geometry import MOST_PIXELS

COREML_FLAG = "--coreml"
DECODER_KINDS = ("4", "5", "6", "8", "mxfp4", "mxfp8", "nvfp4")
"""The keys of ``KINDS`` in ``protocol/model/quantisation.py``, whose import would slow ``dotsctl --help``."""


class ToolCommand(click.Command):
    """A command that returns its exit code. A signal removes incomplete files first."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and exit with its code."""
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        ctx.exit(int(super().invoke(ctx) or 0))


class DoctorCommand(ToolCommand):
    """The command that with ``--coreml`` is another one with options of its own."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Parse the arguments, those of the other command by that one."""
        if COREML_FLAG not in args:
            return super().make_context(info_name, args, parent, **extra)
        from dotsctl.tools.doctor_coreml.main import cli

        others = [word for word in args if word != COREML_FLAG]
        return cli.make_context(f"{info_name} {COREML_FLAG}", others, parent, **extra)


@click.command(cls=ToolCommand, short_help="Write the embeddings of pages to .npz files.")
@click.argument("inputs", type=FILE, metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", type=FOLDER, metavar="DIR", required=True, help="Folder for the .npz files.")
@click.option(
    "--model",
    type=MODEL,
    metavar="NAME|PATH",
    help="Installed model, folder of a checkpoint, or 'demo'. [default: the only one]",
)
@click.option("--encoder", type=ENCODER, metavar="NAME[:KEY=VALUE,...]", help="Encoder plugin. [default: auto]")
@click.option(
    "--max-pixels", type=click.IntRange(784, MOST_PIXELS), metavar="N", help="Pixel limit: larger pages are reduced."
)
@document_options
@click.option("--force", is_flag=True, help="Embed again what an earlier run finished.")
@click.option("--overwrite", is_flag=True, help="Replace files that dotsctl did not write or that were edited.")
def embed(**options: Any) -> int | None:
    """Write the embeddings of pages to .npz files.

    No decoder is started. A file holds embeddings (n, width) as float32, grid (height, width in patches), resized
    (height, width in pixels) and the model's fingerprint; numpy.load reads it. Files are named as by 'dotsctl ocr
    -o DIR': a.png becomes a.npz, the pages of b.pdf become b/page-0001.npz and so on. A second run embeds only what
    is new or has changed.

    \b
    Examples:
      dotsctl embed scans/ -o embeddings/                  every picture in scans/
      dotsctl embed b.pdf -o embeddings/ --encoder mlx     with the encoder that you name
    """
    from dotsctl.tools.embed import run

    return run(**options)


@click.command(cls=ToolCommand, short_help="Convert a model to Core ML or a smaller decoder.")
@click.argument("model", type=MODEL, metavar="MODEL")
@click.option("--encoder", type=click.Choice([COREML]), help="Create Core ML packages of the vision encoder.")
@click.option(
    "--precision", type=click.Choice(["float16", "float32"]), help="Number format of the packages. [default: float16]"
)
@click.option(
    "--weights",
    type=click.Choice(["same", "int8", "int8-per-tensor", "int4", "palette6"]),
    help="Storage of the weights; none is faster than 'same'. [default: same]",
)
@click.option("--buckets", metavar="N,N,...", help="Page sizes in patches. [default: for the model's pixel limit]")
@click.option(
    "--query-tile",
    type=click.IntRange(min=1),
    metavar="N",
    help="Queries computed at once in attention. [default: 512]",
)
@click.option(
    "--chunks", type=click.IntRange(min=1), metavar="N", help="Number of packages. [default: the fewest below 0.5 GB]"
)
@click.option(
    "--compute-units",
    type=click.Choice(["cpu_and_ne", "cpu_and_gpu", "cpu_only", "all"]),
    help="Default devices for these packages. [default: cpu_and_ne]",
)
@click.option("--build", metavar="NAME", help="Name of the packages. [default: derived from the options]")
@click.option("--float16", is_flag=True, help="Measure the model, for dtype=float16 of encoder and decoder mlx.")
@click.option(
    "--decoder-bits",
    type=click.Choice(DECODER_KINDS),
    help="Quantise the decoder to so many bits, or to a float format.",
)
@click.option(
    "--group-size",
    type=click.Choice(["32", "64", "128"]),
    help="Weights per scale, with 4 to 8 bits; smaller groups are more accurate and larger. [default: 64]",
)
@click.option(
    "--pages",
    type=FILE,
    metavar="FILE",
    multiple=True,
    help="Page, PDF or folder for the comparison of both decoders; may be repeated. [default for 'demo': drawn pages]",
)
@click.option("--skip-report", is_flag=True, help="Do not compare the two decoders.")
@click.option("--force", is_flag=True, help="Convert again even if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON instead of a table.")
def convert(**options: Any) -> None:
    """Convert a model to Core ML or a smaller decoder.

    The result is stored with the installed models; the model itself is not changed.

    Core ML packages let the vision encoder run on the Neural Engine of a Mac. They can be created on a
    Mac or on x86-64 Linux. A page is placed in the bucket, a fixed number of patches, that loses least resolution.

    int8, int4 and palette6 save disk space only: the encoder is limited by computation, not by reading weights, and M1
    and M2 expand them when they compile. The size of each package is planned by its expanded weights.

    Every package is checked against the rules of the Neural Engine before it is kept. The packages are then executed
    by an interpreter on a drawn page, whose embeddings and largest values must match; other sizes are not executed.

    A quantised decoder takes about half (8 bits) or a third (4 bits) of the memory. mxfp4, nvfp4 and mxfp8 are
    floating-point formats of 4 and 8 bits. It is meant for GPUs: MLX multiplies by quantised weights slowly on a CPU.
    The accuracy loss is measured on pages, with both decoders, and stored in the manifest; a large loss is a warning.

    float16 has a precision of 11 bits, bfloat16 of 8, but its largest number is 65,504. --float16 computes drawn pages
    once in float32, finds what would overflow, and scales those weights by powers of two when dtype=float16 is used;
    the result stays the same. A layer that cannot be scaled is named. M1 and M2 emulate bfloat16 and have float16 in
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
    from dotsctl.tools.convert.main import run

    run(**options)


@click.command(cls=ToolCommand, short_help="Compare encoders on the same pages.")
@click.argument("inputs", type=FILE, metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--encoder",
    "encoders",
    type=ENCODER,
    metavar="NAME[:KEY=VALUE,...]",
    multiple=True,
    required=True,
    help="Encoder to compare, two or more; the last one is the reference.",
)
@click.option(
    "--model",
    type=MODEL,
    metavar="NAME|PATH",
    help="Installed model, folder of a checkpoint, or 'demo'. [default: the only one]",
)
@click.option("--decoder", type=DECODER, metavar="NAME[:KEY=VALUE,...]", help="Decoder plugin. [default: mlx]")
@click.option("--task", type=TASK, metavar="NAME", help="Task, as text. [default: layout if the model has it]")
@click.option(
    "--max-pixels", type=click.IntRange(784, MOST_PIXELS), metavar="N", help="Pixel limit: larger pages are reduced."
)
@document_options
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write an HTML report with pages and differences.")
@click.option("--overwrite", is_flag=True, help="Replace a report that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the texts, instead of a table.")
def compare(**options: Any) -> int | None:
    """Compare encoders on the same pages.

    For each page and encoder the report has the time in milliseconds, the distance of the embeddings from the reference
    (cosine per embedding, median and smallest; relative error), and the share of different characters. If an encoder
    uses another grid of patches, its embeddings are compared with those that the reference makes of the same pixels.

    \b
    Examples:
      dotsctl compare scans/ --encoder coreml --encoder mlx
      dotsctl compare a.pdf --encoder coreml:build=float16-int8 --encoder mlx -o report.html
    """
    from dotsctl.tools.compare.main import run

    return run(**options)


@click.command(cls=DoctorCommand, short_help="Check the installation and print remedies.")
@click.option(
    "--model",
    type=MODEL,
    metavar="NAME|PATH",
    help="Model to test. [default: that of other commands, else 'demo']",
)
@click.option("--encoder", type=ENCODER, metavar="NAME[:KEY=VALUE,...]", help="Encoder that must work. [default: auto]")
@click.option("--decoder", type=DECODER, metavar="NAME[:KEY=VALUE,...]", help="Decoder that must work. [default: mlx]")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, MAX_TIMEOUT_S), default=300.0, show_default=True,
    metavar="SECONDS",
    help="Time limit for each plugin and for the test page."
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.option(
    COREML_FLAG, is_flag=True, expose_value=False,
    help="Test the Core ML encoder of a Mac instead and write a report; see --coreml --help."
)  # fmt: skip
def doctor(**options: Any) -> int | None:
    """Check the installation and print remedies.

    The checks cover Python, the system, libraries and their speed, models, disks, memory, runtimes and every plugin,
    and read a test page. Each line is ok, warn or FAIL; a remedy follows where one is needed.

    \b
    Exit codes: 0 pages can be read, perhaps with warnings; 7 something fails.

    \b
    Examples:
      dotsctl doctor                                 check with the installed model
      dotsctl doctor --model demo --encoder coreml   check another encoder
    """
    from dotsctl.tools.doctor.main import run

    return run(**options)
