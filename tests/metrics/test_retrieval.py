import numpy as np
import pytest

from regard.errors import DataError
from regard.metrics import ranks_of, recall_at, reciprocal_rank
from regard.metrics.retrieval import rank_tally


@pytest.mark.parametrize(
    ("scores", "relevant", "right"),
    [
        ([0.1, 0.9, 0.5], [1], [1]),
        ([0.1, 0.9, 0.5], [0], [3]),
        # Ties are settled against the system.
        ([0.5, 0.5, 0.5], [0], [3]),
        ([0.9, 0.5, 0.5, 0.1], [1], [3]),
        # Two relevant ones of one score stand behind the others of that score.
        ([0.5, 0.5, 0.5, 0.9], [0, 2], [3, 4]),
        ([3, 2, 1], [0, 2], [1, 3]),
        ([1, 1], [0, 1], [1, 2]),
    ],
)
def test_ranks_are_as_worked_out(scores, relevant, right):
    assert ranks_of(scores, relevant).tolist() == right


def test_ranks_are_those_of_a_sort_with_the_relevant_last_among_equals():
    random = np.random.default_rng(0)
    for _ in range(50):
        scores = random.integers(0, 4, 12).astype(float)
        relevant = set(random.choice(12, 3, replace=False).tolist())
        order = sorted(range(12), key=lambda place: (-scores[place], place in relevant))
        right = [rank for rank, place in enumerate(order, 1) if place in relevant]
        assert ranks_of(scores, relevant).tolist() == right


def test_metrics_are_means_over_queries():
    scores, relevant = [[3, 2, 1], [1, 2, 3], [1, 1]], [[0, 2], [1], [0]]
    assert reciprocal_rank(scores, relevant).score().value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    found = [recall_at(k, scores, relevant).score() for k in (1, 2, 3)]
    assert [one.value for one in found] == pytest.approx([0.5 / 3, 2.5 / 3, 1])
    assert found[1].name == "recall@2"


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        ([[1.0, float("nan")]], [[0]], r"^query 1: score 2 is nan; finite numbers are needed$"),
        (
            [[1.0], [1.0]],
            [[0], []],
            r"^query 2: no candidate is relevant; a query needs one that is$",
        ),
        ([[1.0]], [[1]], r"^query 1: candidate 1 is relevant, but there are 1, counted from 0$"),
        ([[1.0]], [[-1]], r"^query 1: candidate -1 is relevant, but"),
        ([[1.0]], [], r"^there are 1 scored queries and 0 references; each needs the other$"),
    ],
)
def test_unusable_scores_are_refused(scores, relevant, message):
    with pytest.raises(DataError, match=message):
        reciprocal_rank(scores, relevant)


def test_unusable_ranks_are_refused():
    with pytest.raises(DataError, match=r"^there are no queries to score; at least one is needed$"):
        rank_tally("MRR", [])
    with pytest.raises(DataError, match=r"^query 2 has no rank; it needs a relevant candidate$"):
        rank_tally("MRR", [[1], []])
    with pytest.raises(DataError, match=r"^of query 1, rank 1 is 0; it cannot be below 1$"):
        rank_tally("MRR", [[0]])
    with pytest.raises(DataError, match=r"^k is 0; recall is among the first 1 or more$"):
        recall_at(0, [[1.0]], [[0]])
