"""The state of one tracing: how many terms and random draws the program has so far.

Leaves to others: the values that are traced (`trace`).
"""

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from regard.lang.trace import fail


@dataclass
class Tracing:
    """Counts what must be numbered in the order of writing."""

    terms: list[str] = field(default_factory=list)
    places: int = 0


_current: contextvars.ContextVar[Tracing | None] = contextvars.ContextVar("tracing", default=None)


@contextmanager
def tracing() -> Iterator[Tracing]:
    """Number terms and draws from the start, until the block ends."""
    state = Tracing()
    token = _current.set(state)
    try:
        yield state
    finally:
        _current.reset(token)


def _state() -> Tracing:
    state = _current.get()
    if state is None:
        fail("this belongs inside a program: a function of one argument under @rg.program")
    return state


def term_name(name: str | None) -> str:
    """Return the name of the next weight term: the given one, or "a", "b", …

    Args:
        name: What the user chose, or None.

    Returns:
        A name no other term of the program has.
    """
    terms = _state().terms
    if name is not None and (not isinstance(name, str) or not name.isidentifier()):
        fail(f"{name!r} cannot name weights; use letters, digits and _")
    chosen = name or next(letter for letter in _letters() if letter not in terms)
    if chosen in terms:
        fail(f"two terms of weights are named '{chosen}'")
    terms.append(chosen)
    return chosen


def _letters() -> Iterator[str]:
    yield from "abcdefghijklmnopqrstuvwxyz"
    number = 27
    while True:
        yield f"term{number}"
        number += 1


def next_place() -> int:
    """Return the number of the next random draw in the program."""
    state = _state()
    state.places += 1
    return state.places - 1
