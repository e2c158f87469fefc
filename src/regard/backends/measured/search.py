"""Find the fastest of a few candidates, from a first one to its neighbours, in bounded time.

Before: a first candidate, and what differs from one in one thing.
After: the time of each candidate that was tried; from the fastest so far the search goes on.
Leaves to others: candidates, timing (`timer`), keeping what was found (`figures`).
"""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

Candidate = TypeVar("Candidate")


def search(
    first: Candidate,
    near: Callable[[Candidate], Iterable[Candidate]],
    measure: Callable[[Candidate], float | None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[Candidate, float]:
    """Time candidates until none near the fastest is faster, or time is over.

    Args:
        first: Where to begin; it is always timed.
        near: The candidates next to one.
        measure: Returns what one takes, in milliseconds; None if it does not run.
        seconds: After this long no further candidate is begun.
        clock: Tells the time, in seconds.

    Returns:
        Milliseconds of each that ran, in the order in which they were tried.
    """
    until = clock() + seconds
    found: dict[Candidate, float] = {}
    tried = set()
    waiting = [first]
    while waiting:
        best = min(found, key=found.__getitem__, default=None)
        for candidate in waiting:
            if tried and clock() >= until:
                return found
            tried.add(candidate)
            taken = measure(candidate)
            if taken is not None:
                found[candidate] = taken
        now = min(found, key=found.__getitem__, default=None)
        if best is not None and now == best:
            break
        around = near(first if now is None else now)
        waiting = [one for one in dict.fromkeys(around) if one not in tried]
    return found
