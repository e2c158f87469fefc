"""A study: what was evaluated, with what result, kept in SQLite so that nothing is done twice.

Each result is written in one step as soon as it is known: whatever stops the process, the file
holds what was finished. Leaves to others: what is evaluated (`halving`).
"""

import json
import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regard.errors import FileError, InputError

VERSION = 1
# Tells a study from any other database; the letters "Rgrd".
_APPLICATION = 0x52677264
_TABLES = """
create table about (task text not null, version integer not null);
create table candidates (key text primary key, name text not null, value text not null);
create table results (
  key text not null references candidates (key), steps integer not null, quality real not null,
  seconds_per_step real not null, bytes real not null, failure text not null, seconds real not null,
  primary key (key, steps)
);
"""


@dataclass(frozen=True)
class Score:
    """What an evaluation found.

    Attributes:
        quality: The larger the better.
        seconds_per_step: Of training.
        bytes: Of memory.
        failure: Why there is no quality, which is then -inf; "" if there is.
    """

    quality: float
    seconds_per_step: float = 0.0
    bytes: float = 0.0
    failure: str = ""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("quality", "seconds_per_step", "bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise InputError(
                    f"{name} of a score must be a number, not {value!r}; a run that diverged has "
                    "quality -inf"
                )


class Study:
    """Results of candidates, in a file.

    Args:
        path: A file that a study of the same task wrote, or where a new one begins.
        task: What is searched for, as text: a fingerprint of data, model and settings.
    """

    def __init__(self, path: str | os.PathLike, task: str) -> None:
        self.path, self.task = Path(path), task
        try:
            self._base = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        except sqlite3.Error as problem:
            raise FileError(f"{path}: {problem}") from None
        try:
            with self._problems():
                self._open()
        except BaseException:
            self._base.close()
            raise

    def _open(self) -> None:
        with self._changing():
            (application,) = self._base.execute("pragma application_id").fetchone()
            (tables,) = self._base.execute("select count(*) from sqlite_master").fetchone()
            if not tables and not application:
                self._base.execute(f"pragma application_id = {_APPLICATION}")
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._base.execute(statement)
                self._base.execute("insert into about values (?, ?)", (self.task, VERSION))
        if application != _APPLICATION and (tables or application):
            raise FileError(f"{self.path}: this database is no study; name another file")
        task, version = self._base.execute("select task, version from about").fetchone()
        if version != VERSION:
            raise FileError(
                f"{self.path}: a study of version {version}, and this Regard writes version "
                f"{VERSION}; begin a new one in another file"
            )
        if task != self.task:
            raise FileError(
                f"{self.path}: a study of another task: {_short(task)}, not {_short(self.task)}; "
                "begin a new one in another file"
            )

    def find(self, key: str, steps: int) -> Score | None:
        """Return what an evaluation found, if it was done.

        Args:
            key: The candidate's fingerprint.
            steps: Its budget.

        Returns:
            The score, or None.
        """
        with self._problems():
            row = self._base.execute(
                "select quality, seconds_per_step, bytes, failure from results "
                "where key = ? and steps = ?",
                (key, steps),
            ).fetchone()
        return None if row is None else Score(*row)

    def keep(self, key: str, steps: int, score: Score, seconds: float, about: Any = "") -> None:
        """Write down what an evaluation found.

        Args:
            key: The candidate's fingerprint.
            steps: Its budget.
            score: What was found.
            seconds: How long it took.
            about: What the candidate is, as data that JSON can say.
        """
        name = about.get("name", "") if isinstance(about, dict) else ""
        with self._problems(), self._changing():
            self._base.execute(
                "insert or ignore into candidates values (?, ?, ?)",
                (key, str(name), json.dumps(about, ensure_ascii=False)),
            )
            self._base.execute(
                "insert or replace into results values (?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    steps,
                    score.quality,
                    score.seconds_per_step,
                    score.bytes,
                    score.failure,
                    seconds,
                ),
            )

    @property
    def seconds(self) -> float:
        """How long all its evaluations took."""
        with self._problems():
            return self._base.execute("select coalesce(sum(seconds), 0) from results").fetchone()[0]

    def results(self) -> list[dict[str, Any]]:
        """Return all that was found, in the order in which it was.

        Returns:
            For each evaluation: key, steps, seconds, what the candidate is, and the score's fields.
        """
        with self._problems():
            rows = self._base.execute(
                "select key, steps, seconds, value from results join candidates using (key) "
                "order by results.rowid"
            ).fetchall()
        found = []
        for key, steps, seconds, value in rows:
            score = self.find(key, steps)
            assert score is not None
            told = {"key": key, "steps": steps, "seconds": seconds, "about": json.loads(value)}
            found.append({**told, **asdict(score)})
        return found

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it, or nothing."""
        self._base.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._base.execute("rollback")
            raise
        self._base.execute("commit")

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as problem:
            raise FileError(f"{self.path}: {problem}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
