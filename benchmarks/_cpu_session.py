"""A run of the cpu benchmark: contenders are timed, and figures go to a table as they come.

Leaves to others: who is compared (`cpu`), and how problems are computed (`_cpu_cases`).
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from _cpu_cases import TRAINING, Problem
from _measure import Bar, Row, Table, interleaved_rounds
from torch import Tensor

FAST, TIME, RATE = "× as fast", "× its time", "× its rate"


@dataclass
class Session:
    """A run of this script.

    Attributes:
        table: Where rows go.
        quick: Whether sizes are small, so that only the script is tried.
        only: A word in the titles of the groups that are run.
        group: The title of the present group.
    """

    table: Table
    quick: bool = False
    only: str = ""
    group: str = ""
    failures: int = 0

    def sized(self, rows: int) -> int:
        """Return a number of rows, or few when all must be quick."""
        return rows // 32 if self.quick else rows

    def times(
        self, contenders: dict[str, Callable[[], object]], warm: bool = False
    ) -> dict[str, list[float]]:
        """Time contenders for about four seconds, at least three rounds."""
        rounds, least = (1, 1) if self.quick else (25, 3)
        return interleaved_rounds(contenders, rounds, 0 if warm else 1, 4.0, least)

    @contextmanager
    def trying(self, case: str, part: str = "") -> Iterator[None]:
        """Note a failure as a row, and go on: the other figures are wanted all the same."""
        try:
            yield
        except Exception as problem:
            self.failures += 1
            said = f"{type(problem).__name__}: {problem}".splitlines()[0][:160]
            self.table.add(Row(self.group, case, part, "", None, "", note=said))

    def add(self, case: str, part: str, peer: str, figure: float, unit: str, **more: Any) -> None:
        """Add a row."""
        self.table.add(Row(self.group, case, part, peer, figure, unit, **more))

    def compare(
        self, problem: Problem, case: str, part: str, peers: dict[str, Callable[[], Tensor]],
        bars: dict[str, Bar | None], ours: Callable[[], Tensor] | None = None,
    ) -> dict[str, list[float]]:  # fmt: skip
        """Time us and peers that compute the same, with a row for each peer.

        Args:
            problem: What is computed.
            case: For people.
            part: FORWARD or TRAINING.
            peers: The forwards of the others, by name.
            bars: What we must reach beside each.
            ours: Our forward, if not the problem's.

        Returns:
            The times of all, round by round; ours by the name "ours".
        """
        forwards = {"ours": ours or problem.ours(), **peers}
        contenders = {name: problem.run(run, part) for name, run in forwards.items()}
        errors = {name: problem.error(run()) for name, run in contenders.items()}
        # Each has run once for its error.
        times = self.times(contenders, warm=True)
        flops = problem.flops * (3.5 if part == TRAINING else 1.0)
        for peer in peers:
            self.add_ratio(
                times, case, part, peer, FAST, bar=bars.get(peer), error=errors["ours"],
                peer_error=errors[peer],
                gflops=flops / statistics.median(times["ours"]) / 1e6,
            )  # fmt: skip
        return times

    def add_ratio(
        self, times: dict[str, list[float]], case: str, part: str, peer: str, unit: str,
        share: float = 1.0, **more: Any,
    ) -> None:  # fmt: skip
        """Add a row for two contenders' times; `share` is what a ratio is multiplied by."""
        above, below = (
            (times["ours"], times[peer]) if unit == TIME else (times[peer], times["ours"])
        )
        figure = share * statistics.median(above) / statistics.median(below)
        by_round = [share * a / b for a, b in zip(above, below, strict=True)]
        if len(by_round) > 1:
            low, _, high = statistics.quantiles(by_round, n=4)
            more["quartiles"] = (low, high)
        ours, its = statistics.median(times["ours"]), statistics.median(times[peer])
        self.add(case, part, peer, figure, unit, ours_ms=ours, peer_ms=its, **more)
