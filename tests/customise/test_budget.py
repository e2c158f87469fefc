"""Durations as people write them, and a clock that goes on over sittings."""

import math

import pytest

from regard.customise import budget
from regard.customise.budget import Clock, format_duration, parse_duration
from regard.errors import FileError, InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5m", 90), (" 1D ", 86400)],
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "30 m", "-5m", "0m", "5x", "5m?", "1e3s", "nan"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InputError, match="is no duration; write 90s, 30m, 2h or 1h30m"):
        parse_duration(text)


def test_durations_are_written():
    written = [format_duration(one) for one in (0, 42.4, 725, 3723, -3, math.inf)]
    assert written == ["0:00", "0:42", "12:05", "1:02:03", "0:00", "∞"]


def test_clock_goes_on_where_an_earlier_sitting_ended_even_if_it_was_killed(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    first = Clock(tmp_path / "study.sqlite", 60.0)
    now[0] += 10.2
    first.tick()
    now[0] += 0.5
    # Not written: less than a second has passed. Then the process is killed.
    first.tick()
    assert first.spent == pytest.approx(10.7) and first.left == pytest.approx(49.3)
    second = Clock(tmp_path / "study.sqlite", 60.0)
    assert second.spent == pytest.approx(10.2)
    now[0] += 5.0
    second.close()
    third = Clock(tmp_path / "study.sqlite", 60.0, began=now[0] - 2.0)
    assert third.spent == pytest.approx(17.2) and third.left == pytest.approx(42.8)


def test_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "study.sqlite").write_text("no database, but long enough to look like a page" * 30)
    with pytest.raises(FileError, match=r"study\.sqlite: file is not a database"):
        Clock(tmp_path / "study.sqlite")
