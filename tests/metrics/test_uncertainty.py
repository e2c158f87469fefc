"""Intervals: where theory knows them, the same from the same seed, and how often they hold."""

import numpy as np
import pytest

from regard.errors import DataError, InputError
from regard.metrics import Statistic, accuracy, bootstrap, perplexity
from regard.metrics.measure import mean_of
from regard.metrics.uncertainty import chunks, draw_resamples


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(mean_of("mean", values), resamples=4000)
    reach = 1.96 * values.std() / 400**0.5
    assert found.interval.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert found.interval.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)
    assert (found.interval.level, found.interval.resamples) == (0.95, 4000)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random, held = np.random.default_rng(1), 0
    for seed in range(200):
        right = (random.random(150) < 0.8).astype(float)
        interval = bootstrap(mean_of("accuracy", right), resamples=400, seed=seed).interval
        held += interval.low <= 0.8 <= interval.high
    assert 180 <= held <= 198


def test_seed_decides_the_interval():
    measure = mean_of("mean", np.random.default_rng(0).normal(size=50))
    assert bootstrap(measure, seed=3) == bootstrap(measure, seed=3)
    assert bootstrap(measure, seed=3) != bootstrap(measure, seed=4)


def test_any_metric_may_be_resampled_and_those_of_sums_come_out_alike():
    losses, tokens = [3.0, 9.0, 1.0, 20.0], [2, 4, 1, 9]
    fast = bootstrap(perplexity(losses, tokens), resamples=300)
    slow = Statistic(
        "perplexity",
        list(zip(losses, tokens, strict=True)),
        lambda rows: np.exp(sum(a for a, _ in rows) / sum(b for _, b in rows)),
    )
    found = bootstrap(slow, resamples=300)
    assert found.value == pytest.approx(fast.value)
    ends = (found.interval.low, found.interval.high)
    assert ends == pytest.approx((fast.interval.low, fast.interval.high))


def test_resamples_draw_each_example_alike_in_pieces_that_fit_memory():
    drawn = np.concatenate(list(draw_resamples(5, 3000, 0)))
    assert drawn.shape == (3000, 5) and (drawn.sum(1) == 5).all()
    np.testing.assert_allclose(drawn.mean(0), 1, atol=0.08)
    np.testing.assert_allclose(drawn.var(0), 4 / 5, atol=0.08)
    pieces = list(chunks(3_000_000, 5))
    assert pieces == [1] * 5 and list(chunks(2_000_000, 5)) == [2, 2, 1]


def test_score_prints_its_interval_and_its_counts():
    found = bootstrap(accuracy(["a"] * 9 + ["b"], ["a"] * 10), resamples=200)
    assert str(found).startswith("accuracy 0.9 (95%: 0.7 to 1; 10 examples; 9 right)")
    assert found.as_dict()["interval"]["level"] == 0.95
    assert str(accuracy(["a"], ["a"]).score()) == "accuracy 1 (1 examples; 1 right)"


def test_options_out_of_range_and_undefined_metrics_are_refused():
    measure = mean_of("mean", np.ones(3))
    with pytest.raises(InputError, match=r"^level is 95; it lies between 0 and 1, e\.g\. 0\.95$"):
        bootstrap(measure, level=95)
    with pytest.raises(InputError, match=r"^resamples is 10; fewer than 100 give no interval"):
        bootstrap(measure, resamples=10)
    with pytest.raises(DataError, match=r"^mean is undefined for these 2 examples$"):
        bootstrap(mean_of("mean", np.array([np.nan, 1])))
