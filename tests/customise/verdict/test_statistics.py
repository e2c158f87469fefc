"""The statistics of a verdict against simulated trainings whose truth is known.

A simulated verdict is a table of gains, seeds × rows: what a seed adds, what a row adds, what both
add together. Hundreds are judged at once.
"""

import numpy as np
import pytest
from scipy import stats

from regard.customise.verdict.statistics import (
    gain_of,
    half_width,
    p_value,
    parts_of,
    row_values,
)
from regard.errors import DataError
from regard.metrics import accuracy, bleu, macro_f1, perplexity
from regard.metrics.measure import Statistic, mean_of

MANY = 2000
# What seeds, rows and both together add, as standard deviations.
WORLDS = {
    "seeds alone": (1.0, 0.0, 0.1),
    "seeds above all": (0.1, 0.1, 0.5),
    "rows alone": (0.0, 1.0, 0.3),
    "noise alone": (0.0, 0.0, 1.0),
    "all alike": (0.07, 1.0, 1.0),
}


def simulate(random, world, seeds=5, rows=300, many=MANY):
    by_seed, by_row, noise = WORLDS[world]
    return (
        by_seed * random.normal(size=(many, seeds, 1))
        + by_row * random.normal(size=(many, 1, rows))
        + noise * random.normal(size=(many, seeds, rows))
    )


def judge(tables, alpha=0.05):
    """Return the mean of each table and half its interval."""
    value, by_seeds, by_rows = parts_of(tables)
    return value, half_width(by_seeds, by_rows, tables.shape, alpha)


def at_most(rate, alpha, many):
    """Whether a rate is none above alpha, but for the luck of the simulation."""
    return rate <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / many)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("world", WORLDS)
def test_equal_systems_are_rarely_told_apart(world, seeds):
    tables = simulate(np.random.default_rng(1), world, seeds)
    value, half = judge(tables)
    assert at_most((np.abs(value) > half).mean(), 0.05, MANY)


@pytest.mark.parametrize("finalists", [1, 3])
def test_equal_right_and_wrong_answers_are_rarely_told_apart(finalists):
    """Rows differ in how hard they are, trainings in how good they are: the answers are 0 or 1."""
    random, many, alpha = np.random.default_rng(2), 600, 0.05
    hard = random.beta(2, 0.7, size=(many, 1, 1, 200))
    good = 0.02 * random.normal(size=(many, finalists + 1, 5, 1))
    right = random.random((many, finalists + 1, 5, 200)) < np.clip(hard + good, 0, 1)
    gains = right[:, 1:].astype(float) - right[:, :1]
    value, half = judge(gains, alpha / finalists)
    # A false alarm on any of them is one of the verdict.
    assert at_most((np.abs(value) > half).any(1).mean(), alpha, many)


def test_one_training_in_six_that_collapses_is_no_gain():
    random, many = np.random.default_rng(3), 600
    good = np.where(random.random((many, 2, 5, 1)) < 1 / 6, 0.3, 0.9)
    right = (random.random((many, 2, 5, 200)) < good).astype(float)
    value, half = judge(right[:, 1] - right[:, 0])
    assert at_most((np.abs(value) > half).mean(), 0.05, many)


@pytest.mark.parametrize("world", WORLDS)
def test_intervals_hold_the_planted_gain_as_often_as_they_say(world):
    for alpha in (0.05, 0.05 / 3):
        value, half = judge(simulate(np.random.default_rng(4), world) + 0.3, alpha)
        assert at_most((np.abs(value - 0.3) > half).mean(), alpha, MANY)


@pytest.mark.parametrize("world", WORLDS)
def test_a_loss_as_large_as_the_margin_is_rarely_taken_for_none(world):
    margin, tables = 0.3, simulate(np.random.default_rng(14), world)
    value, half = judge(tables - margin)
    assert at_most((value - half > -margin).mean(), 0.025, MANY)


def test_intervals_are_not_longer_than_they_need_be():
    """Where seeds or rows decide alone, the level is met and not exceeded."""
    for world in ("seeds alone", "rows alone"):
        value, half = judge(simulate(np.random.default_rng(5), world))
        missed = (np.abs(value) > half).mean()
        assert missed >= 0.05 - 3 * np.sqrt(0.05 * 0.95 / MANY), world


@pytest.mark.parametrize("world", WORLDS)
def test_a_planted_gain_is_found(world):
    """Five standard errors are found by 5 seeds four times of five, and more is found always."""
    by_seed, by_row, noise = WORLDS[world]
    error = np.sqrt(by_seed**2 / 5 + by_row**2 / 300 + noise**2 / 1500)
    tables = simulate(np.random.default_rng(6), world)
    found = []
    for times in (5, 20):
        value, half = judge(tables + times * error)
        found.append((value > half).mean())
    assert found[0] > 0.8 and found[1] > 0.99


def test_the_percentile_bootstrap_of_five_seeds_would_be_wrong_too_often():
    """Why it is not used: rows and seeds drawn anew, the middle 95 % of the means."""
    random, many, wrong = np.random.default_rng(7), 300, 0
    for table in simulate(random, "seeds alone", rows=50, many=many):
        seeds = random.multinomial(5, [1 / 5] * 5, size=300) / 5
        rows = random.multinomial(50, [1 / 50] * 50, size=300) / 50
        low, high = np.quantile(((seeds @ table) * rows).sum(1), [0.025, 0.975])
        wrong += low > 0 or high < 0
    assert wrong / many > 0.1


def test_rows_alone_give_the_paired_t_test():
    """With no other seed but copies of one, only the rows are left."""
    rows = np.random.default_rng(8).normal(0.1, 1, size=80)
    gain = gain_of(np.stack([rows] * 4), 0.95)
    known = stats.ttest_1samp(rows, 0).confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((known.low, known.high))
    assert gain.p == pytest.approx(stats.ttest_1samp(rows, 0).pvalue, rel=1e-6)
    assert gain.by_seeds == 0


def test_seeds_alone_give_the_paired_t_test():
    seeds = np.random.default_rng(9).normal(0.1, 1, size=5)
    gain = gain_of(np.repeat(seeds[:, None], 60, axis=1), 0.95)
    known = stats.ttest_1samp(seeds, 0)
    interval = known.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high))
    assert gain.p == pytest.approx(known.pvalue, rel=1e-6) and gain.by_seeds == 1


def test_parts_of_the_variance_are_those_that_were_planted():
    tables = simulate(np.random.default_rng(10), "all alike", seeds=6, rows=200, many=4000)
    _, by_seeds, by_rows = parts_of(tables)
    assert by_rows.mean() == pytest.approx(1 / 200, rel=0.03)
    truth = (0.07**2 + 1 / 200) / 6
    assert by_seeds.mean() == pytest.approx(truth, rel=0.03)
    assert tables.mean((1, 2)).var() == pytest.approx(truth + 1 / 200, rel=0.08)


def test_seeds_that_agree_by_chance_are_not_taken_for_certain():
    """Two seeds with as many right answers as each other, on other rows."""
    table = np.zeros((2, 60))
    table[0, :20], table[1, 20:40] = 1, 1
    gain = gain_of(table, 0.95)
    assert gain.by_seeds == 1 and gain.high - gain.low > 0.15


def test_p_is_below_alpha_just_when_the_interval_leaves_out_0():
    tables = simulate(np.random.default_rng(11), "all alike", many=400)
    tables += np.random.default_rng(12).normal(0, 0.2, size=(400, 1, 1))
    value, by_seeds, by_rows = parts_of(tables)
    p = p_value(value, by_seeds, by_rows, tables.shape)
    for alpha in (0.2, 0.05, 0.001):
        half = half_width(by_seeds, by_rows, tables.shape, alpha)
        assert ((p < alpha) == (np.abs(value) > half)).all()
    assert ((p > 0) & (p <= 1)).all() and 0.1 < (p < 0.05).mean() < 0.9


def test_two_seeds_that_tie_by_chance_raise_no_more_alarms():
    """Two trainings of 60 rows, right or wrong at random, are often equally good to the row."""
    random, many, alpha = np.random.default_rng(15), 4000, 0.05 / 3
    right = (random.random((many, 2, 2, 60)) < 0.9).astype(float)
    value, half = judge(right[:, 1] - right[:, 0], alpha)
    assert at_most((np.abs(value) > half).mean(), alpha, many)


def test_no_difference_at_all_is_told_as_such():
    gain = gain_of(np.zeros((3, 10)), 0.95)
    assert (gain.value, gain.low, gain.high, gain.p, gain.by_seeds) == (0, 0, 0, 1, 0)


def test_values_of_rows_are_their_own_for_a_mean():
    own = np.array([0.0, 1.0, 1.0, 0.25])
    assert row_values(mean_of("mean", own)) == pytest.approx(own)


WORDS = ["the cat sat on the mat", "a dog ran to the big house", "it rains and rains today"]
MEASURES = {
    "accuracy": accuracy(["a", "b", "a", "a"] * 20, ["a", "b", "b", "a"] * 20),
    "macro F1": macro_f1(["a", "b", "c", "a"] * 20, ["a", "b", "b", "c"] * 20),
    "BLEU": bleu([*WORDS, "the cat ran on the mat"] * 8, [*WORDS, WORDS[0]] * 8),
    "perplexity": perplexity(np.linspace(1, 3, 40), np.arange(40) % 7 + 1),
}


@pytest.mark.parametrize("name", MEASURES)
def test_values_of_rows_have_the_mean_and_the_error_of_any_metric(name):
    measure = MEASURES[name]
    values = row_values(measure)
    assert values.mean() == pytest.approx(measure.score().value)
    draws = np.random.default_rng(13).multinomial(
        len(measure), [1 / len(measure)] * len(measure), size=3000
    )
    error = np.sqrt(values.var(ddof=1) / len(values))
    assert error == pytest.approx(measure.of(draws).std(), rel=0.1, abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_a_metric_without_each_row_is_that_of_the_others(name):
    measure, without = MEASURES[name], 1 - np.eye(len(MEASURES[name]))
    assert measure.left_out() == pytest.approx(measure.of(without))


def test_any_statistic_can_be_left_out_of():
    measure = Statistic("range", [1.0, 5.0, 2.0], lambda found: max(found) - min(found))
    assert measure.left_out().tolist() == [3.0, 1.0, 4.0]


def test_metric_that_hangs_on_one_row_is_refused():
    rows = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    from regard.metrics.measure import Tally, ratio

    with pytest.raises(DataError, match="span F1 is undefined without test row 1, so how it var"):
        row_values(Tally("span F1", rows, ratio))
