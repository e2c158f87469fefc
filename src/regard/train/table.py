"""Rows of numbers as a .csv whose columns grow with what the rows hold."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Table:
    """A .csv that is written row by row; whoever has it open sees whole rows."""

    def __init__(self, path: Path, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """Write a table.

        Args:
            path: The file; one that is there is replaced.
            rows: What is in it so far, values by column.
        """
        self.path, self.rows = path, list(rows)
        self._write()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; new columns are new for all rows.

        Args:
            row: Values by column.
        """
        self.rows.append(row)
        if not row.keys() <= set(self.columns):
            self._write()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _write(self) -> None:
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            if self.columns:
                writer.writeheader()
            writer.writerows(self.rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a table.

    Args:
        path: The file.

    Returns:
        Cells by column, row by row; no row if there is no file.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
