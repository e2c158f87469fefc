"""What can be wrong with labels: written in two ways, unknown, or seen once.

Leaves to others: which labels a record has (`kinds`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise

from regard.data.normalise import normal_form

# So much more frequent is a label than its misspelling; shorter ones may differ by one letter.
_FREQUENT, _SHORTEST = 5, 4


def find_typos(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield labels that look like misspellings of others.

    Args:
        counts: How often each label occurs.

    Yields:
        The label and the one that is probably meant: one edit away and much more frequent, or the
        same in another case and at least as frequent.
    """
    # Of equals, the first in the order of the alphabet is taken to be right.
    order = sorted(counts, key=lambda label: (-counts[label], label))
    for place, rare in enumerate(order):
        for frequent in order[:place]:
            alike = normal_form(rare) == normal_form(frequent)
            often = counts[frequent] >= _FREQUENT * counts[rare]
            if alike or (often and _is_misspelled(rare, frequent)):
                yield rare, frequent
                break


def _is_misspelled(rare: str, frequent: str) -> bool:
    if min(len(rare), len(frequent)) < _SHORTEST:
        return False
    # class_1 and class_2 differ on purpose.
    same = _without_digits(rare) == _without_digits(frequent)
    return not same and is_one_edit(rare, frequent)


def _without_digits(label: str) -> str:
    return "".join(letter for letter in label if not letter.isdigit())


def is_one_edit(one: str, other: str) -> bool:
    """Return whether one letter was added, lost, replaced or swapped with the next.

    Args:
        one: A word.
        other: Another.

    Returns:
        Whether a single such edit leads from one to the other.
    """
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    start = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return True
    a, b = one[start:], other[start:]
    if len(a) != len(b):
        longer, shorter = (a, b) if len(a) > len(b) else (b, a)
        return longer[1:] == shorter
    return a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def spans_of(tags: tuple[str, ...]) -> Counter[str]:
    """Return how often each kind of span occurs.

    Args:
        tags: O, B-x or I-x, one for each token.

    Returns:
        Counts of x.
    """
    begins = [tag for before, tag in pairwise(("O", *tags)) if tag != "O" and _begins(before, tag)]
    return Counter(tag[2:] for tag in begins)


def _begins(before: str, tag: str) -> bool:
    return tag[:1] == "B" or before[2:] != tag[2:]
