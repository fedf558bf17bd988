"""The report of ``dotsctl bench peers``: each way beside dotsctl, as ratios of one run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dotsctl.tools.bench.peers.own import HINTED, SIDE
from dotsctl.tools.bench.peers.run import Run
from dotsctl.tools.bench.peers.workload import Workload
from dotsctl.tools.measuring.report_text import LegendEntry

HEAD = (
    "side                threads  clients  s a page  CPU s a page  peak GB  first token s  dotsctl over it: wall   CPU"
)
LEGEND = (
    LegendEntry(HINTED, "the same pages, with the answers as hints of what they hold"),
    LegendEntry("threads", "BLAS threads of each process that computes; 0: as the library chooses, or a GPU"),
    LegendEntry("clients", "pages in flight at once"),
    LegendEntry("peak GB", "largest memory of all processes of the side"),
    LegendEntry("first token s", "median time to the first token; mlx-vlm reports it page by page alone"),
    LegendEntry(
        "dotsctl over it", "time of dotsctl with the same threads, and as many pages in flight where it was run"
    ),
)


@dataclass(frozen=True)
class PeerComparison:
    """All runs of one workload."""

    workload: Workload
    runs: tuple[Run, ...]

    def own(self, run: Run) -> Run:
        """The run of dotsctl that another one is compared with."""
        own = [each for each in self.runs if each.side == SIDE and each.threads == run.threads]
        return min(own, key=lambda each: abs(each.clients - run.clients))

    def verdict(self) -> str:
        """Wall and processor time of dotsctl over those of the fastest peer with the same threads, in one sentence."""
        peers = [run for run in self.runs if run.side not in (SIDE, HINTED)]
        if not peers:
            return f"{self.workload.name}: only dotsctl was run."
        best = min(peers, key=lambda run: run.wall_s)
        own = min((run for run in self.runs if run.side == SIDE), key=lambda run: run.wall_s)
        return (
            f"{self.workload.name}: dotsctl takes {own.wall_s / best.wall_s:.2f} times the time of {best.side}, the "
            f"fastest way to use mlx-vlm, and {own.cpu_s / best.cpu_s:.2f} times its processor time."
        )

    def table(self) -> str:
        """All runs, one a line."""
        return "\n".join([HEAD, *map(self._row, self.runs)])

    def record(self) -> dict[str, Any]:
        """The fields of the JSON output."""
        return {"workload": asdict(self.workload), "runs": [asdict(run) for run in self.runs]}

    def _row(self, run: Run) -> str:
        own = self.own(run)
        first = f"{_median(run.first_token_s):13.2f}" if run.first_token_s else f"{'-':>13}"
        ratios = "" if run.side == SIDE else f"{own.wall_s / run.wall_s:21.2f}  {own.cpu_s / run.cpu_s:4.2f}"
        return (
            f"{run.side:<19} {run.threads:7}  {run.clients:7}  {run.wall_page_s:8.2f}  {run.cpu_page_s:12.2f}  "
            f"{run.peak_bytes / 1e9:7.2f}  {first}  {ratios}"
        ).rstrip()


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
