"""What checks found: one row each, and all of them as a table.

Leaves to others: the checks themselves.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "not applicable"
_MARKS = {PASSED: "✓", FAILED: "✗", SKIPPED: "–"}
_WIDTH = 100


@dataclass(frozen=True)
class Row:
    """What one check found.

    Attributes:
        check: Its name.
        verdict: "passed", "failed" or "not applicable".
        figure: The largest violation, as a share of the largest number compared; None if the check
            came to none.
        tolerance: What the figure may be; None if there is no figure.
        where: Where the figure was found, or why there is none.
    """

    check: str
    verdict: str
    figure: float | None = None
    tolerance: float | None = None
    where: str = ""


@dataclass(frozen=True)
class Report:
    """What all checks of a model found.

    Attributes:
        model: Its class.
        attention: The implementation under test.
        rows: One for each check, in their order.
        seconds: How long it took.
    """

    model: str
    attention: str
    rows: tuple[Row, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(row.check for row in self.rows if row.verdict == FAILED)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, check: str) -> Row:
        return {row.check: row for row in self.rows}[check]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "passed": self.passed}

    def __str__(self) -> str:
        lines = [f"{self.model}, attention '{self.attention}'"]
        wide = max((len(row.check) for row in self.rows), default=0)
        for row in self.rows:
            size = "" if row.figure is None else f"{row.figure:.1e}"
            limit = "" if row.tolerance is None else f"{row.tolerance:.0e}"
            start = f"{_MARKS[row.verdict]} {row.check:<{wide}}  {size:>8}  {limit:>6}  "
            told = row.where or row.verdict
            wrapped = textwrap.wrap(told, max(_WIDTH - len(start), 30))
            lines.append(start + wrapped[0])
            lines += [" " * len(start) + more for more in wrapped[1:]]
        counts = ", ".join(
            f"{sum(row.verdict == verdict for row in self.rows)} {verdict}" for verdict in _MARKS
        )
        return "\n".join([*lines, f"{counts}; {self.seconds:.1f} s"])


@dataclass
class Worst:
    """The largest of several violations, and where it was.

    Attributes:
        figure: The largest so far; NaN and infinities count as infinite.
        where: Where it was.
        compared: How many there were.
    """

    figure: float = 0.0
    where: str = ""
    compared: int = 0

    def add(self, figure: float, where: str) -> None:
        """Take one more violation.

        Args:
            figure: How large it is.
            where: Where it is.
        """
        self.compared += 1
        size = figure if figure == figure else float("inf")
        if size > self.figure or not self.where:
            self.figure, self.where = max(size, self.figure), where

    def row(self, check: str, tolerance: float, nothing: str = "nothing to compare") -> Row:
        """Return the verdict.

        Args:
            check: The name of the check.
            tolerance: What the figure may be.
            nothing: Why there is nothing to compare, if there is nothing.

        Returns:
            The row.
        """
        if not self.compared:
            return Row(check, SKIPPED, where=nothing)
        if self.figure <= tolerance:
            return Row(check, PASSED, self.figure, tolerance)
        return Row(check, FAILED, self.figure, tolerance, self.where)
