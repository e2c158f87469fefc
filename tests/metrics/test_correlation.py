import numpy as np
import pytest
from scipy import stats

from regard.errors import DataError
from regard.metrics import bootstrap, compare, pearson, spearman, squared_error


def numbers(seed, count=40):
    random = np.random.default_rng(seed)
    right = random.integers(0, 6, count).astype(float)
    # Far from 0, where sums of squares would lose their digits; rounded, so that some are equal.
    return 1e6 + np.round(right + random.normal(0, 2, count)), right


@pytest.mark.parametrize("seed", range(3))
def test_every_resample_correlates_as_scipy_says(seed):
    found, right = numbers(seed)
    weights = np.random.default_rng(seed).integers(0, 3, size=(20, len(right)))
    ours = pearson(found, right).of(weights), spearman(found, right).of(weights)
    for row, counts in enumerate(weights):
        drawn = np.repeat(found, counts), np.repeat(right, counts)
        assert ours[0][row] == pytest.approx(stats.pearsonr(*drawn)[0], abs=1e-9)
        assert ours[1][row] == pytest.approx(stats.spearmanr(*drawn)[0], abs=1e-12)


def test_resample_without_spread_is_left_out_of_the_interval():
    found = bootstrap(pearson([0.0, 0, 0, 1], [0.0, 0, 1, 2]), resamples=1000)
    # (3/4)⁴ of the resamples never draw the last, and some draw nothing else.
    assert 600 < found.interval.resamples < 720


def test_better_likeness_is_told_from_worse():
    found, right = numbers(0)
    verdict = compare(
        spearman(np.random.default_rng(9).permutation(found), right), spearman(found, right)
    )
    assert verdict.answer == "better"


@pytest.mark.parametrize("metric", [pearson, spearman])
@pytest.mark.parametrize(
    ("found", "right", "message"),
    [
        ([1, 1], [1, 2], r"^all predictions are 1; a correlation needs two that differ$"),
        ([1, 2], [3, 3], r"^all references are 3; a correlation needs two that differ$"),
        ([1, float("inf")], [1, 2], r"^prediction 2 is inf; finite numbers are needed$"),
        ([1], [1, 2], r"^there are 1 predictions and 2 references"),
        ([], [], r"^there are no predictions to score"),
    ],
)
def test_unusable_numbers_are_refused(metric, found, right, message):
    with pytest.raises(DataError, match=message):
        metric(found, right)


def test_predictions_without_spread_may_count_as_no_likeness():
    found = spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], constant=0.0)
    assert found.score().value == 0.0
    assert pearson([1.0, 2.0], [1.0, 2.0], constant=0.0).score().value == pytest.approx(1)
    with pytest.raises(DataError, match=r"^all references are 3; a correlation needs two"):
        pearson([1.0, 2.0], [3.0, 3.0], constant=0.0)


def test_squared_error_is_the_mean_and_lower_is_better():
    found = squared_error([1.0, 2.0, 4.0], [1.0, 4.0, 3.0])
    assert found.score().value == pytest.approx(5 / 3)
    assert not found.higher_is_better
    with pytest.raises(DataError, match="there are 1 predictions and 2 references"):
        squared_error([1.0], [1.0, 2.0])
