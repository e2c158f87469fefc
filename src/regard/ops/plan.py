"""Choose the backend of a kind of call, with the reasons, once.

Leaves to others: what a backend can do (each says so itself), running (`run`).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regard.backends.sdpa
import regard.backends.tiled
import regard.ops.reference_backend  # noqa: F401  (registered last: the slow meaning)
from regard.backends.base import Backend, Request, registered
from regard.errors import InputError, UnsupportedError, nearest


@dataclass(frozen=True)
class Plan:
    """The chosen backends of a kind of call.

    Attributes:
        request: The kind of call.
        candidates: Names of the backends that can run it, best first.
        reasons: Why the others cannot, by name.
    """

    request: Request
    candidates: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]


@lru_cache(maxsize=1024)
def make_plan(request: Request, backend: str) -> Plan:
    """Choose backends.

    Args:
        request: The kind of call.
        backend: "auto", or the name of the one to use.

    Returns:
        The plan; the same object for the same request.

    Raises:
        InputError: If there is no backend of that name.
        UnsupportedError: If none, or not the named one, can run the program.
    """
    known = registered()
    if backend != "auto" and backend not in known:
        raise InputError(
            f"there is no backend '{backend}'; {nearest(str(backend), ['auto', *known])}"
        )
    candidates, reasons = [], []
    for name, one in known.items():
        if backend not in ("auto", name):
            continue
        reason = one.supports(request)
        candidates += [] if reason else [name]
        reasons += [(name, reason)] if reason else []
    if not candidates:
        raise UnsupportedError(
            "; ".join(f"backend '{name}' cannot run this program: {why}" for name, why in reasons)
        )
    return Plan(request, tuple(candidates), tuple(reasons))


@lru_cache(maxsize=512)
def compiled(request: Request, name: str) -> tuple[Backend, Any]:
    """Return a backend and its kernel for a kind of call, compiled once."""
    backend = registered()[name]
    return backend, backend.compile(request)
