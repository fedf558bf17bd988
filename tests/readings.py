"""What a result depends on, for tests of outputs."""

from typing import Any

from dotsctl.client.inputs.sources import InputFile
from dotsctl.client.jobs.page_options import ReadingOptions
from dotsctl.client.outputs.output_base import Output, Reading, State


def reading(fingerprint: str, encoder: str, decoder: str, **options: Any) -> Reading:
    return Reading(fingerprint, encoder, decoder, ReadingOptions(**options).key())


def is_done(output: Output, document: InputFile, wanted: Reading) -> bool:
    """Whether an earlier run wrote a document; its pages may be read after this."""
    return output.take(document, wanted) is State.DONE
