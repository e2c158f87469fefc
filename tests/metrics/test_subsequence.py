"""Common subsequences, beside the table that everybody writes."""

import random

from regard.metrics.subsequence import common_length, common_places


def table(first, second):
    rows = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            longest = max(rows[i - 1][j], rows[i][j - 1])
            rows[i][j] = rows[i - 1][j - 1] + 1 if one == other else longest
    return rows


def test_length_is_the_tables_and_the_places_are_common():
    chosen = random.Random(1)
    for _ in range(200):
        first, second = (chosen.choices("abcd", k=chosen.randint(0, 90)) for _ in range(2))
        length = table(first, second)[-1][-1]
        assert common_length(first, second) == length
        places = common_places(first, second)
        assert len(places) == length and places == sorted(set(places))
        left = iter(second)
        assert all(first[place] in left for place in places)
