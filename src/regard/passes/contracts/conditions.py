"""Whether a condition of a program can hold at all, for any positions, sizes and data.

Before: j <= i & i - j < 256 & real[j], and the fact j > i.
After: impossible, because j <= i and j > i are; what real[j] holds is never asked.
Whole numbers are reasoned about exactly (`integers`). Everything else is one unknown truth value,
the same wherever it is written: comparisons of floating-point numbers, which round and may be
NaN, data and draws. Leaves to others: which conditions matter (`reads`).
"""

import itertools
import math
import struct
from collections.abc import Hashable, Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from regard.ir import nodes as n
from regard.ir.types import type_of
from regard.passes.contracts.integers import Linear, at_most, below, impossible, variable

Literal = tuple[n.Node, bool]

# How many conditions are looked at, and how deep one choice follows another, before an answer is
# given up: a file may hold a condition that nobody wrote.
_MOST_CASES, _DEEPEST = 5000, 150
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
# Sizes are whole numbers from these on; positions may be any.
_LEAST = {"head": 0, "heads": 1, "batch": 0, "queries": 0, "keys": 0, "width": 1}
# Up to here a whole number compares with a constant in single precision as it does exactly.
_EXACT = 2.0**20


class _Case(NamedTuple):
    """One value that a whole number may have: `form`, if the literals and constraints hold."""

    form: Linear
    literals: tuple[Literal, ...] = ()
    constraints: tuple[Linear, ...] = ()


# Conditions and constraints that hold together.
_Branch = tuple[tuple[Literal, ...], tuple[Linear, ...]]


class _TooManyCases(Exception):
    pass


def can_hold(literals: Iterable[Literal], constraints: Iterable[Linear] = ()) -> bool:
    """Tell whether conditions may hold together.

    Args:
        literals: Conditions, and whether each holds or does not.
        constraints: Forms in the nodes of positions and sizes that are at most 0.

    Returns:
        False only if it is certain that they never do.
    """
    try:
        return _Search().possible(tuple(literals), tuple(constraints), {})
    except _TooManyCases:
        return True


class _Search:
    def __init__(self) -> None:
        self.cases = self.depth = 0

    def possible(
        self,
        pending: tuple[Literal, ...],
        constraints: tuple[Linear, ...],
        known: dict[Hashable, bool],
    ) -> bool:
        """Tell whether the pending conditions may hold beside constraints and known truths."""
        while pending:
            self.cases += 1
            if self.cases > _MOST_CASES:
                raise _TooManyCases
            (node, truth), *rest = pending
            pending = tuple(rest)
            branches = self._branches(node, truth)
            if branches is None:
                key, truth = _atom(node, truth)
                if known.get(key, truth) != truth:
                    return False
                known = {**known, key: truth}
                if truth and isinstance(node, n.TopK) and node.where is not None:
                    pending = ((node.where, True), *pending)
                continue
            if len(branches) != 1:
                return any(self._follow(branch, pending, constraints, known) for branch in branches)
            literals, more = branches[0]
            pending, constraints = (*literals, *pending), (*constraints, *more)
        return not impossible((*constraints, *_sizes(constraints)))

    def _follow(
        self,
        branch: _Branch,
        pending: tuple[Literal, ...],
        constraints: tuple[Linear, ...],
        known: dict[Hashable, bool],
    ) -> bool:
        literals, more = branch
        joined = (*constraints, *more)
        # A branch that is impossible already is not followed further.
        if more and impossible(joined):
            return False
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _TooManyCases
        found = self.possible((*literals, *pending), joined, known)
        self.depth -= 1
        return found

    def _branches(self, node: n.Node, truth: bool) -> list[_Branch] | None:
        """Return the ways in which a condition has a truth value; None if it is an unknown one."""
        if isinstance(node, n.Const):
            return [((), ())] if bool(node.value) == truth else []
        if not isinstance(node, n.Call):
            return None
        if node.op == "not":
            return [(((node.args[0], not truth),), ())]
        if node.op in ("and", "or"):
            both = (node.op == "and") == truth
            literals = tuple((arg, truth) for arg in node.args)
            return [(literals, ())] if both else [((literal,), ()) for literal in literals]
        if node.op == "where" and type_of(node).kind == "bool":
            condition, yes, no = node.args
            return [
                (((condition, True), (yes, truth)), ()),
                (((condition, False), (no, truth)), ()),
            ]
        if node.op in _COMPARISONS:
            return _compare(node, truth)
        return None


def _sizes(constraints: tuple[Linear, ...]) -> Iterator[Linear]:
    """Yield that sizes are not negative, for those that are read."""
    for name in {name for row in constraints for name in row.terms}:
        if isinstance(name, n.Index) and name.name in _LEAST:
            yield at_most(Linear(constant=_LEAST[name.name]), variable(name))
        elif isinstance(name, n.Visible):
            yield at_most(Linear(), variable(name))


def _atom(node: n.Node, truth: bool) -> tuple[Hashable, bool]:
    """Return what an unknown condition is known by; `ne` is the opposite of `eq`, even for NaN."""
    if isinstance(node, n.Call) and node.op in ("eq", "ne"):
        return ("eq", frozenset(node.args)), truth == (node.op == "eq")
    if isinstance(node, n.Call) and node.op in ("gt", "ge"):
        return ({"gt": "lt", "ge": "le"}[node.op], node.args[::-1]), truth
    if isinstance(node, n.Call) and node.op in ("lt", "le"):
        return (node.op, node.args), truth
    return node, truth


# ── Comparisons ──────────────────────────────────────────────────────────────────────────────
def _compare(node: n.Call, truth: bool) -> list[_Branch] | None:
    left, right = (_side(arg) for arg in node.args)
    if left is None or right is None:
        return None
    made = []
    for a, b in itertools.product(left, right):
        literals = (*a.literals, *b.literals)
        for constraints in _holds(node.op, truth, a.form, b.form):
            made.append((literals, (*a.constraints, *b.constraints, *constraints)))
    return made


def _holds(op: str, truth: bool, a: Linear, b: Linear) -> list[tuple[Linear, ...]]:
    """Return the constraints, one tuple a case, under which a comparison has a truth value."""
    opposite = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
    match op if truth else opposite[op]:
        case "lt":
            return [(below(a, b),)]
        case "le":
            return [(at_most(a, b),)]
        case "gt":
            return [(below(b, a),)]
        case "ge":
            return [(at_most(b, a),)]
        case "eq":
            return [(at_most(a, b), at_most(b, a))]
    return [(below(a, b),), (below(b, a),)]


def _side(node: n.Node) -> list[_Case] | None:
    """Return a side of a comparison as whole numbers; None if it is not one."""
    if isinstance(node, n.Const) and type(node.value) is float:
        return [_Case(Linear(constant=_rational(node.value)))] if _is_plain(node.value) else None
    return cases_of(node) if type_of(node).kind in ("int", "bool") else None


def _is_plain(value: float) -> bool:
    """Tell whether whole numbers compare with a constant alike in single and in exact numbers."""
    if not abs(value) <= _EXACT:
        return False
    single = struct.unpack("f", struct.pack("f", value))[0]
    return math.floor(single) == math.floor(value) and math.ceil(single) == math.ceil(value)


def _rational(value: float) -> Fraction | int:
    """Return a constant that no whole number tells from the given one."""
    whole = math.floor(value)
    return whole if whole == value else whole + Fraction(1, 2)


# ── Whole numbers ────────────────────────────────────────────────────────────────────────────
def cases_of(node: n.Node) -> list[_Case]:
    """Return the values a whole number may have, as linear forms.

    Args:
        node: An expression of kind "int" or "bool".

    Returns:
        One case a value; what is not understood is a variable of its own.

    Raises:
        _TooManyCases: If there are more than anyone would write.
    """
    found: dict[n.Node, list[_Case]] = {}
    for part in n.walk(node):
        found[part] = _cases(part, found)
        if len(found[part]) > 64:
            raise _TooManyCases
    return found[node]


def _cases(node: n.Node, found: dict[n.Node, list[_Case]]) -> list[_Case]:
    kind = type_of(node).kind
    if isinstance(node, n.Const) and type(node.value) is int:
        return [_Case(Linear(constant=node.value))]
    if kind == "bool":
        return [
            _Case(Linear(constant=1), ((node, True),)),
            _Case(Linear(constant=0), ((node, False),)),
        ]
    if kind == "int" and isinstance(node, n.Call):
        if node.op == "where":
            return _chosen(node, found)
        if node.op in _RULES and all(type_of(arg).kind in ("int", "bool") for arg in node.args):
            made = []
            for parts in itertools.product(*(found[arg] for arg in node.args)):
                made += _apply(node, parts)
            return made
    return [_Case(variable(node))]


def _chosen(node: n.Call, found: dict[n.Node, list[_Case]]) -> list[_Case]:
    condition, yes, no = node.args
    return [
        case._replace(literals=((condition, truth), *case.literals))
        for truth, side in ((True, yes), (False, no))
        for case in found[side]
    ]


def _apply(node: n.Call, parts: tuple[_Case, ...]) -> Iterator[_Case]:
    literals = tuple(literal for part in parts for literal in part.literals)
    constraints = tuple(row for part in parts for row in part.constraints)
    for form, more in _RULES[node.op](node, *(part.form for part in parts)):
        yield _Case(form, literals, (*constraints, *more))


_ZERO = Linear()


def _product(node: n.Call, a: Linear, b: Linear):
    if a.terms and b.terms:
        return [(variable(node), ())]
    return [(b.times(a.constant) if not a.terms else a.times(b.constant), ())]


def _quotient(node: n.Call, a: Linear, b: Linear):
    """Return a // d as a new whole number t with d · t <= a < d · t + d."""
    divisor = b.constant
    if b.terms or divisor <= 0:
        return [(variable(node), ())]
    t = variable(("quotient", a.key(), divisor))
    start = t.times(divisor)
    return [(t, (at_most(start, a), below(a, start.plus(Linear(constant=divisor)))))]


def _remainder(node: n.Call, a: Linear, b: Linear):
    if b.terms or b.constant <= 0:
        return [(variable(node), ())]
    ((t, constraints),) = _quotient(node, a, b)
    return [(a.plus(t, -b.constant), constraints)]


def _smaller(node: n.Call, a: Linear, b: Linear):
    return [(a, (at_most(a, b),)), (b, (below(b, a),))]


def _larger(node: n.Call, a: Linear, b: Linear):
    return [(a, (at_most(b, a),)), (b, (below(a, b),))]


def _size(node: n.Call, a: Linear):
    return [(a, (at_most(_ZERO, a),)), (a.times(-1), (below(a, _ZERO),))]


def _sign(node: n.Call, a: Linear):
    return [
        (Linear(constant=1), (below(_ZERO, a),)),
        (Linear(constant=-1), (below(a, _ZERO),)),
        (_ZERO, (at_most(a, _ZERO), at_most(_ZERO, a))),
    ]


_RULES = {
    "add": lambda node, a, b: [(a.plus(b), ())],
    "sub": lambda node, a, b: [(a.plus(b, -1), ())],
    "neg": lambda node, a: [(a.times(-1), ())],
    "floor": lambda node, a: [(a, ())],
    "relu": lambda node, a: [(a, (at_most(_ZERO, a),)), (_ZERO, (below(a, _ZERO),))],
    "mul": _product,
    "floordiv": _quotient,
    "mod": _remainder,
    "min": _smaller,
    "max": _larger,
    "abs": _size,
    "sign": _sign,
}
