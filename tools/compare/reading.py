"""Reads a page from the embeddings of each encoder, one after the other, with one decoder."""

from pathlib import Path
from typing import Any

from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.page import Failure, Page
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.plugin import Finish
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, PageError, UsageError
from dotsctl.protocol.messages import PageResult
from dotsctl.tools.compare.comparison import Version
from dotsctl.tools.compare.encoding import Sight
from dotsctl.tools.measuring.decoding import PageReader


class VersionReader:
    """A decoder, and what is noted of everything that it reads."""

    def __init__(self, decoder: PluginChoice, model: Path, name: str, task: str | None, fingerprint: str) -> None:
        """Load the decoder.

        Args:
            decoder: the plugin.
            model: its folder.
            name: of the model.
            task: none: the model's default one.
            fingerprint: of the model that the encoders have loaded.

        Raises:
            UsageError: the model has no such task.
            MissingError: a dependency or a file of the model is missing.
            CommandFailedError: the decoder has loaded another model.
        """
        self._decoder, self._name, self._fingerprint = str(decoder), name, fingerprint
        self._reader = PageReader(decoder, model, lambda note: None)
        try:
            spec = self._reader.spec
            if spec.fingerprint != fingerprint:
                raise CommandFailedError(f"decoder {decoder} has loaded another model than the encoders")
            self._task = task or spec.tasks[0]
            if self._task not in spec.tasks:
                raise UsageError(f"unknown task {task!r}; {name} knows: {', '.join(spec.tasks)}")
        except BaseException:
            self._reader.close()
            raise

    def about(self) -> dict[str, Any]:
        """Return the facts that all versions have in common."""
        model = {"name": self._name, "digest": self._fingerprint}
        return {"model": model, "decoder": self._decoder, "task": self._task}

    def read(self, page: PageInput, sight: Sight) -> Version:
        """Read a page from the embeddings of one encoder; whatever goes wrong with it is in its record."""
        encoded = sight.loaded()
        if encoded is None:
            return Version(sight.encoder, self._failed(page, sight.failure))
        try:
            read = self._read(page, sight, encoded, self._reader.read(encoded, self._task))
        except PageError as error:
            read = self._failed(page, Failure.of(error))
        return Version(sight.encoder, read, encoded.grid, sight.total_ms, sight.distance, sight.note)

    def close(self) -> None:
        """Free the decoder."""
        self._reader.close()

    def _read(self, page: PageInput, sight: Sight, encoded: EncodedPage, finish: Finish) -> Page:
        """The record that a runtime would give."""
        result = PageResult(
            job_id="",
            page_index=0,
            request_id=0,
            attempt=1,
            text=finish.text,
            finish_reason=finish.reason,
            geometries=(encoded.geometry,),
            image_tokens=len(encoded.embeddings),
            prompt_tokens=finish.prompt_tokens,
            completion_tokens=finish.completion_tokens,
            encoder=sight.encoder,
            decoder=self._decoder,
            timings_ms=encoded.timings_ms,
        )
        return Page.from_result(page, result, model=self._name, fingerprint=self._fingerprint, task=self._task)

    def _failed(self, page: PageInput, failure: Failure | None) -> Page:
        failure = failure or Failure(ErrorCode.INTERNAL, "the encoder gave nothing")
        return Page.from_failure(page, failure, model=self._name, fingerprint=self._fingerprint, task=self._task)
