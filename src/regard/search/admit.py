"""What a place demands of its program: to be valid, proved causal where it must be, never empty,
of finite gradients, reading what there is, and no larger than allowed.

Contracts are constraints here: what is not proved is not admitted. Leaves to others: proofs
(`passes/contracts`), poles (`gradients`), programs that meet the demands (`change`, `splice`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from regard.errors import nearest
from regard.ir import nodes as n
from regard.ir.contracts import Contract
from regard.ir.verify import verify, verify_program
from regard.passes.build import both, call, either
from regard.passes.contracts.prove import always_sees, prove
from regard.passes.contracts.reads import has_sink, surely_seen, without_topk
from regard.search.gradients import find_poles, sum_may_vanish
from regard.search.space import Space

CAUSAL, NEVER_EMPTY = Contract("causal"), Contract("never empty")
_I, _J = n.Index("i"), n.Index("j")
# What differs between a call with all queries at once and one with a cache, or between batch rows.
_OF_THE_CALL = ("queries", "row_i", "row_j", "batch")
_HEADS, _WIDTH = 16, 64
# Rows are no wider in any model, and no number that counts something is larger.
_MOST_COUNT = 4096
_LEAST_SUM = n.Const(1e-6)


@dataclass(frozen=True)
class Fault:
    """Why a program is not admitted.

    Attributes:
        rule: Which demand: "size", "reads", "causal", "empty" or "gradient".
        problem: What is wrong.
        remedy: What to do.
    """

    rule: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def find_faults(root: n.Output, role: str, space: Space) -> list[Fault]:
    """Return what keeps a program from a place.

    Args:
        root: The program, verified.
        role: A role of the space.
        space: What is searched.

    Returns:
        The faults; none if the program is admitted.
    """
    limits = space.most_nodes, space.most_parameters, space.may_read
    return list(_faults(root, role == "cross", space.is_causal(role), *limits))


@lru_cache(maxsize=16384)
def _faults(
    root: n.Output,
    cross: bool,
    causal: bool,
    most_nodes: int,
    most_parameters: int,
    may_read: frozenset[str],
) -> tuple[Fault, ...]:
    large = [*_sizes(root, most_nodes, most_parameters)]
    if large:
        # What is too large is not looked at further.
        return tuple(large)
    found = [*_reads(root, may_read)]
    if causal and not prove(root, CAUSAL).proved:
        reason = prove(root, CAUSAL).reason
        found.append(Fault("causal", reason, "add pair.j <= pair.i to every where"))
    if not (_sees_from_anywhere(root) if cross else prove(root, NEVER_EMPTY).proved):
        found.append(_empty(cross))
    for why in find_poles(root):
        problem, _, remedy = why.partition("; ")
        remedy = remedy or "keep its argument in bounds, e.g. by tanh or clip"
        found.append(Fault("gradient", problem, remedy))
    return tuple(found)


def _empty(cross: bool) -> Fault:
    if cross:
        problem = "a query beyond the last key may see nothing: the text read can be the shorter"
        return Fault("empty", problem, "let where be true at key 0, or give the softmax a sink")
    problem = "no key was found that every query surely sees"
    return Fault("empty", problem, "let where be true at pair.i == pair.j, or give a sink")


def _sees_from_anywhere(root: n.Output) -> bool:
    """Tell whether a query sees a key wherever it stands, as in cross attention."""
    if has_sink(root.weights):
        return True
    return always_sees(surely_seen(without_topk(root.weights)), beyond=True)


# ── Size and inputs ──────────────────────────────────────────────────────────────────────────
def _sizes(root: n.Output, most_nodes: int, most_parameters: int) -> Iterator[Fault]:
    order = n.walk(root)
    if len(order) > most_nodes:
        yield Fault("size", f"{len(order)} nodes; {most_nodes} are allowed", "write it shorter")
        return
    counts = [_parameters(node) for node in order if isinstance(node, n.Array)]
    if sum(counts) > most_parameters:
        problem = f"{sum(counts)} learned numbers, counted at {_HEADS} heads of {_WIDTH} channels"
        yield Fault("size", problem, f"make arrays smaller: {most_parameters} are allowed")
    for node in order:
        for what, count in _counts(node):
            if abs(count) > _MOST_COUNT:
                problem = f"{what} is {count}; {_MOST_COUNT} is the most"
                yield Fault("size", problem, "take a smaller one")


def _parameters(array: n.Array) -> int:
    sizes = {"head": _HEADS, "channel": _WIDTH, "rows": 1}
    return math.prod(sizes.get(axis, 0) if isinstance(axis, str) else axis for axis in array.per)


def _counts(node: n.Node) -> Iterator[tuple[str, int]]:
    """Yield the numbers of a node that decide how wide rows are."""
    match node:
        case n.Slice():
            yield "the first channel of a slice", node.start
            yield "the last channel of a slice", node.stop or 0
        case n.Project():
            yield "the width of a projection", node.width or 0


def _reads(root: n.Output, may_read: frozenset[str]) -> Iterator[Fault]:
    known = sorted({"q", "k", "v", *may_read})
    for node in n.walk(root):
        match node:
            case n.Vector(name=name) | n.Feature(name=name) | n.PairInput(name=name):
                given = name in known
            case n.Array(source="table", name=name) | n.Scalar(name=name):
                given = name in known
            case n.Index(name=name) if name in _OF_THE_CALL:
                problem = f"pair.{name} differs from call to call of the same text"
                yield Fault("reads", problem, "read pair.i and pair.j")
                continue
            case _:
                continue
        if not given:
            problem = f"'{name}' is read, which the model does not give"
            yield Fault(
                "reads", problem, f"read other inputs or parameters; {nearest(name, known)}"
            )


# ── Mending ──────────────────────────────────────────────────────────────────────────────────
def mend(root: n.Output, role: str, space: Space) -> n.Output:
    """Narrow and widen the masks of a program until a place may take it, if that is enough.

    Args:
        root: The program.
        role: A role of the space.
        space: What is searched.

    Returns:
        A program that sees nothing later where that is forbidden, and itself (in cross attention
        the first key) where rows might have been empty; and that divides by no row sum that might
        be 0.
    """
    root = _output(n.rewrite(root, _with_least))
    if space.is_causal(role) and not prove(root, CAUSAL).proved:
        root = narrow(root, call("le", _J, _I))
    if role == "cross":
        if not _sees_from_anywhere(root):
            root = widen(root, call("eq", _J, 0))
    elif not prove(root, NEVER_EMPTY).proved:
        root = widen(root, call("eq", _I, _J))
    return root


def _with_least(node: n.Node) -> n.Node | None:
    if isinstance(node, n.Ratio) and node.at_least in (n.Const(0), n.Const(0.0)):
        return replace(node, at_least=_LEAST_SUM) if sum_may_vanish(node) else None
    return None


def narrow(root: n.Output, condition: n.Node) -> n.Output:
    """Return a program that sees, chooses from and adds up only pairs with a condition."""

    def change(node: n.Node) -> n.Node | None:
        if isinstance(node, n.Term | n.TopK | n.Running):
            return replace(node, where=both(node.where, condition))
        return None

    return _output(n.rewrite(root, change))


def widen(root: n.Output, condition: n.Node) -> n.Output:
    """Return a program that sees pairs with a condition too."""

    def change(node: n.Node) -> n.Node | None:
        if isinstance(node, n.Term):
            return replace(node, where=either(node.where, condition))
        return None

    return _output(n.rewrite(root, change))


def check_graph(root: n.Node) -> n.Output:
    """Verify a graph that was put together of verified parts.

    Args:
        root: The graph.

    Returns:
        The same, which is a program.

    Raises:
        ProgramError: If it is none.
    """
    for node in n.walk(root):
        verify(node)
    verify_program(root)
    return _output(root)


def _output(node: n.Node) -> n.Output:
    assert isinstance(node, n.Output)
    return node
