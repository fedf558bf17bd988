"""``dotsctl convert``: makes smaller or faster forms of a model and keeps them under its fingerprint.

Nothing of MLX is imported before a fast BLAS is loaded; see ``dotsctl.protocol.worker.blas``.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotsctl.client.files.sizes import size_text
from dotsctl.client.inputs.pages import PageInput, pages_of
from dotsctl.client.settings.defaults import AUTO_FIRST
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.quantised import conversion_command
from dotsctl.protocol.errors import REINSTALL, MissingError, UsageError
from dotsctl.protocol.machine.libraries import INSTALL_COREML
from dotsctl.protocol.model.directory import DEMO, find_model, fingerprint
from dotsctl.protocol.model.quantisation import Quantisation, chosen_quantisation
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.half_precision import command
from dotsctl.tools.measuring.encoding import PageEncoder, kept
from dotsctl.tools.pages.readable import readable_pages

if TYPE_CHECKING:
    from dotsctl.tools.convert.decoder import Conversion
    from dotsctl.tools.convert.quantisation_report import QualityReport

DEMO_PAGES = 20
DEMO_SEED = 2_000_000
"""Pages of other seeds than training and the tests of the demo model use."""


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


ENCODER_OPTIONS: tuple[str, ...] = ("precision", "weights", "buckets", "query_tile", "chunks", "compute_units", "build")
DECODER_OPTIONS: tuple[str, ...] = ("group_size", "pages", "skip_report")


def run(
    model: str,
    encoder: str | None,
    decoder_bits: str | None,
    force: bool,
    as_json: bool,
    float16: bool = False,
    **options: Any,
) -> None:
    """Make the form that the options name.

    Raises:
        UsageError: nothing was requested, or options that do not go together.
        MissingError: the model or a library is missing.
        NoInputError: a page of ``--pages`` cannot be read.
        CommandFailedError: the disk does not take it.
    """
    if (encoder is not None) + (decoder_bits is not None) + float16 != 1:
        raise UsageError("choose one form of the model: --encoder coreml, --decoder-bits 8 or --float16")
    given = {key: value for key, value in options.items() if value}
    known = {"encoder": ENCODER_OPTIONS, "decoder": DECODER_OPTIONS, "measurement": ()}
    chosen = "encoder" if encoder else "measurement" if float16 else "decoder"
    if strange := sorted(given.keys() - set(known[chosen])):
        raise UsageError(f"--{strange[0].replace('_', '-')} has no effect on the {chosen}", "leave it out")
    if float16:
        command.run(model, say, force=force, as_json=as_json)
    elif encoder:
        convert_encoder(model, given, force=force, as_json=as_json)
    else:
        convert_decoder(model, str(decoder_bits), force=force, as_json=as_json, **{"pages": (), **given})


def convert_encoder(model: str, given: dict[str, Any], *, force: bool, as_json: bool) -> None:
    """Make Core ML packages; ``given`` are the options that were given. Raises as :func:`run` does."""
    preload_blas()  # magnitudes are measured with MLX
    try:
        from dotsctl.tools.coreml import command as coreml
        from dotsctl.tools.coreml.options import ConversionOptions
    except ImportError as error:
        raise MissingError(f"coremltools cannot be imported ({error})", INSTALL_COREML) from None
    given["buckets"] = coreml.parse_buckets(given.get("buckets"))
    given["name"] = given.pop("build", None)
    coreml.run(model, ConversionOptions(**given), force=force, as_json=as_json)


def convert_decoder(
    model: str,
    decoder_bits: str,
    *,
    force: bool,
    as_json: bool,
    pages: tuple[str, ...],
    group_size: str | None = None,
    skip_report: bool = False,
) -> None:
    """Quantise the decoder, and measure what that costs. Raises as :func:`run` does."""
    if pages and skip_report:
        raise UsageError("--pages are read for the report that --skip-report leaves out", "give one of the two")
    quantisation = chosen_quantisation(decoder_bits, int(group_size) if group_size else None)
    name, folder = find_model(model)
    inputs = readable_pages(pages)
    preload_blas()
    try:
        from dotsctl.tools.convert.decoder import convert
    except ImportError as error:
        raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
    say(f"computing the fingerprint of {name}")
    conversion = convert(name, folder, fingerprint(folder), quantisation, say, force=force)
    report = None
    if not skip_report and (conversion.is_new or inputs):
        report = _report(name, folder, conversion, inputs)
    _show(conversion, report, as_json=as_json)


def _report(name: str, folder: Path, conversion: "Conversion", inputs: list[PageInput]) -> "QualityReport | None":
    """Compare the decoders and note the result in the manifest; none, with a sentence, when there are no pages."""
    from dotsctl.tools.convert.decoder import write_manifest
    from dotsctl.tools.convert.quantisation_report import compare

    pages = inputs or (list(_demo_pages()) if name == DEMO else [])
    if not pages:
        again = f"{conversion_command(conversion.decoder.quantisation, folder)} --pages FILE"
        say(f"how exact it is was not measured, for there is no page to compare the decoders on: {again}")
        return None
    encoder = PageEncoder(PluginChoice(AUTO_FIRST), folder, say)
    try:
        encoded = [kept(encoder.encode(page, None)) for page in pages]
    finally:
        encoder.close()
    report = compare(folder, conversion.decoder, encoded)
    conversion.decoder.manifest["report"] = report.record()
    write_manifest(conversion.folder, conversion.decoder.manifest)
    return report


def _demo_pages() -> Iterator[PageInput]:
    """Printed pages as the demo model reads them; none where matplotlib, which has the fonts, is not installed."""
    from dotsctl.tools.pages.truths import printed_pages

    try:
        for page in printed_pages(DEMO_PAGES, DEMO_SEED):
            yield from pages_of(page.image)
    except MissingError as error:
        say(f"no pages can be printed for the report: {error}")


def _show(conversion: "Conversion", report: "QualityReport | None", *, as_json: bool) -> None:
    manifest = conversion.decoder.manifest
    if as_json:
        print(json.dumps({"folder": str(conversion.folder), "new": conversion.is_new, **manifest}, indent=2))
    else:
        print(table(manifest))
    if conversion.is_new:
        say(f"written to {conversion.folder}")
    else:
        say(f"{conversion.folder} exists already, made {manifest['created']}; --force makes it again")
    for warning in report.warnings() if report else []:
        say(f"WARNING: {warning}: check its answers before you rely on it, or take more bits or smaller groups")


def table(manifest: dict[str, Any]) -> str:
    """A manifest as readable text."""
    before, after, report = manifest["source_bytes"], manifest["size_bytes"], manifest["report"]
    rows = {
        "decoder": f"{manifest['model']}, {_quantisation(manifest).kind}, groups of {manifest['group_size']}",
        "size": f"{size_text(after)}, {after / before:.1%} of {size_text(before)}",
    }
    if report:
        rows |= {
            "same tokens": f"{report['token_agreement']:.2%} of {report['positions']} positions",
            "other characters": f"{report['error_rate']:.2%} of {report['characters']}",
            "same answers": f"{report['same_answers']} of {report['pages']} pages",
            "logits differ by": f"{report['logit_difference']:.4f} at a mean size of {report['logit_magnitude']:.4f}",
        }
    rows["use it"] = _use(manifest)
    return "\n".join(f"{label:<16}  {value}" for label, value in rows.items())


def _use(manifest: dict[str, Any]) -> str:
    quantisation = _quantisation(manifest)
    grouped = "" if quantisation.has_usual_groups else f",group_size={quantisation.group_size}"
    return f"--decoder mlx:bits={quantisation.option}{grouped}"


def _quantisation(manifest: dict[str, Any]) -> Quantisation:
    return Quantisation(manifest["bits"], manifest["group_size"], manifest["mode"])
