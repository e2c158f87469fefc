"""Longest common subsequences by bits: one machine word compares 64 places.

Source: H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
Leaves to others: what the tokens are (`rouge`).
"""

from collections.abc import Sequence


def _rows(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """Return for each prefix of `first` a number whose 0 bits are where the length grows."""
    places: dict[str, int] = {}
    for place, token in enumerate(second):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(second)) - 1
    row, rows = everything, [everything]
    for token in first:
        met = row & places.get(token, 0)
        row = ((row + met) | (row - met)) & everything
        rows.append(row)
    return rows


def _length(row: int, width: int) -> int:
    """Return the length for the first `width` tokens of the second sequence."""
    return width - (row & (1 << width) - 1).bit_count()


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of a longest common subsequence.

    Args:
        first: Tokens.
        second: Tokens.

    Returns:
        The length.
    """
    return _length(_rows(first, second)[-1], len(second))


def common_places(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """Return where in `first` one longest common subsequence stands.

    Of several, it is the one read from the end: equal tokens are taken, else `second` is shortened
    only where that loses less than shortening `first`.

    Args:
        first: Tokens.
        second: Tokens.

    Returns:
        Ascending places.
    """
    rows = _rows(first, second)
    found, i, j = [], len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif _length(rows[i], j - 1) > _length(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return found[::-1]
