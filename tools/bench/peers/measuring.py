"""Runs all sides of a comparison one after the other, in rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotsctl.protocol.errors import CommandFailedError
from dotsctl.tools.bench.peers import mlx_vlm, own
from dotsctl.tools.bench.peers.report import PeerComparison
from dotsctl.tools.bench.peers.run import Run, unequal
from dotsctl.tools.bench.peers.workload import Workload


@dataclass(frozen=True)
class Sides:
    """Everything that is compared, and with what settings."""

    model: Path
    """Folder of the checkpoint."""
    python: Path
    """The interpreter of the environment with mlx-vlm."""
    ways: tuple[str, ...]
    """Ways to use mlx-vlm."""
    threads: tuple[int, ...]
    """BLAS threads, each run on its own."""
    clients: tuple[int, ...]
    """Pages in flight, each run on its own."""
    encoder: str | None
    """Plugin of dotsctl with its options; none: the default."""
    decoder: str | None
    """Plugin of dotsctl with its options; none: the default."""
    hints: bool
    """Whether dotsctl reads the pages once more, with its own answers as hints."""

    def compare(self, workload: Workload, rounds: int, scratch: Path, report: Callable[[str], None]) -> PeerComparison:
        """Read the pages of a workload with every side.

        Args:
            workload: the pages and the length of the answers.
            rounds: times that every side reads them; the run of median time counts.
            scratch: folder for the pages.
            report: called with a line before each side begins.

        Raises:
            CommandFailedError: a side failed, or answers of different lengths were given.
        """
        folder = scratch / f"{workload.width}x{workload.height}"
        folder.mkdir(exist_ok=True)
        files = workload.write(folder)
        found: dict[tuple[str, int, int], list[Run]] = {}
        for number in range(rounds):
            for threads in self.threads:
                report(f"{workload.name}, round {number + 1} of {rounds}, {threads} BLAS threads")
                for run in self._round(files, workload.max_tokens, threads):
                    found.setdefault((run.side, run.threads, run.clients), []).append(run)
        runs = [_median(each) for each in found.values()]
        if difference := unequal(runs):
            raise CommandFailedError(f"the sides cannot be compared: {difference}", "choose another model or --kind")
        return PeerComparison(workload, tuple(runs))

    def _round(self, files: Sequence[Path], max_tokens: int, threads: int) -> list[Run]:
        runs = []
        for clients in self.clients:
            run, texts = self._own(files, max_tokens, threads, clients, ())
            runs.append(run)
            if self.hints:
                runs.append(self._own(files, max_tokens, threads, clients, texts)[0])
        for way in self.ways:
            if way == mlx_vlm.SERVER:
                runs += mlx_vlm.serve(self.python, self.model, files, max_tokens, self.clients, threads)
            else:
                runs.append(mlx_vlm.read(self.python, way, self.model, files, max_tokens, threads))
        return runs

    def _own(
        self, files: Sequence[Path], max_tokens: int, threads: int, clients: int, hints: Sequence[str]
    ) -> tuple[Run, list[str]]:
        return own.read(
            self.model,
            files,
            max_tokens,
            clients=clients,
            threads=threads,
            encoder=self.encoder,
            decoder=self.decoder,
            hints=hints,
        )


def _median(runs: Sequence[Run]) -> Run:
    return sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
