"""What was found in data: findings with file, line and mend, and counts that leave out no row.

Leaves to others: the checks themselves (`check_rows`, `check_labels`, `check_splits`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from regard.errors import DataError

REFUSE, WARN, LEAVE_OUT = "refuse", "warn", "leave_out"
_LEVELS = {REFUSE: "error", WARN: "warning", LEAVE_OUT: "left out"}
# Findings of one check that are printed, of each file.
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        check: The name of the check.
        level: "error", "warning" or "left out".
        file: Where.
        line: The line or row, counted from 1; 0 stands for the whole file.
        message: What is wrong and what to do.
    """

    check: str
    level: str
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return it on one line."""
        where = f", line {self.line}" if self.line else ""
        return f"{self.file}{where}: {self.message}"


class DataWarning(UserWarning):
    """Training goes on with data in which something was found."""


class Report:
    """Findings and counts.

    Attributes:
        findings: In the order they were made.
        read: Rows read, by file.
        kept: Rows kept, by split.
        left_out: Rows left out, by reason.
        tasks: The counts of each of several tasks, by its name.
    """

    def __init__(self) -> None:
        """Begin with nothing found."""
        self.tasks: dict[str, dict[str, Any]] = {}
        self.findings: list[Finding] = []
        self.read: Counter[str] = Counter()
        self.kept: dict[str, int] = {}
        self.left_out: Counter[str] = Counter()

    def add(self, check: str, action: str, file: str, line: int, message: str) -> bool:
        """Note a finding, and count its row if it is left out.

        Args:
            check: The name of the check.
            action: "refuse", "warn" or "leave_out".
            file: Where.
            line: Likewise.
            message: What is wrong and what to do.

        Returns:
            Whether the row is kept.
        """
        self.findings.append(Finding(check, _LEVELS[action], file, line, message))
        if action == WARN:
            return True
        self.left_out[check] += 1
        return False

    @property
    def errors(self) -> list[Finding]:
        """What keeps training from the data."""
        return [one for one in self.findings if one.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """What training goes on with."""
        return [one for one in self.findings if one.level == "warning"]

    def counts(self) -> dict[str, Any]:
        """Return the numbers.

        Returns:
            `read`, `train`, `valid`, `test`, and `left_out` by reason; rows read are those kept and
            those left out together. For several tasks also `tasks`, these numbers of each.
        """
        found = {"read": sum(self.read.values()), **self.kept, "left_out": dict(self.left_out)}
        return {**found, "tasks": self.tasks} if self.tasks else found

    def refuse(self) -> None:
        """Do nothing if there is no error.

        Raises:
            DataError: If there is one; the message tells all, by check, the first few of each.
        """
        if self.errors:
            raise DataError("\n".join(_grouped(self.errors)))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data.

        Returns:
            Counts, the rows read by file, and every finding.
        """
        findings = [asdict(one) for one in self.findings]
        return {**self.counts(), "files": dict(self.read), "findings": findings}

    def __str__(self) -> str:
        """Return it for a terminal."""
        counts = self.counts()
        lines = [f"{file}: {count} rows" for file, count in self.read.items()]
        kept = ", ".join(f"{count} {split}" for split, count in self.kept.items())
        lines.append(f"{counts['read']} rows read: {kept}")
        if self.left_out:
            reasons = ", ".join(f"{count} {check}" for check, count in self.left_out.items())
            lines.append(f"{sum(self.left_out.values())} left out: {reasons}")
        for level in ("error", "warning", "left out"):
            found = [one for one in self.findings if one.level == level]
            if found:
                lines += ["", f"{level}: {len(found)}", *("  " + x for x in _grouped(found))]
        return "\n".join(lines if self.findings else [*lines, "nothing to remark"])


def join_reports(reports: Mapping[str, Report]) -> Report:
    """Return what was found in the data of several tasks.

    Args:
        reports: By the name of the task.

    Returns:
        All of it in one report, which also keeps the counts of each.
    """
    whole = Report()
    for name, one in reports.items():
        whole.findings += one.findings
        whole.read += one.read
        whole.left_out += one.left_out
        for split, count in one.kept.items():
            whole.kept[split] = whole.kept.get(split, 0) + count
        whole.tasks[name] = one.counts()
    return whole


def _grouped(findings: list[Finding]) -> Iterator[str]:
    """Yield the first findings of each check and file, and how many more there are."""

    def kind(finding: Finding) -> tuple[str, str]:
        return finding.check, finding.file

    for (check, file), group in groupby(sorted(findings, key=kind), kind):
        same = sorted(group, key=lambda one: one.line)
        yield from map(str, same[:_SHOWN])
        if len(same) > _SHOWN:
            yield f"{file}: {len(same) - _SHOWN} more of the same ({check})"
