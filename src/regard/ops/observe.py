"""What people observe: its names, which sums over the weights it takes, and what is made of them.

Leaves to others: those sums (the backends, by the names of `ir/observed`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.errors import InputError, nearest
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.observed import TERM_VALUES, parse

_KNOWN = (*TERM_VALUES, "weights", "mass", "distance", "variance", "received", "top:8", "map:64x64")
_MOST = 4096


class TopWeights(NamedTuple):
    """The largest weights of each query row, and where they are.

    Attributes:
        weights: (B, H, N, k), falling; 0 where a row sees fewer keys.
        keys: Key rows, int64 (B, H, N, k); of equal weights the lower first, -1 where there is
            none.
    """

    weights: Tensor
    keys: Tensor


@dataclass(frozen=True)
class Observation:
    """One thing observed.

    Attributes:
        raw: What backends are asked for.
        finish: Makes of those values, in order, what the user gets; None if it is the one value.
        map: The sizes of a map, or ().
    """

    raw: tuple[str, ...]
    finish: Callable[..., tuple[Tensor, ...]] | None = None
    map: tuple[int, ...] = ()

    def shape(self, batch: int, heads: int, queries: int, keys: int) -> tuple[int, ...]:
        """Return the shape of each tensor that the user gets."""
        if self.map:
            return (batch, heads, *self.map)
        first = parse(self.raw[0])
        sizes = {"b": batch, "h": heads, "i": queries, "j": keys, "c": first.size, "k": first.size}
        return tuple(sizes[axis] for axis in first.axes)


@lru_cache(maxsize=1024)
def observations(root: n.Output, observe: tuple[str, ...]) -> dict[str, Observation]:
    """Return what each observed name takes.

    Args:
        root: The program.
        observe: Names such as "lse", "entropy:a", "mass:kind:4", "top:8", as the user gave them.

    Returns:
        Observations by given name.

    Raises:
        InputError: If a name is unknown, or means several terms.
    """
    return {name: _observation(root, name) for name in observe}


def raw_names(found: dict[str, Observation]) -> tuple[str, ...]:
    """Return what backends are asked for, each name once."""
    return tuple(dict.fromkeys(name for one in found.values() for name in one.raw))


def finish(
    found: dict[str, Observation], values: dict[str, Tensor], bound: Bound
) -> dict[str, tuple[Tensor, ...]]:
    """Make what the user gets of what a backend returned.

    Args:
        found: Observations by given name.
        values: What a backend returned, by raw name.
        bound: The call.

    Returns:
        Tensors by given name; two for the largest weights.
    """
    return {
        given: _values(one, [values[name] for name in one.raw], bound)
        for given, one in found.items()
    }


def value_count(name: str) -> int:
    """Return how many tensors the user gets for a name: weights have keys."""
    return 2 if name.startswith("top:") else 1


def packed(values: tuple[Tensor, ...]) -> Any:
    """Return what the user gets for one name: a tensor, or the largest weights."""
    return values[0] if len(values) == 1 else TopWeights(*values)


def changed(change: Callable[..., Tensor], *values: Any) -> Any:
    """Return what a function makes of the tensors of one name, for one call or several.

    Args:
        change: Takes a tensor of each call.
        *values: What the user got for the name in each call.

    Returns:
        The same kind of value.
    """
    if isinstance(values[0], TopWeights):
        return TopWeights(*(change(*parts) for parts in zip(*values, strict=True)))
    return change(*values)


def observed_inputs(observe: Sequence[str]) -> set[str]:
    """Return the names of the features that what is observed reads."""
    return {name.split(":")[1] for name in observe if name.startswith("mass:")}


def _values(one: Observation, raw: list[Tensor], bound: Bound) -> tuple[Tensor, ...]:
    return tuple(raw) if one.finish is None else one.finish(bound, *raw)


def _observation(root: n.Output, name: str) -> Observation:
    what, _, rest = name.partition(":")
    if what in TERM_VALUES:
        return Observation((f"{what}:{_term(root, name, what, rest)}",))
    if what == "mass" and rest:
        return _mass(name, rest)
    if what == "top":
        size = _size(name, rest, "a number of keys", "top:8")
        return Observation((f"top:{size}", f"keys:{size}"))
    if what == "map":
        return _map(name, rest)
    simple = {
        "weights": Observation(("weights",)),
        "mass": Observation(("mass",)),
        "received": Observation(("received",)),
        "distance": Observation(("mass", "moment:1"), _mean),
        "variance": Observation(("mass", "moment:2", "moment:1"), _mean),
    }
    if name not in simple:
        raise InputError(f"'{name}' cannot be observed; {nearest(name, (*_KNOWN, 'mass:FEATURE'))}")
    return simple[name]


def _term(root: n.Output, name: str, what: str, given: str) -> str:
    """Return the term that a value of terms is of."""
    kinds = {"entropy": (n.Softmax, n.Entmax, n.Ratio)}.get(what, (n.Softmax,))
    word = "softmax, entmax or ratio" if what == "entropy" else "softmax"
    nodes = [node for node in n.walk(root.weights) if isinstance(node, kinds)]
    if what == "sink":
        nodes = [node for node in nodes if isinstance(node, n.Softmax) and node.sink is not None]
        word = "softmax with a sink"
    terms = [node.name for node in nodes if isinstance(node, n.Term)]
    if not terms:
        raise InputError(f"'{name}' belongs to a {word}; the program has none")
    if given and given not in terms:
        raise InputError(
            f"'{name}': no {word} of the program is named '{given}'; {nearest(given, terms)}"
        )
    if not given and len(terms) > 1:
        raise InputError(
            f"'{name}' could mean {' or '.join(f'{what}:{t}' for t in terms)}; name one"
        )
    return given or terms[0]


def _mass(name: str, rest: str) -> Observation:
    feature, _, classes = rest.partition(":")
    if not feature.isidentifier():
        raise InputError(f"'{name}' names no feature of keys; write mass:kind, or mass:kind:4")
    if not classes:
        return Observation((f"mass:number:{feature}",))
    size = _size(name, classes, "a number of classes", f"mass:{feature}:4")
    return Observation((f"classes:{size}:{feature}",))


def _map(name: str, rest: str) -> Observation:
    found = re.fullmatch(r"(\d+)x(\d+)", rest)
    sizes = [int(text) for text in found.groups()] if found else []
    if not sizes or not all(1 <= size <= _MOST for size in sizes):
        raise InputError(f"'{name}' needs two sizes from 1 to {_MOST}, as in map:64x64")
    rows, columns = sizes

    def pool(bound: Bound, masses: Tensor) -> tuple[Tensor, ...]:
        return (_pooled(masses, rows, bound),)

    return Observation((f"classes:{columns}:bins:{columns}",), pool, map=(rows, columns))


def _size(name: str, text: str, what: str, example: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= _MOST:
        raise InputError(f"'{name}' needs {what} from 1 to {_MOST}, as in {example}")
    return int(text)


def _mean(bound: Bound, mass: Tensor, moment: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
    empty = mass == 0
    return (torch.where(empty, 0.0, moment / torch.where(empty, 1.0, mass)),)


def _pooled(masses: Tensor, count: int, bound: Bound) -> Tensor:
    """Return the mean over the query rows of each of `count` equal parts, (B, H, count, C)."""
    queries = bound.queries
    bins = bin_of(queries, count, masses.device)
    total = masses.new_zeros(*masses.shape[:2], count, masses.shape[-1])
    total = total.index_add(2, bins, masses)
    exists = torch.ones(1, queries, device=masses.device, dtype=masses.dtype)
    if bound.query_lengths is not None:
        rows = torch.arange(queries, device=masses.device)
        exists = (rows < bound.query_lengths[:, None]).to(masses.dtype)
    rows_in = exists.new_zeros(exists.shape[0], count).index_add(1, bins, exists)
    return total / rows_in.clamp_min(1)[:, None, :, None]


def bin_of(rows: int, count: int, device: torch.device) -> Tensor:
    """Return in which of `count` equal parts each of so many rows is, int64 (rows,)."""
    return torch.arange(rows, device=device) * count // max(1, rows)
