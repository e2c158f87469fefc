"""A condition made ready for planning: each position met once, functions of one side cut out.

Three kinds of functions take one number and need not be bounded by arithmetic, because their values
can be had one by one: those of a query row, of a key row, and of the distance i - j. They become
holes. Leaves to others: their values (`leaves`), what they say of blocks (`blocks`).
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from regard.ir import nodes as n
from regard.ir.types import type_of
from regard.passes.build import add, call, mul, substitute

Along = Literal["query", "key", "distance"]
Form = tuple[int, int, int]

_READ = (n.Const, n.Index, n.Feature, n.Array, n.Scalar, n.PairInput, n.Call, n.Gather, n.Keep)
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_GROWING = ("queries", "keys", "row_i")
_SIDES: dict[str, Along] = {"i": "query", "row_i": "query", "j": "key", "row_j": "key"}
# What a function of the distance reads.
DISTANCE = n.Hole("i - j", "ij", "int")
# So many divisors of a side are split at, the largest first.
_MOST_PERIODS = 4


@dataclass(frozen=True)
class Function:
    """A part of a condition that one number decides, per head and batch row.

    Attributes:
        along: What the number is: a query row, a key row, or the distance i - j.
        order: Its nodes, each after what it reads; the last is its value.
    """

    along: Along
    order: tuple[n.Node, ...]


@dataclass(frozen=True)
class Condition:
    """A condition made ready.

    Attributes:
        order: Its nodes, each after what it reads; functions are holes.
        functions: What the holes stand for.
        periods: By side, the numbers at whose multiples something begins anew, smallest first.
        data: The names of tensors that are read.
        steady: Whether it stays what it is when rows are added, as far as positions do.
        pairwise: Whether a dense input of pairs is read.
    """

    order: tuple[n.Node, ...]
    functions: dict[n.Node, Function]
    periods: dict[Along, tuple[int, ...]]
    data: tuple[str, ...]
    steady: bool
    pairwise: bool

    @property
    def single(self) -> Function | None:
        """The function that all of the condition is, if it is one."""
        return self.functions.get(self.order[-1])


@lru_cache(maxsize=1024)
def prepare_condition(condition: n.Node, distances: bool = True) -> Condition:
    """Make a condition ready.

    Before: ((j <= i) & (i - j < 256)) | (key_feature(global) & (i // 64 > 3)).
    After: distance:0 | (key:1 & query:2).

    Args:
        condition: A condition over pairs.
        distances: Whether functions of i - j are cut out; else they stay arithmetic.

    Returns:
        The same for the same condition.
    """
    simplifier = _Simplifier()
    root = n.rewrite(condition, simplifier)
    cutter = _Cutter(simplifier.forms, distances)
    order = tuple(n.walk(cutter.cut(root)))
    nodes = list(n.walk(root))
    data = {node.name for node in nodes if isinstance(node, n.Feature | n.Scalar | n.PairInput)}
    data |= {node.name for node in nodes if isinstance(node, n.Array)}
    return Condition(
        order=order,
        functions=cutter.functions,
        periods=_periods(nodes),
        data=tuple(sorted(data)),
        steady=not data and not any(isinstance(x, n.Index) and x.name in _GROWING for x in nodes),
        pairwise=any(isinstance(node, n.PairInput) for node in nodes),
    )


class _Simplifier:
    """Hides what no interval is known of, and meets each position once in what is linear in them.

    Before: sum(q) > 0; i - j <= i + 3; j <= i.
    After: a hole > 0; -1·j - 3 <= 0, whose interval is exact; j - i <= 0, decided by the distance.
    """

    def __init__(self) -> None:
        self.forms: dict[n.Node, Form | None] = {}

    def __call__(self, node: n.Node) -> n.Node:
        kind = type_of(node)
        if not isinstance(node, _READ) or "c" in kind.axes:
            return n.Hole("unknown", kind.axes, kind.kind)
        form = self._form(node)
        if isinstance(node, n.Call) and len(node.args) == 2:
            a, b = (self.forms.get(arg) for arg in node.args)
            if a is not None and b is not None:
                less, twice = _sum(a, b, -1), (a[0] and b[0]) or (a[1] and b[1])
                if node.op in _COMPARISONS and (twice or less[0] == -less[1] != 0):
                    return call(node.op, self._written(less), 0)
                node = self._written(form) if twice and form is not None else node
        self.forms[node] = form
        return node

    def _form(self, node: n.Node) -> Form | None:
        """Return (ci, cj, c) if a node is ci·i + cj·j + c."""
        if isinstance(node, n.Const) and type(node.value) is int:
            return 0, 0, node.value
        if isinstance(node, n.Index) and node.name in ("i", "j"):
            return int(node.name == "i"), int(node.name == "j"), 0
        if not isinstance(node, n.Call) or node.op not in ("add", "sub", "neg", "mul"):
            return None
        forms = [self.forms.get(arg) for arg in node.args]
        a, b = forms[0], forms[-1]
        if a is None or b is None:
            return None
        if node.op != "mul":
            zero = (0, 0, 0)
            return _sum(zero, a, -1) if node.op == "neg" else _sum(a, b, 1 - 2 * (node.op == "sub"))
        factor, other = (a, b) if a[:2] == (0, 0) else (b, a)
        return _sum((0, 0, 0), other, factor[2]) if factor[:2] == (0, 0) else None

    def _written(self, form: Form) -> n.Node:
        terms = [mul(n.Const(c), n.Index(name)) for c, name in zip(form, "ij", strict=False)]
        made = add(add(*terms), n.Const(form[2]))
        self.forms[made] = form
        return made


def _sum(a: Form, b: Form, times: int) -> Form:
    return a[0] + times * b[0], a[1] + times * b[1], a[2] + times * b[2]


# ── Functions of one number ──────────────────────────────────────────────────────────────────
@dataclass
class _Cutter:
    """Puts a hole in place of every largest part that one number decides.

    Attributes:
        forms: What is linear in positions.
        distances: Whether functions of i - j are cut out.
        functions: What has been cut out, by hole.
    """

    forms: dict[n.Node, Form | None]
    distances: bool
    functions: dict[n.Node, Function] = field(default_factory=dict)

    def cut(self, root: n.Node) -> n.Node:
        """Return the graph with holes."""
        decided: dict[n.Node, frozenset[str]] = {}
        for node in n.walk(root):
            decided[node] = self._decided_by(node, decided)
        made: dict[n.Node, n.Node] = {}
        reached, stack = set(), [root]
        while stack:
            node = stack.pop()
            if node not in reached:
                reached.add(node)
                hole = self._hole(node, decided[node])
                if hole is None:
                    stack.extend(n.children(node))
                else:
                    made[node] = hole
        for node in n.walk(root):
            if node in reached and node not in made:
                made[node] = n.rebuild(node, made)
        return made[root]

    def _decided_by(self, node: n.Node, decided: dict[n.Node, frozenset[str]]) -> frozenset[str]:
        """Return which of "query", "key" and "distance" a node reads; "pair" for all else."""
        form = self.forms.get(node)
        if form is not None and form[0] == -form[1] != 0:
            return frozenset({"distance"})
        match node:
            case n.Index():
                return frozenset({_SIDES[node.name]} if node.name in _SIDES else ())
            case n.Feature():
                return frozenset({node.side})
            case n.PairInput() | n.Hole() | n.Keep():
                return frozenset({"pair"})
            case n.Gather():
                parts = node.indices
            case _:
                parts = n.children(node)
        return frozenset().union(*(decided[part] for part in parts))

    def _hole(self, node: n.Node, decided: frozenset[str]) -> n.Node | None:
        if len(decided) != 1 or decided == {"pair"}:
            return None
        (along,) = decided
        kind = type_of(node)
        if along == "distance" and not (self.distances and kind.kind == "bool"):
            return None
        hole = n.Hole(f"{along}:{len(self.functions)}", kind.axes, kind.kind)
        self.functions[hole] = Function(along, tuple(n.walk(self._of_distance(node))))  # type: ignore
        return hole

    def _of_distance(self, node: n.Node) -> n.Node:
        """Return what is decided by i - j in terms of DISTANCE; all else as it is."""
        new = {}
        for part in n.walk(node):
            form = self.forms.get(part)
            if form is not None and form[0] == -form[1] != 0:
                new[part] = add(mul(n.Const(form[0]), DISTANCE), n.Const(form[2]))
        return substitute(node, new) if new else node


# ── Where something begins anew ──────────────────────────────────────────────────────────────
def _periods(nodes: list[n.Node]) -> dict[Along, tuple[int, ...]]:
    """Return, by side, the multiples of which begin a new quotient or remainder.

    Before: (i // 32) % 8.   After: 32 and 256 for queries.
    """
    steps: dict[n.Node, tuple[str, int]] = {n.Index("i"): ("query", 1), n.Index("j"): ("key", 1)}
    found: dict[str, set[int]] = {"query": set(), "key": set()}
    for node in nodes:
        if isinstance(node, n.Call) and node.op in ("floordiv", "mod") and node.args[0] in steps:
            side, step = steps[node.args[0]]
            by = node.args[1]
            if isinstance(by, n.Const) and type(by.value) is int and by.value > 1:
                found[side].add(step * by.value)
                if node.op == "floordiv":
                    steps[node] = side, step * by.value
                else:
                    steps[node] = side, step
    return {
        "query": tuple(sorted(found["query"])[-_MOST_PERIODS:]),
        "key": tuple(sorted(found["key"])[-_MOST_PERIODS:]),
    }
