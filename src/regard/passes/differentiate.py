"""The gradient of every leaf, by differentiating the IR in reverse.

Before: an expression of a pair or a row, and the adjoint it receives.
After: for each leaf, expressions of what it receives, reduced to the axes it varies along.

An adjoint travels with its guard, the condition outside which it is nothing: a hidden pair's NaN
must not reach a leaf through 0 · NaN. Every derivative is multiplied under the guard and the guard
is applied last. Leaves to others: which expressions are differentiated (`lower`), and adding up
over tiles (the backends).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from regard.ir import nodes as n
from regard.ir.types import axes_of, order_axes, type_of
from regard.passes.build import ONE, add, both, call, either, mul, neg, select

# A pair that does not exist may hold NaN, but sums run on beyond it.
EXISTS = call(
    "and",
    call("lt", n.Index("row_i"), n.Index("queries")),
    call("lt", n.Index("row_j"), n.Index("keys")),
)
Leaf = n.Vector | n.Feature | n.Array | n.Scalar | n.PairInput | n.Hole


@dataclass(frozen=True)
class Adjoint:
    """The derivative of the result with respect to a node.

    Attributes:
        value: An expression; it may be anything, even NaN, outside the guard.
        guard: The condition outside which it is 0; None holds everywhere.
    """

    value: n.Node
    guard: n.Node | None = None

    def times(self, factor: n.Node) -> "Adjoint":
        """Return the adjoint multiplied under its guard."""
        return Adjoint(mul(self.value, factor), self.guard)

    def plus(self, other: "Adjoint") -> "Adjoint":
        """Return the sum of two adjoints of one node."""
        if self.guard is other.guard:
            return Adjoint(add(self.value, other.value), self.guard)
        return Adjoint(add(self.masked(), other.masked()), either(self.guard, other.guard))

    def under(self, guard: n.Node) -> "Adjoint":
        """Return the adjoint where a further condition holds.

        The guard it has stays: what it hides may be NaN, and later factors multiply it by that.
        """
        return Adjoint(self.value, both(self.guard, guard))

    def as_row(self, like: n.Node) -> n.Node:
        """Return the masked expression with the channels of `like`."""
        value = self.masked()
        return value if "c" in axes_of(value) else n.Widen(value, like)

    def masked(self) -> n.Node:
        """Return the expression that is 0 outside the guard."""
        return select(self.guard, self.value)


@dataclass
class Gradient:
    """What the leaves receive.

    Attributes:
        dense: For each leaf an expression over the leaf's own axes, to be added up over tiles.
        indexed: For each array read by index, pairs of (indices, expression) to be scattered.
        outer: For each projection matrix, `Outer` nodes.
        picked: For each row that `Pick` reads, pairs of (index, expression) to be scattered.
    """

    dense: dict[n.Node, n.Node] = field(default_factory=dict)
    indexed: dict[n.Array, list[tuple[tuple[n.Node, ...], n.Node]]] = field(default_factory=dict)
    outer: dict[n.Array, list[n.Node]] = field(default_factory=dict)
    picked: dict[n.Node, list[tuple[n.Node, n.Node]]] = field(default_factory=dict)

    def merge(self, other: "Gradient") -> "Gradient":
        """Return the sum of two gradients."""
        dense = dict(self.dense)
        for leaf, value in other.dense.items():
            dense[leaf] = add(dense[leaf], value) if leaf in dense else value
        return Gradient(
            dense,
            _joined(self.indexed, other.indexed),
            _joined(self.outer, other.outer),
            _joined(self.picked, other.picked),
        )

    def expressions(self) -> list[n.Node]:
        """Return every expression of the gradient."""
        parts = [part for found in (self.indexed, self.picked) for part in found.values()]
        scattered = [value for pairs in parts for _, value in pairs]
        return [
            *self.dense.values(),
            *scattered,
            *(node for nodes in self.outer.values() for node in nodes),
        ]


def _joined(a: Mapping, b: Mapping) -> dict:
    """Return the lists of both by key."""
    return {key: a.get(key, []) + b.get(key, []) for key in {**a, **b}}


def differentiate(roots: Mapping[n.Node, Adjoint], wanted: Iterable[n.Node]) -> Gradient:
    """Differentiate expressions in reverse, together, so that what they share is visited once.

    Args:
        roots: What each expression receives, over any axes; it is added up over those the
            expression does not vary along.
        wanted: The leaves and holes whose gradient is asked for.

    Returns:
        What each wanted leaf receives.
    """
    order = n.walk(*roots)
    needed = _depends_on(order, set(wanted))
    adjoints = {
        root: _reduce_to(adjoint, root, root) for root, adjoint in roots.items() if root in needed
    }
    gradient = Gradient()
    for node in reversed(order):
        if node not in adjoints:
            continue
        received = adjoints.pop(node)
        if not list(n.children(node)):
            gradient.dense[node] = received.masked()
            continue
        _record_arrays(node, received, needed, gradient)
        for child, part in _parts(node, received):
            if child not in needed or (
                isinstance(node, n.Gather | n.Project | n.Unproject) and isinstance(child, n.Array)
            ):
                continue
            reduced = _reduce_to(part, child, node)
            adjoints[child] = adjoints[child].plus(reduced) if child in adjoints else reduced
    return gradient


def _depends_on(order: list[n.Node], wanted: set[n.Node]) -> set[n.Node]:
    """Return the nodes a gradient must visit: those above a wanted leaf through real numbers."""
    needed: set[n.Node] = set()
    for node in order:
        if node in wanted:
            needed.add(node)
        elif type_of(node).kind in ("float", "any") and any(
            child in needed for child in n.children(node)
        ):
            needed.add(node)
    return needed


def _reduce_to(part: Adjoint, child: n.Node, parent: n.Node) -> Adjoint:
    """Add an adjoint up over the axes its node does not vary along."""
    kept = set(axes_of(child))
    if isinstance(parent, n.Reduce):
        kept |= set(parent.axes)
    spread = set(axes_of(parent)) | set(axes_of(part.masked()))
    extra = order_axes(spread - kept)
    if not extra:
        return part
    value = part.masked()
    if "c" in extra and "c" not in axes_of(value):
        value, extra = mul(value, n.Count(parent)), extra.replace("c", "")
    if not extra:
        return Adjoint(value)
    value = n.Reduce(value, extra)
    return Adjoint(value, call("ne", value, 0))


def _record_arrays(
    node: n.Node, received: Adjoint, needed: set[n.Node], gradient: Gradient
) -> None:
    if isinstance(node, n.Gather) and node.array in needed:
        gradient.indexed.setdefault(node.array, []).append((node.indices, received.masked()))
    if isinstance(node, n.Project) and node.matrix in needed:
        gradient.outer.setdefault(node.matrix, []).append(n.Outer(node.rows, received.as_row(node)))
    if isinstance(node, n.Unproject) and node.matrix in needed:
        row = received.as_row(node)
        # A row that receives nothing may hold NaN.
        rows = select(call("ne", n.Reduce(call("abs", row), "c"), 0), node.rows)
        gradient.outer.setdefault(node.matrix, []).append(n.Outer(row, rows))
    if isinstance(node, n.Pick) and node.rows in needed:
        gradient.picked.setdefault(node.rows, []).append((node.index, received.masked()))


def _parts(node: n.Node, g: Adjoint) -> list[tuple[n.Node, Adjoint]]:
    """Return what each child receives from its parent, before reducing to the child's axes."""
    match node:
        case n.Call():
            return list(zip(node.args, _RULES[node.op](g, node, *node.args), strict=False))
        case n.Reduce():
            return [(node.body, g)]
        case n.Rotate():
            row = g.as_row(node)
            # Each channel is made of two, so the guard is per row: a hidden row's angle may be NaN.
            guard = call("ne", n.Reduce(call("abs", row), "c"), 0)
            back = Adjoint(n.Rotate(row, neg(node.angle), node.pairs), guard)
            turn = Adjoint(n.Cross(node, row, node.pairs), guard)
            return [(node.rows, back), (node.angle, turn)]
        case n.Running():
            # The sum exists at every pair, so all give back; a pair that added nothing gets none.
            back = n.Running(g.value, g.guard, not node.reverse, node.exclusive)
            return [(node.body, Adjoint(back, both(node.where, EXISTS)))]
        case n.Slice():
            return [(node.rows, Adjoint(n.Pad(g.as_row(node), node.start, node.rows)))]
        case n.Project():
            return [(node.rows, Adjoint(n.Unproject(g.as_row(node), node.matrix)))]
        case n.Unproject():
            return [(node.rows, Adjoint(n.Project(g.as_row(node), node.matrix, None)))]
        case _:
            return []  # choices, counts and stopped gradients


Rule = Callable[..., list[Adjoint]]


def _tie(op: str) -> Rule:
    strict = {"min": "lt", "max": "gt"}[op]

    def rule(g: Adjoint, out: n.Node, a: n.Node, b: n.Node) -> list[Adjoint]:
        shared = call("where", call("eq", a, b), 0.5, 0.0)
        return [
            g.times(call("where", call(strict, a, b), 1.0, shared)),
            g.times(call("where", call(strict, b, a), 1.0, shared)),
        ]

    return rule


def _where(g: Adjoint, out: n.Node, condition: n.Node, yes: n.Node, no: n.Node) -> list[Adjoint]:
    return [g, g.under(condition), g.under(call("not", condition))]


def _pow(g: Adjoint, out: n.Node, a: n.Node, b: n.Node) -> list[Adjoint]:
    below = call("mul", b, call("pow", a, call("sub", b, ONE)))
    slope = (
        below
        if isinstance(b, n.Const) and b.value != 0
        else call("where", call("eq", b, 0), 0.0, below)
    )
    log = call("log", call("where", call("gt", a, 0), a, 1.0))
    return [g.times(slope), g.times(call("mul", out, log))]


_TWO_OVER_SQRT_PI = 1.1283791670955126
_RULES: dict[str, Rule] = {
    "add": lambda g, out, a, b: [g, g],
    "sub": lambda g, out, a, b: [g, g.times(n.Const(-1.0))],
    "mul": lambda g, out, a, b: [g.times(b), g.times(a)],
    "div": lambda g, out, a, b: [g.times(call("div", 1.0, b)), g.times(neg(call("div", out, b)))],
    "floordiv": lambda g, out, a, b: [],
    "mod": lambda g, out, a, b: [g, g.times(neg(call("floordiv", a, b)))],
    "pow": _pow,
    "min": _tie("min"),
    "max": _tie("max"),
    "neg": lambda g, out, a: [g.times(n.Const(-1.0))],
    "abs": lambda g, out, a: [g.times(call("sign", a))],
    "sign": lambda g, out, a: [],
    "floor": lambda g, out, a: [],
    "exp": lambda g, out, a: [g.times(out)],
    "log": lambda g, out, a: [g.times(call("div", 1.0, a))],
    "sqrt": lambda g, out, a: [g.times(call("div", 0.5, out))],
    "tanh": lambda g, out, a: [g.times(call("sub", 1.0, call("mul", out, out)))],
    "sigmoid": lambda g, out, a: [g.times(call("mul", out, call("sub", 1.0, out)))],
    "relu": lambda g, out, a: [g.under(call("gt", a, 0))],
    "erf": lambda g, out, a: [
        g.times(call("mul", _TWO_OVER_SQRT_PI, call("exp", neg(call("mul", a, a)))))
    ],
    "softplus": lambda g, out, a: [g.times(call("sigmoid", a))],
    "cos": lambda g, out, a: [g.times(neg(call("sin", a)))],
    "sin": lambda g, out, a: [g.times(call("cos", a))],
    "where": _where,
}
