"""Time: durations as people write them, and the clock of a study, which goes on over sittings.

Before: "30m". After: 1800 seconds, of which an interrupted study has 1124 left when it goes on.
Leaves to others: what may still begin (`forecast`), who stops in time (`trial`).
"""

import math
import re
import sqlite3
import time
from pathlib import Path

from regard.errors import FileError, InputError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
# Seconds between two writings of the clock: what a killed process loses at most.
_TICK_S = 1.0
_TABLE = "create table if not exists sittings (number integer primary key, seconds real not null)"


def parse_duration(text: str) -> float:
    """Return a duration that was written as "90s", "30m", "2h" or "1h30m".

    Args:
        text: What was written.

    Returns:
        Seconds.

    Raises:
        InputError: If it is no duration, or nothing.
    """
    written = text.strip().lower()
    parts = _PART.findall(written)
    seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
    if "".join(f"{count}{unit}" for count, unit in parts) != written or not seconds:
        raise InputError(f"'{text}' is no duration; write 90s, 30m, 2h or 1h30m")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration for people.

    Args:
        seconds: Any number.

    Returns:
        Such as "0:42", "12:05" or "1:02:03".
    """
    if seconds == math.inf:
        return "∞"
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Clock:
    """How long a study has worked, in all its sittings; kept in its file, killed or not.

    Args:
        database: The study's file, which exists.
        budget_s: Seconds it has in all; inf for no end.
        began: When this sitting began, by `time.monotonic`; None: now.
    """

    def __init__(
        self, database: Path, budget_s: float = math.inf, began: float | None = None
    ) -> None:
        self.budget_s, self._written = budget_s, 0.0
        self._began = time.monotonic() if began is None else began
        self._database = database
        self._base = sqlite3.connect(database, timeout=30.0, isolation_level=None)
        self._do(_TABLE)
        before = self._do("select coalesce(sum(seconds), 0) from sittings").fetchone()
        self._before = float(before[0])
        self._number = self._do("insert into sittings (seconds) values (0)").lastrowid

    def _do(self, statement: str, values: tuple = ()) -> sqlite3.Cursor:
        try:
            return self._base.execute(statement, values)
        except sqlite3.Error as problem:
            raise FileError(f"{self._database}: {problem}") from None

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.budget_s - self.spent

    def tick(self, at_once: bool = False) -> None:
        """Write the clock down, if it is time.

        Args:
            at_once: Whether or not it is.
        """
        sitting = time.monotonic() - self._began
        if at_once or sitting - self._written >= _TICK_S:
            self._written = sitting
            self._do("update sittings set seconds = ? where number = ?", (sitting, self._number))

    def close(self) -> None:
        """Write the clock down and close its file."""
        self.tick(at_once=True)
        self._base.close()
