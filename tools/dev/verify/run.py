"""One run of ``verify``: the model, the pages, our results, and those of each reference, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.dev.verify import peer as verify_peer
from dotsctl.tools.dev.verify import references as verify_references
from dotsctl.tools.dev.verify import report as verify_report
from dotsctl.tools.dev.verify import stored as verify_stored
from dotsctl.tools.dev.verify.compare import TensorRow, bfloat16_rows, float32_rows, table
from dotsctl.tools.dev.verify.own import own_results
from dotsctl.tools.dev.verify.pages import VerifyPage, make_pages, read_tokenizer
from dotsctl.tools.dev.verify.stages import Results
from dotsctl.tools.measuring.versions import versions

Say = Callable[[str], None]


@dataclass
class VerifyRun:
    """Everything that is compared is computed on the same pages of the same model."""

    model: Path
    is_tiny: bool
    pages: list[VerifyPage]
    dtype: str
    max_tokens: int
    """The most tokens of each answer; in bfloat16 there are none."""
    own: Results = field(default_factory=Results)
    others: dict[str, Results] = field(default_factory=dict)

    @classmethod
    def prepare(cls, model: Path | None, scratch: Path, pages: int, dtype: str, max_tokens: int) -> "VerifyRun":
        """Make the tiny model where none is given, and the pages."""
        folder = verify_stored.write_tiny(scratch / "tiny") if model is None else model
        if not (folder / "config.json").is_file():
            raise MissingError(f"{folder} has no config.json", "give the folder of a dots.ocr snapshot with --model")
        made = make_pages(read_tokenizer(folder), pages)
        return cls(folder, model is None, made, dtype, max_tokens if dtype == "float32" else 0)

    def store(self, file: Path) -> int:
        """Write the peer's results; the size of the file in bytes."""
        if self.dtype != "float32":
            raise UsageError("stored are results in float32", "leave --dtype away")
        peer = verify_peer.peer_results(self.model, self.pages, self.dtype, self.max_tokens)
        return verify_stored.store(file, self.model, self.pages, peer, versions())

    def compare(self, against: tuple[str, ...] | None, say: Say) -> list[TensorRow]:
        """Return the rows of the table.

        Args:
            against: names of references; none: those that are installed and fit.
            say: receives what is left out, and the progress.

        Raises:
            MissingError: a reference that was named is not installed.
            UsageError: one that was named does not fit this model or type.
        """
        names = self._chosen(say) if against is None else against
        self._check(names)
        say(f"computing ours in {self.dtype}")
        self.own = own_results(self.model, self.pages, self.dtype, self.max_tokens)
        for name in names:
            say(f"computing {name}")
            self.others[name] = self._reference(name)
        if self.dtype == "float32":
            return [row for name, other in self.others.items() for row in float32_rows(name, self.own, other)]
        return bfloat16_rows(self.own, self.others["float64"], self.others.get(verify_peer.NAME))

    def _chosen(self, say: Say) -> tuple[str, ...]:
        """All references that are installed."""
        names = ["float64"]
        if self.dtype == "float32" and self.is_tiny and verify_stored.STORED.is_file():
            names.append("stored")
        if verify_peer.installed():
            names.append(verify_peer.NAME)
        else:
            say("mlx-vlm is not installed and left out: pip install mlx-vlm")
        if self.dtype == "float32" and verify_references.torch_version():
            names.append("torch")
        elif self.dtype == "float32":
            say("PyTorch is not installed and left out: pip install torch")
        return tuple(names)

    def _check(self, names: tuple[str, ...]) -> None:
        """Check that the named files exist before minutes are spent."""
        if verify_peer.NAME in names and not verify_peer.installed():
            raise MissingError("mlx-vlm is not installed", "pip install mlx-vlm")
        if "torch" in names and not verify_references.torch_version():
            raise MissingError("PyTorch is not installed", "pip install torch")
        if self.dtype == "bfloat16" and (wrong := [name for name in names if name in ("stored", "torch")]):
            raise UsageError(f"{', '.join(wrong)} is in float32", "compare in bfloat16 with float64,mlx-vlm")
        if self.dtype == "bfloat16" and "float64" not in names:
            raise UsageError("errors in bfloat16 are measured against float64", "add it to --against")

    def _reference(self, name: str) -> Results:
        if name == "float64":
            return verify_references.float64_results(self.model, self.pages[0])
        if name == "torch":
            return verify_references.torch_results(self.model, self.pages[0], bool(self.max_tokens))
        if name == "stored":
            return verify_stored.stored_results(verify_stored.STORED, self.model, self.pages)
        return verify_peer.peer_results(self.model, self.pages, self.dtype, self.max_tokens)

    @staticmethod
    def table(rows: list[TensorRow]) -> str:
        """Text of the table."""
        return table(rows)

    def report(self, folder: Path, rows: list[TensorRow], about: dict[str, Any]) -> None:
        """Write metadata and plots."""
        verify_report.write_report(folder, rows, self.own, self.others, about, self.model)
