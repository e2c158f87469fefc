"""Tell the user, once, of a mask that cannot be meant.

Leaves to others: what is wrong with it (`backends/values/useless`).
"""

import warnings
from collections.abc import Iterator
from weakref import WeakSet

from regard.backends.base import Request
from regard.backends.values.useless import why_hidden, why_hidden_by_data, why_useless
from regard.ir import nodes as n
from regard.ir.bound import Bound


def warn_of_masks(request: Request) -> None:
    """Say once of a program that a mask of its does nothing, or leaves nothing, with any data.

    Args:
        request: The kind of call.
    """
    for term, where in _masked(request.written):
        if term in _looked_at:
            continue
        why = why_useless(where, request.heads)
        if why is None and request.plain_positions:
            why = why_hidden(where, request.heads, request.queries, request.keys)
        if why is not None:
            _warn(term, why)
        elif request.plain_positions:
            _looked_at.add(term)


def warn_of_data(request: Request, bound: Bound) -> None:
    """Say once of a program that the data of a call let a mask of its leave nothing.

    Args:
        request: The kind of call.
        bound: The call, the first of its kind.
    """
    if request.device != "cpu":
        return
    for term, where in _masked(request.written):
        why = None if term in _told else why_hidden_by_data(where, bound)
        if why is not None:
            _warn(term, why)


def _masked(root: n.Output) -> Iterator[tuple[n.Term, n.Node]]:
    for term in n.walk(root):
        if isinstance(term, n.Term) and term.where is not None:
            yield term, term.where


def _warn(term: n.Term, why: str) -> None:
    warnings.warn(f"the mask of '{term.name}' {why}", stacklevel=3)
    _looked_at.add(term)
    _told.add(term)


# Masks that nothing is wrong with whatever the data, and those that something was said of.
_looked_at: WeakSet[n.Node] = WeakSet()
_told: WeakSet[n.Node] = WeakSet()
