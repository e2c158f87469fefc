"""Who goes on: quotas, ties, heirs, plain attention, prospects, and why others were dropped."""

import math

import pytest

from regard.customise.candidate import PLAIN, Candidate, plain
from regard.customise.forecast import Forecast
from regard.customise.result import choose_best, front
from regard.customise.standing import Job, Standing
from regard.search import Score, by_all, by_quality

RUNGS = (10, 20, 40, 80)


def one(key, **more):
    return Candidate(key, key, "made up", **more)


def standing(scores, objectives=by_quality):
    """A standing of named candidates: qualities by rung."""
    found = Standing(RUNGS, objectives)
    for key, qualities in scores.items():
        for rung, quality in enumerate(qualities):
            if quality is not None:
                found.put(plain() if key == PLAIN else one(key), rung, Score(quality, 0.1))
    return found


def test_the_better_half_of_a_rung_goes_on():
    at = standing({"a": [0.1], "b": [0.4], "c": [0.3], "d": [0.2], "e": [0.5]})
    assert [(job.candidate.key, job.rung, job.steps) for job in at.promotions()] == [
        ("e", 1, 10), ("b", 1, 10),
    ]  # fmt: skip
    assert not list(standing({"a": [0.1]}).promotions())


def test_higher_rungs_come_first_and_who_has_gone_on_is_not_asked_again():
    at = standing({"a": [0.9, 0.5], "b": [0.8, 0.6], "c": [0.7], "d": [0.6], "e": [0.5]})
    assert [(job.candidate.key, job.rung) for job in at.promotions()] == [("b", 2)]
    at.put(one("f"), 0, Score(0.85))
    assert [(job.candidate.key, job.rung) for job in at.promotions()] == [("b", 2), ("f", 1)]


def test_plain_attention_always_goes_on():
    at = standing({PLAIN: [0.1], "a": [0.9], "b": [0.8], "c": [0.7]})
    assert [job.candidate.key for job in at.promotions()] == ["a", "b", PLAIN]


def test_equal_answers_are_ranked_by_the_loss():
    at = Standing(RUNGS, by_quality)
    at.put(one("unsure"), 0, Score(0.5, 0.1), loss=1.0)
    # Not by time, which is another in each study.
    at.put(one("as unsure"), 0, Score(0.5, 0.05), loss=1.0)
    at.put(one("sure"), 0, Score(0.5, 0.9), loss=0.5)
    at.put(one("best"), 0, Score(0.6, 0.9), loss=2.0)
    assert at.ranked(0) == ["best", "sure", "unsure", "as unsure"]


def test_failures_are_never_promoted_and_stand_last():
    at = standing({"a": [0.1], "b": [0.2]})
    at.put(one("broken"), 0, Score(-math.inf, math.inf, math.inf, "no kernel"))
    assert "broken" not in at.ranked(0) and "broken" not in at.order()
    assert at.dropped("broken") == "no kernel"


def test_an_heir_is_judged_from_the_second_rung_on_and_runs_the_last_one_anew():
    at, heir = standing({"a": [0.1]}), one("h", root="a")
    assert at.first_job(heir) == Job(heir, 1, 10)
    at.put(heir, 1, Score(0.5))
    assert at.job(heir, 2) == Job(heir, 2, 20)
    at.put(heir, 2, Score(0.5))
    assert at.job(heir, 3) == Job(heir, 3, 80)
    # Others go on from where they were.
    assert at.job(at.candidates["a"], 3) == Job(at.candidates["a"], 3, 70)


def test_prospects_are_the_first_of_each_rung_that_have_not_gone_on():
    at = standing({"a": [0.5, 0.5], "b": [0.6], "c": [0.4, 0.4, 0.4], "d": [0.3, 0.3, 0.3, 0.3]})
    assert [found.key for found in at.prospects()] == ["c", "a", "b"]


def test_reasons_for_dropping_are_told():
    at = standing({"a": [0.5, 0.5, 0.5, 0.5], "b": [0.6], "c": [0.4]})
    assert at.dropped("a") == ""
    assert at.dropped("b") == "place 1 of 3 at step 10; no time was left"
    assert at.dropped("c") == "place 3 of 3 at step 10"


def whole(scores, objectives=by_quality):
    at = Standing(RUNGS, objectives)
    for key, score in scores.items():
        at.put(plain() if key == PLAIN else one(key), 3, score)
    return at


def test_the_best_is_of_the_highest_rung_and_no_mode_wins_a_tie_with_plain_attention():
    at = whole({PLAIN: Score(0.8, 0.2), "a": Score(0.8, 0.1)})
    at.put(one("early"), 1, Score(1.0))
    assert choose_best(at, "quality") == PLAIN
    at.put(one("b"), 3, Score(0.9, 0.5))
    assert choose_best(at, "quality") == "b"
    assert choose_best(Standing(RUNGS, by_quality), "quality") is None


def test_of_all_objectives_the_quickest_that_is_no_worse_than_plain_attention_wins():
    scores = {
        PLAIN: Score(0.8, 0.2, 5), "quick": Score(0.8, 0.1, 9), "good": Score(0.9, 0.3, 9),
        "poor": Score(0.7, 0.05, 9),
    }  # fmt: skip
    at = whole(scores, by_all)
    assert choose_best(at, "all") == "quick"
    assert front(at) == {PLAIN, "quick", "good", "poor"}
    at.put(one("beaten"), 3, Score(0.6, 0.3, 9))
    assert "beaten" not in front(at)


def test_time_is_forecast_from_steps_measured_and_attention_predicted():
    attention = {PLAIN: 0.01, "dear": 0.05, "cheap": 0.001}
    forecast = Forecast(lambda candidate: attention[candidate.key])
    first = Job(plain(), 0, 10)
    assert forecast.seconds(first) == 0.0
    forecast.learn(first, Score(0.5, 0.1), 3.0)
    assert forecast.around == pytest.approx(2.0)
    assert forecast.step(one("dear")) == pytest.approx(0.14)
    # What is predicted to be cheaper is not believed before it is measured.
    assert forecast.step(one("cheap")) == pytest.approx(0.1)
    assert forecast.seconds(Job(one("dear"), 1, 100)) == pytest.approx(1.15 * 14 + 2)
    forecast.learn(Job(one("dear"), 0, 10), Score(-math.inf, math.inf, math.inf, "broke"), 99.0)
    assert forecast.around == pytest.approx(2.0)
