"""Pareto ranks, successive halving and its study, with functions in place of training."""

import math
import sqlite3
from random import Random

import pytest

from regard.errors import FileError, InputError, TaskError
from regard.search import Score, Study, by_all, halving, pareto_order, pareto_ranks
from regard.search.pareto import crowding


def ranks_by_definition(points):
    """Peel off, one front after another, what nothing beats: by the words of the definition."""
    left, ranks, rank = list(range(len(points))), {}, 0
    while left:
        front = []
        for a in left:
            beaten = False
            for b in left:
                no_worse = sum(x <= y for x, y in zip(points[b], points[a], strict=True))
                better = sum(x < y for x, y in zip(points[b], points[a], strict=True))
                beaten |= no_worse == len(points[a]) and better > 0
            if not beaten:
                front.append(a)
        for a in front:
            ranks[a] = rank
        left = [a for a in left if a not in front]
        rank += 1
    return [ranks[a] for a in range(len(points))]


def test_ranks_are_those_of_the_definition():
    random = Random(0)
    for count in (1, 2, 7, 30):
        points = [tuple(random.randrange(5) for _ in range(3)) for _ in range(count)]
        assert pareto_ranks(points) == ranks_by_definition(points)
    assert pareto_ranks([(1, 5), (2, 3), (2, 6)]) == [0, 0, 1]
    assert pareto_ranks([(1.0,), (1.0,), (math.inf,), (-math.inf,)]) == [1, 1, 2, 0]
    assert pareto_ranks([]) == []


def test_within_a_rank_those_with_room_come_first():
    points = [(0, 10), (1, 9), (2, 8), (9, 1), (10, 0), (10, 10)]
    assert crowding(points[:5]) == [math.inf, 0.4, 1.6, 1.6, math.inf]
    assert pareto_order(points) == [0, 4, 2, 3, 1, 5]
    assert pareto_order([(3,), (1,), (2,), (1,)]) == [1, 3, 2, 0]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(1, 2), (1,)], "points[1] has 1 objectives and points[0] has 2; give each the same"),
        ([()], "points[0] has 0 objectives"),
        ([(1.0,), (math.nan,)], "points[1] holds NaN, which cannot be ranked; give inf"),
    ],
)
def test_points_that_cannot_be_ranked_are_refused(points, message):
    with pytest.raises(InputError) as error:
        pareto_ranks(points)
    assert str(error.value).startswith(message)


class Training:
    """Stands for training: quality grows to a limit that each candidate has."""

    def __init__(self, stop_after=math.inf, stop=KeyboardInterrupt):
        self.calls, self.stop_after, self.stop = [], stop_after, stop

    def __call__(self, candidate, steps):
        if len(self.calls) >= self.stop_after:
            raise self.stop
        self.calls.append((candidate, steps))
        if candidate == 13:
            raise TaskError("the loss is NaN after step 7")
        return Score(candidate * (1 - 1 / (1 + steps)), 0.001 * candidate, 100 - candidate)


CANDIDATES = {f"c{number}": number for number in (3, 8, 1, 9, 13, 5, 7, 2, 6)}


def test_the_better_third_of_each_rung_goes_on(tmp_path):
    training, seen = Training(), []
    with Study(tmp_path / "study.db", "task") as study:
        found = halving(CANDIDATES, [10, 30, 90], training, study=study, on_progress=seen.append)
    assert [one for one in training.calls if one[1] > 10] == [(9, 30), (8, 30), (7, 30), (9, 90)]
    assert len(training.calls) == 13 and found.finished and found.stopped == ""
    assert found.order[:3] == ("c9", "c8", "c7") and found.order[-1] == "c13"
    assert found.rungs == {**dict.fromkeys(CANDIDATES, 0), "c9": 2, "c8": 1, "c7": 1}
    assert found.scores["c13"] == Score(
        -math.inf, math.inf, math.inf, "the loss is NaN after step 7"
    )
    assert [(one.rung, one.done, one.total) for one in seen][8:11] == [
        (0, 9, 9),
        (1, 1, 3),
        (1, 2, 3),
    ]
    assert seen[-1].best == "c9" and not any(one.kept for one in seen)
    assert seen[1].best == "c8" and seen[2].best == "c8"


def test_what_was_evaluated_is_not_evaluated_again(tmp_path):
    path = tmp_path / "study.db"
    for stop_after, calls in ((0, 0), (4, 4), (6, 6), (99, 3)):
        training = Training(stop_after)
        with Study(path, "task") as study:
            found = halving(CANDIDATES, [10, 30, 90], training, study=study)
        assert len(training.calls) == calls
        assert (found.finished, found.stopped) == (
            (stop_after == 99),
            "" if stop_after == 99 else "interrupt",
        )
    whole = Training()
    with Study(tmp_path / "other.db", "task") as study:
        assert halving(CANDIDATES, [10, 30, 90], whole, study=study) == found
    seen = []
    with Study(path, "task") as study:
        again = halving(CANDIDATES, [10, 30, 90], Training(0), study=study, on_progress=seen.append)
        assert again == found and all(one.kept for one in seen) and len(seen) == 13
        assert len(study.results()) == 13


def test_an_error_that_is_no_finding_ends_the_search_and_keeps_what_was_done(tmp_path):
    with Study(tmp_path / "study.db", "task") as study:
        with pytest.raises(ZeroDivisionError):
            halving(CANDIDATES, [10], Training(3, ZeroDivisionError), study=study)
        assert [one["key"] for one in study.results()] == ["c3", "c8", "c1"]
        with pytest.raises(TypeError, match=r"evaluate returned 0\.5; it must return a Score"):
            halving({"a": 1}, [10], lambda candidate, steps: 0.5, study=study)


def test_nothing_begins_when_the_budget_is_used_up(tmp_path):
    training = Training()
    with Study(tmp_path / "study.db", "task") as study:
        study.keep("before", 10, Score(1.0), seconds=30.0)
        found = halving(CANDIDATES, [10], training, study=study, budget_s=20)
        assert (found.finished, found.stopped, training.calls) == (False, "budget", [])
        assert halving(CANDIDATES, [10], training, study=study, budget_s=99).finished


def test_several_objectives_keep_the_front(tmp_path):
    def evaluate(candidate, steps):
        quality, seconds = candidate
        return Score(quality, seconds)

    candidates = {
        "good": (9, 9.0),
        "cheap": (2, 1.0),
        "both": (8, 2.0),
        "bad": (1, 8.0),
        "no": (0, 9.0),
    }
    with Study(tmp_path / "study.db", "task") as study:
        found = halving(candidates, [1, 2], evaluate, study=study, keep=0.6, objectives=by_all)
    assert {key for key, rung in found.rungs.items() if rung} == {"good", "cheap", "both"}


def test_a_study_keeps_what_a_candidate_is(tmp_path):
    with Study(tmp_path / "study.db", "task") as study:
        halving(
            {"a": 3}, [10], Training(), study=study, describe=lambda one: {"name": "x", "n": one}
        )
        (kept,) = study.results()
    assert (kept["key"], kept["steps"], kept["about"]) == ("a", 10, {"name": "x", "n": 3})
    assert kept["quality"] == pytest.approx(3 * 10 / 11) and kept["failure"] == ""
    with Study(tmp_path / "study.db", "task") as study:
        assert (
            study.find("a", 10) == Score(kept["quality"], 0.003, 97) and study.find("a", 11) is None
        )


def other_task(path):
    Study(path, "another task, " + "x" * 99).close()


def newer_version(path):
    Study(path, "task").close()
    base = sqlite3.connect(path)
    base.execute("update about set version = 2")
    base.commit()
    base.close()


def other_database(path):
    base = sqlite3.connect(path)
    base.execute("create table notes (text)")
    base.commit()
    base.close()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (other_task, "a study of another task: 'another task, xxxxxxxxxxxxxxxx"),
        (newer_version, "a study of version 2, and this Regard writes version 1; begin a new one"),
        (other_database, "this database is no study; name another file"),
        (lambda path: path.write_text("no database" * 99), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
    ],
)
def test_what_is_no_study_of_the_task_is_refused(tmp_path, prepare, message):
    path = tmp_path / "study.db"
    prepare(path)
    with pytest.raises(FileError) as error:
        Study(path, "task")
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": {}}, "halving needs candidates; none was given"),
        ({"rungs": []}, "rungs=[] must be whole numbers of steps that ascend"),
        ({"rungs": [30, 10]}, "rungs=[30, 10] must be"),
        ({"rungs": [1.5]}, "rungs=[1.5] must be"),
        ({"keep": 0}, "keep=0 must be a share above 0 and at most 1"),
        ({"budget_s": 0}, "budget_s=0 must be seconds above 0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(tmp_path, change, message):
    given = {"candidates": CANDIDATES, "rungs": [1], "evaluate": Training(), **change}
    with Study(tmp_path / "study.db", "task") as study, pytest.raises(InputError) as error:
        halving(**given, study=study)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("quality", [math.nan, "good", True, None])
def test_a_score_is_a_number(quality):
    with pytest.raises(InputError, match="quality of a score must be a number"):
        Score(quality)
