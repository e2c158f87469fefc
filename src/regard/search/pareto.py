"""Ranking by several objectives at once: what nothing beats in everything comes first.

Before: (loss, seconds) of a: (1, 5), b: (2, 3), c: (2, 6), all to be small.
After: a and b have rank 0, c, which both beat, has rank 1. (Deb et al. 2002, NSGA-II.)
Leaves to others: what the objectives are.
"""

import math
from collections.abc import Sequence

from regard.errors import InputError

Point = Sequence[float]


def pareto_ranks(points: Sequence[Point]) -> list[int]:
    """Return the rank of each point: 0 of those that no other dominates, and so on without them.

    One point dominates another if it is nowhere larger and somewhere smaller.

    Args:
        points: One a candidate, each of the same objectives, all to be small; inf is allowed.

    Returns:
        The ranks.

    Raises:
        InputError: If points have different lengths, none at all, or hold NaN.
    """
    _check(points)
    ranks = [-1] * len(points)
    left = set(range(len(points)))
    rank = 0
    while left:
        front = {a for a in left if not any(_dominates(points[b], points[a]) for b in left)}
        for number in front:
            ranks[number] = rank
        left -= front
        rank += 1
    return ranks


def pareto_order(points: Sequence[Point]) -> list[int]:
    """Return numbers of points, best first: by rank, within a rank the least crowded first.

    Args:
        points: As for `pareto_ranks`.

    Returns:
        The numbers; points that are equal in rank and room stay in their order.
    """
    ranks = pareto_ranks(points)
    room = [0.0] * len(points)
    for rank in set(ranks):
        members = [number for number, one in enumerate(ranks) if one == rank]
        for number, space in zip(members, crowding([points[one] for one in members]), strict=True):
            room[number] = space
    return sorted(range(len(points)), key=lambda number: (ranks[number], -room[number]))


def crowding(front: Sequence[Point]) -> list[float]:
    """Return how much room each point of a front has: the sides of the box between its neighbours.

    Args:
        front: Points of one rank.

    Returns:
        One number a point; inf for those that are best in something.
    """
    room = [0.0] * len(front)
    for axis in range(len(front[0]) if front else 0):
        order = sorted(range(len(front)), key=lambda number: front[number][axis])
        least, most = front[order[0]][axis], front[order[-1]][axis]
        room[order[0]] = room[order[-1]] = math.inf
        if not 0 < most - least < math.inf:
            continue
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            room[here] += (front[after][axis] - front[before][axis]) / (most - least)
    return room


def _dominates(a: Point, b: Point) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def _check(points: Sequence[Point]) -> None:
    for number, point in enumerate(points):
        if len(point) != len(points[0]) or not len(point):
            raise InputError(
                f"points[{number}] has {len(point)} objectives and points[0] has "
                f"{len(points[0])}; give each the same, one at least"
            )
        if any(math.isnan(value) for value in point):
            raise InputError(
                f"points[{number}] holds NaN, which cannot be ranked; give inf for what failed"
            )
