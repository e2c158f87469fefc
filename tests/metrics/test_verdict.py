"""Verdicts: exact where it can be worked out, silent where there is nothing, and not too eager."""

import itertools

import numpy as np
import pytest
from scipy import stats

from regard.errors import DataError, InputError
from regard.metrics import Statistic, compare, correct, holm, macro_f1, perplexity
from regard.metrics.measure import mean_of
from regard.metrics.verdict import permutation_p


def means(*systems):
    return [mean_of("mean", np.array(values, dtype=float)) for values in systems]


def test_permutation_of_few_examples_is_exact():
    one, other = [3.0, 1.0, 4.0, 1.0, 5.0, 2.0], [4.0, 1.5, 4.5, 0.5, 7.0, 4.0]
    gains = np.subtract(other, one)
    signs = np.array(list(itertools.product([1, -1], repeat=6)))
    right = (abs(signs @ gains) >= abs(gains.sum()) - 1e-9).mean()
    assert permutation_p(*means(one, other), 100, 0) == right


def test_permutation_of_many_examples_is_that_of_scipy():
    random = np.random.default_rng(0)
    one = random.normal(size=80)
    other = one + random.normal(0.2, 1, 80)
    right = stats.permutation_test(
        (other, one), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=9999,
        rng=np.random.default_rng(1),
    ).pvalue  # fmt: skip
    assert permutation_p(*means(one, other), 10_000, 0) == pytest.approx(right, abs=0.02)


def test_better_and_worse_follow_the_metrics_direction():
    random = np.random.default_rng(0)
    low = random.uniform(1, 2, 100)
    high = low + random.uniform(0, 0.2, 100)
    assert compare(*means(low, high)).answer == "better"
    assert compare(*means(high, low)).answer == "worse"
    tokens = np.ones(100)
    verdict = compare(perplexity(low, tokens), perplexity(high, tokens))
    assert verdict.answer == "worse" and verdict.difference > 0
    assert str(verdict).startswith(f"perplexity: worse (+{verdict.difference:.4g}, 95%: ")


def test_interval_of_the_difference_is_paired():
    random = np.random.default_rng(0)
    one = random.normal(0, 10, 200)
    other = one + random.normal(0.5, 1, 200)
    verdict = compare(*means(one, other))
    reach = 1.96 * (other - one).std() / 200**0.5
    assert verdict.interval.high - verdict.interval.low == pytest.approx(2 * reach, rel=0.1)
    assert verdict.answer == "better"


@pytest.mark.parametrize("values", [[1.0], [0.0, 1.0, 1.0], list(range(50))])
def test_a_system_is_no_better_than_itself(values):
    verdict = compare(*means(values, values))
    assert (verdict.answer, verdict.difference, verdict.p) == ("no difference shown", 0, 1)


def test_few_examples_show_no_difference_however_large():
    verdict = compare(*means([0.0] * 3, [1.0] * 3))
    assert (verdict.interval.low, verdict.p, verdict.answer) == (1, 1 / 4, "no difference shown")


def test_alike_systems_are_told_apart_as_rarely_as_promised():
    random, shown = np.random.default_rng(2), 0
    for seed in range(200):
        drawn = random.random((2, 60)) < 0.7
        verdict = compare(*means(*drawn), resamples=200, permutations=400, seed=seed)
        shown += verdict.answer != "no difference shown"
    assert shown <= 18


def test_swapped_examples_of_a_ratio_of_sums_are_recounted():
    right = list("aabbcc") * 2
    one, other = list("aabbaa") * 2, list("aabbcc") * 2
    fast = [macro_f1(found, right, labels=["a", "b", "c"]) for found in (one, other)]

    def by_hand(rows):
        classes = {label for row in rows for label in row}
        both = [
            (sum(a == b == c for a, b in rows), sum((a == c) + (b == c) for a, b in rows))
            for c in classes
        ]
        return sum(2 * hits / all_ for hits, all_ in both) / len(classes)

    slow = [
        Statistic("macro F1", list(zip(found, right, strict=True)), by_hand)
        for found in (one, other)
    ]
    assert compare(*fast, resamples=200) == compare(*slow, resamples=200)


def test_holm_corrects_as_worked_out():
    # 4 · 0.005, 3 · 0.01, 2 · 0.03, then never less than before, and never above 1.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


def test_correction_may_take_a_verdict_back():
    gains = np.random.default_rng(5).normal(size=60)
    gains = (gains - gains.mean()) / gains.std() + 0.3
    verdict = compare(*means(np.zeros(60), gains))
    assert verdict.answer == "better" and 0.01 < verdict.p < 0.05
    many = correct([verdict] * 10)
    assert {one.answer for one in many} == {"no difference shown"}
    assert many[0].corrected_p == pytest.approx(10 * verdict.p) and many[0].p == verdict.p


def test_what_cannot_be_compared_is_refused():
    one, other = means([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match=r"^the baseline has 2 examples and the system 3; a paired"):
        compare(one, other)
    with pytest.raises(
        DataError, match=r"^'perplexity' cannot be compared with 'mean'; compare one"
    ):
        compare(one, perplexity([1, 2], [1, 1]))
    with pytest.raises(InputError, match=r"^permutations is 3; fewer than 100 show no difference$"):
        compare(one, one, permutations=3)
