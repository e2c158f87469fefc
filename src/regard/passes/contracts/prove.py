"""Prove contracts of a program, for calls of every size and all data.

Before: softmax(q·k, where = j <= i), and the contract "causal".
After: proved, because weights 'a' see pairs with j <= i alone and nothing else reads keys.
A proof never errs; a program may keep a contract without a proof being found. Leaves to others:
counterexamples (`ops/contracts`), and the words of contracts (`ir/contracts`).
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from regard.ir import nodes as n
from regard.ir.contracts import Contract
from regard.ir.types import axes_of, type_of
from regard.passes.build import call, substitute
from regard.passes.contracts.bound_terms import bound_terms
from regard.passes.contracts.conditions import Literal, can_hold
from regard.passes.contracts.integers import Linear, at_most, below, variable
from regard.passes.contracts.normal_form import NormalForms
from regard.passes.contracts.reads import (
    Read,
    find_reads,
    has_sink,
    negated,
    surely_seen,
    without_topk,
)

_I, _J, _KEYS = (n.Index(name) for name in ("i", "j", "keys"))
_POSITIONS = tuple(n.Index(name) for name in ("i", "j", "row_i", "row_j"))
_ZERO = Linear()
# Wider windows are none.
_WIDEST = 2**20


class Finding(NamedTuple):
    """What the program alone says of a contract.

    Attributes:
        proved: Whether it is kept, whatever the call.
        reason: Why, or why that could not be shown.
        contract: What was proved: the contract, with the least number if it had none.
    """

    proved: bool
    reason: str
    contract: Contract


@lru_cache(maxsize=4096)
def prove(root: n.Output, contract: Contract) -> Finding:
    """Try to prove a contract.

    Args:
        root: The program.
        contract: The contract; without a number the least is looked for.

    Returns:
        The finding.
    """
    if contract.name == "window" and contract.limit is None:
        width = _least_window(root)
        if width is None:
            return Finding(False, "no width was found that nothing reads beyond", contract)
        contract = Contract("window", width)
    if contract.name == "bounded":
        return _bounded(root, contract)
    proved, reason = _RULES[contract.name](root, contract)
    return Finding(proved, reason, contract)


# ── Regions: causal, window, padding-blind ───────────────────────────────────────────────────
class _Outside(NamedTuple):
    """One way to lie outside a region."""

    constraints: tuple[Linear, ...] = ()
    literals: tuple[Literal, ...] = ()


def _outside(contract: Contract) -> list[_Outside]:
    i, j = variable(_I), variable(_J)
    # Queries stand at positions from 0 on; keys may stand before them, as memory does.
    start = at_most(_ZERO, i)
    match contract.name:
        case "causal":
            return [_Outside((start, below(i, j)))]
        case "window":
            width = Linear(constant=int(contract.limit or 0))
            return [
                _Outside((start, below(j.plus(width), i))),
                _Outside((start, below(i.plus(width), j))),
            ]
    return [_Outside((start,), ((n.Feature("key", contract.feature), False),))]


def _region(root: n.Output, contract: Contract) -> tuple[bool, str]:
    """Show that nothing reads a key outside a region."""
    if contract.name == "padding-blind" and not contract.feature:
        return True, "rows beyond key_lengths are as if absent: no program can read or count them"
    reads = find_reads(root)
    outside = _outside(contract)
    for read in reads:
        if any(_reaches(read, way) for way in outside):
            return False, f"{read.reader} may read keys that the contract forbids"
    readers = ", ".join(dict.fromkeys(read.reader for read in reads))
    return True, f"no pair that the contract forbids is read by {readers}"


def _reaches(read: Read, way: _Outside) -> bool:
    return can_hold(((read.condition, True), *way.literals), way.constraints)


def _least_window(root: n.Output) -> int | None:
    def holds(width: int) -> bool:
        return _region(root, Contract("window", width))[0]

    if not holds(_WIDEST):
        return None
    low, high = -1, _WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# ── What a program does not read ─────────────────────────────────────────────────────────────
def _no_batch(root: n.Output, _: Contract) -> tuple[bool, str]:
    if n.Index("batch") in n.walk(root):
        return False, "pair.batch is read"
    return True, "no program can read another batch row, and this one does not read pair.batch"


def _no_head(root: n.Output, _: Contract) -> tuple[bool, str]:
    for node in n.walk(root):
        if node is n.Index("head"):
            return False, "pair.head is read"
        if isinstance(node, n.Array) and "head" in node.per:
            return False, f"{node.source} '{node.name}' has numbers for each head"
    return True, "neither pair.head nor an array with numbers for each head is read"


def _no_order(root: n.Output, _: Contract) -> tuple[bool, str]:
    for node in n.walk(root):
        if node in _POSITIONS:
            return False, f"pair.{node.fields()[0]} is read"
        if isinstance(node, n.TopK):
            return False, "of equal scores rg.topk takes those of the lower j"
        if isinstance(node, n.Running):
            return False, "rg.running_sum adds up keys in their order"
    return True, "no position is read"


def _shift(root: n.Output, _: Contract) -> tuple[bool, str]:
    forms = NormalForms()
    if forms.key(root) == forms.key(root, raised=True):
        return True, "positions are read as differences alone"
    return False, "a position is read in other ways than as a difference of two"


# ── Bounds of scores ─────────────────────────────────────────────────────────────────────────
def _bounded(root: n.Output, contract: Contract) -> Finding:
    found = bound_terms(root)
    largest = max(max(-lo, hi) for lo, hi in found.values())
    listed = ", ".join(f"{name} in {lo:.6g} … {hi:.6g}" for name, (lo, hi) in found.items())
    if math.isinf(largest):
        return Finding(False, f"nothing bounds the scores: {listed}", contract)
    if contract.limit is None:
        contract = Contract("bounded", largest)
    proved = largest <= (contract.limit or 0)
    return Finding(proved, f"by the bounds of each operator: {listed}", contract)


# ── Rows that see something ──────────────────────────────────────────────────────────────────
def _never_empty(root: n.Output, _: Contract) -> tuple[bool, str]:
    if has_sink(root.weights):
        return True, "a sink takes the mass of a row that sees no key"
    if always_sees(surely_seen(without_topk(root.weights))):
        return True, "of the keys at 0, i - 1, i, i + 1 and the last one is always seen"
    return False, "no key was found that every query sees"


def always_sees(condition: n.Node, beyond: bool = False) -> bool:
    """Tell whether every query that stands where a key stands finds a key with a condition.

    Keys stand at 0 … keys - 1, and queries at any of these; there are no more queries than keys.

    Args:
        condition: A condition of pairs.
        beyond: Whether queries stand anywhere from 0 on, and there may be more of them than keys,
            as in cross attention.

    Returns:
        True only if it is certain, whatever the data is.
    """
    literals = [
        (negated(_at(condition, key, number)), True)
        for number, key in enumerate(_witnesses(beyond))
    ]
    i, keys, queries = (variable(node) for node in (_I, _KEYS, n.Index("queries")))
    calls = at_most(_ZERO, i), below(_ZERO, keys)
    if not beyond:
        calls = at_most(_ZERO, i), below(i, keys), at_most(queries, keys)
    return not can_hold(literals, calls)


def _witnesses(beyond: bool) -> Iterator[tuple[n.Node, n.Node]]:
    """Yield keys that a row may see, and where they exist."""
    always = n.Const(True)
    yield _I, call("lt", _I, _KEYS) if beyond else always
    yield n.Const(0), always
    yield call("sub", _KEYS, 1), always
    before = call("ge", _I, 1)
    yield call("sub", _I, 1), call("and", before, call("le", _I, _KEYS)) if beyond else before
    yield call("add", _I, 1), call("lt", call("add", _I, 1), _KEYS)


def _at(condition: n.Node, key: tuple[n.Node, n.Node], number: int) -> n.Node:
    """Return the condition at one key; what its row holds is unknown, and not that of others."""
    position, exists = key
    new: dict[n.Node, n.Node] = {_J: position}
    for place, node in enumerate(n.walk(condition)):
        if node is not _J and "j" in axes_of(node) and _is_data(node):
            new[node] = n.Hole(f"{place} at {number}", axes_of(node), type_of(node).kind)
    return call("and", exists, substitute(condition, new))


def _is_data(node: n.Node) -> bool:
    return isinstance(node, n.TopK | n.Running | n.Keep) or not list(n.children(node))


_RULES = {
    "causal": _region,
    "window": _region,
    "padding-blind": _region,
    "batch-independent": _no_batch,
    "head-independent": _no_head,
    "shift-invariant": _shift,
    "permutation-equivariant": _no_order,
    "never empty": _never_empty,
}
