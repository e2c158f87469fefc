"""Choose the backend of a kind of call, with the reasons, once.

Leaves to others: what a backend can do (each says so itself), running (`run`).
"""

import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regard.backends.cpu
import regard.backends.flex
import regard.backends.linear
import regard.backends.sdpa
import regard.backends.tiled
import regard.backends.triton
import regard.ops.reference_backend  # registered last: the slow meaning
from regard.backends.base import Backend, Request, registered
from regard.errors import InputError, UnsupportedError, nearest
from regard.ops.warn_of_masks import warn_of_masks


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


# What "auto" chooses from, best first, separated by commas; all backends unless set.
ORDER_VARIABLE = "REGARD_BACKENDS"
# Who comes first in calls of fewer products of a pair and a channel than this: what a kernel costs,
# its build and more Python around it, torch's own kernels never pay back, and tiles not soon.
_FIRST_IN_SMALL = ((1 << 22, ("sdpa", "tiled")), (1 << 24, ("sdpa",)))
# In a step of decoding less work repays a kernel, which reads keys once for all heads that share
# them: with a few query rows, from 512 keys on and without gradients (measured on two cores). Rows
# in half precision torch reads as fast.
_FIRST_IN_SMALL_STEPS = ((1 << 20, ("sdpa", "tiled")),)
_FEW_ROWS, _MANY_KEYS = 4, 512
# Training repeats a call thousands of times: a kernel pays back its build unless there is next to
# nothing to do, and takes a quarter to a half of the time of tiles. But rows this short torch's
# kernels run forward and backward in half to nine tenths of the time of ours (measured with 32 and
# 64 channels; only a bias beside padding already loses a fifth at the end of that range).
_FIRST_IN_SMALL_TRAINING = ((1 << 18, ("sdpa", "tiled")), (1 << 24, ("sdpa",)))
_SHORT_ROW = 128
# With fewer pairs for each row of either side, states cost more than the pairs (measured on two
# AVX2 cores with 64 channels: 512 queries and 512 keys).
_FEWEST_PAIRS_A_ROW = 256
# Who comes behind the others: FlexAttention unless it was measured to be faster (`route`).
_LATE = {"flex": 1, "tiled": 2, "reference": 2}


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
    for name in _order(request, known) if backend == "auto" else [backend]:
        reason = known[name].supports(request)
        candidates += [] if reason else [name]
        reasons += [(name, reason)] if reason else []
    if not candidates:
        raise UnsupportedError(
            "; ".join(f"backend '{name}' cannot run this program: {why}" for name, why in reasons)
        )
    warn_of_masks(request)
    if candidates[0] == "tiled":
        _warn_without_compiler(dict(reasons).get("cpu", ""))
    return Plan(request, tuple(candidates), tuple(reasons))


def _order(request: Request, known: dict[str, Backend]) -> list[str]:
    """Return the names of the backends "auto" tries, best first."""
    chosen = os.environ.get(ORDER_VARIABLE)
    if chosen:
        names = [name.strip() for name in chosen.split(",")]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"{ORDER_VARIABLE} names '{unknown[0]}', which is no backend; "
                f"{nearest(unknown[0], known)}"
            )
        return names
    first = _first(request)
    few = request.queries * request.keys < _FEWEST_PAIRS_A_ROW * (request.queries + request.keys)
    last = ("linear", "reference") if few else ()

    # Where states pay, everything else takes the square of their time.
    def rank(name: str) -> tuple[int, ...]:
        return name not in first, name in last, name != "linear", _LATE.get(name, 0)

    return sorted(known, key=rank)


def _first(request: Request) -> tuple[str, ...]:
    """Return the names of the backends that come before all others in a call of this size."""
    pairs = request.batch * request.heads * request.queries * request.keys
    work = pairs * (request.width + request.value_width)
    limits = _FIRST_IN_SMALL_STEPS if _is_step(request) else _FIRST_IN_SMALL
    others: tuple[str, ...] = ()
    if request.wanted and request.device == "cpu":
        limits = _FIRST_IN_SMALL_TRAINING
        short = max(request.queries, request.keys) <= _SHORT_ROW
        others = ("sdpa",) if short and request.dtype.itemsize >= 4 else ()
    return next((names for limit, names in limits if work < limit), others)


def _is_step(request: Request) -> bool:
    """Tell whether a call is a step of decoding."""
    few = request.queries <= _FEW_ROWS and request.keys >= _MANY_KEYS
    return few and not request.wanted and request.device == "cpu" and request.dtype.itemsize >= 4


def _warn_without_compiler(reason: str) -> None:
    """Say once that a compiler would make this faster, if that is why there is no kernel."""
    if reason and reason == regard.backends.cpu.find_compiler() and reason not in _warned:
        _warned.add(reason)
        warnings.warn(
            f"programs run on the portable backend, several times slower: {reason}", stacklevel=2
        )


_warned: set[str] = set()


@lru_cache(maxsize=512)
def compiled(request: Request, name: str) -> tuple[Backend, Any]:
    """Return a backend and its kernel for a kind of call, compiled once."""
    backend = registered()[name]
    return backend, backend.compile(request)
