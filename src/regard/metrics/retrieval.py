"""Retrieval: mean reciprocal rank and recall among the first k, ties settled against the system."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from regard.errors import DataError
from regard.metrics.check import as_numbers, check_paired
from regard.metrics.measure import Tally, mean_of


def ranks_of(scores: Any, relevant: Collection[int]) -> np.ndarray:
    """Return where a query's relevant candidates stand, from 1.

    A candidate that is not relevant stands before a relevant one of the same score: a system that
    gives all candidates one score has found nothing.

    Args:
        scores: (C,): one for each candidate, the highest first.
        relevant: Places of the relevant ones in `scores`, at least one.

    Returns:
        int (number of relevant ones,), ascending.

    Raises:
        DataError: If a score is NaN or infinite, or no place is in range.
    """
    given, places = as_numbers(scores, "score"), sorted(set(relevant))
    if not places:
        raise DataError("no candidate is relevant; a query needs one that is")
    if places[0] < 0 or places[-1] >= len(given):
        wrong = places[0] if places[0] < 0 else places[-1]
        raise DataError(
            f"candidate {wrong} is relevant, but there are {len(given)}, counted from 0"
        )
    wanted = np.zeros(len(given), bool)
    wanted[places] = True
    best, others = np.sort(given[wanted])[::-1], np.sort(given[~wanted])
    before = len(others) - np.searchsorted(others, best, side="left")
    return before + np.arange(1, len(best) + 1)


def reciprocal_rank(scores: Sequence[Any], relevant: Sequence[Collection[int]]) -> Tally:
    """Return the mean of one over the rank of the first relevant candidate (MRR).

    Args:
        scores: For each query, (C,) scores of its candidates; C may differ.
        relevant: For each query, the places of its relevant candidates.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or a score is NaN.
    """
    return rank_tally("MRR", _all_ranks(scores, relevant))


def recall_at(k: int, scores: Sequence[Any], relevant: Sequence[Collection[int]]) -> Tally:
    """Return the mean share of relevant candidates that stand among the first k.

    Args:
        k: How many are looked at.
        scores: For each query, (C,) scores of its candidates; C may differ.
        relevant: For each query, the places of its relevant candidates.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, a score is NaN, or k is below 1.
    """
    return rank_tally(f"recall@{k}", _all_ranks(scores, relevant), k)


def rank_tally(name: str, ranks: Sequence[Any], k: int | None = None) -> Tally:
    """Return a metric of ranks that are already known.

    Args:
        name: Of the metric.
        ranks: For each query, the ranks of its relevant candidates, from 1.
        k: How many are looked at; None takes one over the first rank instead.

    Returns:
        The metric.

    Raises:
        DataError: If there is no query, one has no rank, or a number is below 1.
    """
    if not len(ranks):
        raise DataError("there are no queries to score; at least one is needed")
    if k is not None and k < 1:
        raise DataError(f"k is {k}; recall is among the first 1 or more")
    checked = [as_numbers(one, f"of query {n}, rank", 1.0) for n, one in enumerate(ranks, 1)]
    for number, one in enumerate(checked, 1):
        if not len(one):
            raise DataError(f"query {number} has no rank; it needs a relevant candidate")
    values = [1 / one.min() if k is None else (one <= k).mean() for one in checked]
    return mean_of(name, np.array(values))


def _all_ranks(scores: Sequence[Any], relevant: Sequence[Collection[int]]) -> list[np.ndarray]:
    check_paired(scores, relevant, "scored queries")
    found = []
    for number, (given, wanted) in enumerate(zip(scores, relevant, strict=True), 1):
        try:
            found.append(ranks_of(given, wanted))
        except DataError as problem:
            raise DataError(f"query {number}: {problem}") from None
    return found
