"""Which rows train and which are held out: alike rows on one side, chosen by a seed, in strata.

Leaves to others: which rows are alike, and what they are labelled.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from regard.errors import DataError

Item = TypeVar("Item")


class Splits(NamedTuple, Generic[Item]):
    """Rows for training, for watching the training, and for the result.

    Attributes:
        train: For training.
        valid: Scored during training.
        test: Scored once, at the end.
    """

    train: list[Item]
    valid: list[Item]
    test: list[Item]


@dataclass(frozen=True)
class HeldOut:
    """How much of the training rows is held out.

    Attributes:
        test: How many rows, or the fraction of all.
        valid: Likewise.
        seed: Another seed is another choice.
        stratify: Whether each label is held out in its share.
        names: The settings that say how many, for messages.
    """

    test: int | float = 0.1
    valid: int | float = 0.1
    seed: int = 0
    stratify: bool = False
    names: tuple[str, str] = ("data.split.test", "data.split.valid")


def split_rows(
    rows: Sequence[Item],
    held_out: HeldOut,
    key: Callable[[Item], str],
    stratum: Callable[[Item], str] | None = None,
) -> Splits[Item]:
    """Hold rows out, chosen by the seed and their key alone.

    The choice does not depend on the order of the rows, and changes little when rows are added.

    Args:
        rows: Any rows.
        held_out: How many.
        key: What rows share that must stay together.
        stratum: What each row counts as when the shares are made; None: all alike. Rows that are
            alone in theirs count as alike.

    Returns:
        The three parts: training rows in their order, held-out ones in the order of the choice.

    Raises:
        DataError: If less than half of the rows would be left for training.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    test, valid = (_count(x, len(rows)) for x in (held_out.test, held_out.valid))
    if not test + valid:
        return Splits(list(rows), [], [])
    if len(rows) < 2 * (test + valid) or len(groups) < 2:
        raise DataError(
            f"{len(rows)} rows with {len(groups)} different inputs are too few to hold out "
            f"{test + valid} and train on as many; lower {' or '.join(held_out.names)}"
        )
    order = sorted(groups, key=lambda name: _draw(name, held_out.seed))
    strata: dict[str, list[str]] = defaultdict(list)
    for name in order:
        strata["" if stratum is None else stratum(groups[name][0])].append(name)
    strata = _joined(strata, order)
    sizes = {name: sum(len(groups[one]) for one in names) for name, names in strata.items()}
    tests, valids = (_shares(number, sizes) for number in (test, valid))
    places: dict[str, str] = {}
    for label, names in strata.items():
        places.update(_deal(names, groups, tests[label], valids[label]))
    return Splits(
        [row for row in rows if places.get(key(row)) is None],
        [row for name in order if places.get(name) == "valid" for row in groups[name]],
        [row for name in order if places.get(name) == "test" for row in groups[name]],
    )


def _joined(strata: dict[str, list[str]], order: list[str]) -> dict[str, list[str]]:
    """Make one stratum of those that cannot be divided."""
    divided = {label: names for label, names in strata.items() if len(names) > 1}
    alone = {names[0] for names in strata.values() if len(names) == 1}
    return {**divided, "\n": [name for name in order if name in alone]} if alone else divided


def _count(share: int | float, rows: int) -> int:
    if isinstance(share, int):
        return share
    return max(1, round(share * rows)) if share else 0


def _draw(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode("utf-8", "surrogatepass")).hexdigest()


def _shares(number: int, sizes: dict[str, int]) -> dict[str, int]:
    """Divide a number in proportion to sizes, by the largest remainders."""
    whole = sum(sizes.values())
    shares = {name: number * size // whole for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(number * sizes[name] % whole), name))
    for name in by_remainder[: number - sum(shares.values())]:
        shares[name] += 1
    return shares


def _deal(names: list[str], groups: dict[str, list[Item]], test: int, valid: int) -> dict[str, str]:
    """Give groups to test, then to valid, until each has its number; the last one trains."""
    places, left = {}, {"test": test, "valid": valid}
    for name in names[:-1]:
        part = next((part for part, missing in left.items() if missing > 0), None)
        if part is None:
            break
        places[name] = part
        left[part] -= len(groups[name])
    return places
