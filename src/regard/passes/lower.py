"""From an attention program to sweeps over keys: row sums, then weights, then the summed row.

Before: softmax(q·k, j <= i) summed over v.
After: one term with where j <= i, exponent q·k, num = den = exp(q·k - m), its inverse
1 / s (0 for an empty row), and the pair's weight num · r under "seen".

What a sweep computes for a row is a Hole in later expressions:
    m:a  largest exponent    s:a  row sum of den    r:a  inverse of the normaliser
    n:a  visible keys        x:a  row sum of num · (score - m) (entropy)
    z:a  largest score       t:a  the threshold, both of an entmax
    seen:a  whether the pair exists, is admitted by where, and has a score above -inf
Leaves to others: the adjoint sweeps (`adjoint`), and running anything (the backends).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from regard.ir import nodes as n
from regard.ir.observed import is_row_value, parse
from regard.ir.types import type_of
from regard.passes.build import ONE, ZERO, add, both, call, either, is_zero, mul, select, substitute
from regard.passes.choose_keys import Choice, choose_keys
from regard.passes.shift_exponents import has_exponentials, shift_exponents
from regard.passes.statistics import Statistic, make_statistics


@dataclass(frozen=True)
class LoweredTerm:
    """One term of weights: num · r where seen.

    Attributes:
        name: The term's name.
        where: What the program admits; existence of rows and keys is the backend's to add.
        score: The score of a softmax or entmax, hidden where -inf; None for other terms.
        exponents: Expressions whose row maximum is m; empty if nothing is shifted.
        floor_zero: Whether m must not be below 0.
        sink: A softmax's sink, which takes part in m; None without.
        num: The numerator, not yet under "seen".
        sums: Row sums by hole name: pair expressions under "seen".
        total: The row expression of the normaliser; None if weights are not normalised.
        counted: Whether the visible keys must be counted first.
        gain: α - 1 of an entmax, a row expression; its row sum of num is 1 at the threshold, which
            a sweep finds first. None for other terms.
    """

    name: str
    where: n.Node | None
    score: n.Node | None
    exponents: tuple[n.Node, ...]
    floor_zero: bool
    sink: n.Node | None
    num: n.Node
    sums: dict[str, n.Node]
    total: n.Node | None
    counted: bool
    gain: n.Node | None = None

    @property
    def inverse(self) -> n.Node | None:
        """The row expression of r: 1 / total, and 0 for a row whose sum is zero."""
        if self.total is None:
            return None
        empty = call("eq", self.total, 0)
        return call("where", empty, 0.0, call("div", 1.0, call("where", empty, 1.0, self.total)))

    def hole(self, letter: str) -> n.Hole:
        """Return the term's hole: "m", "s", "r", "n", "x" or "seen"."""
        return hole(letter, self.name)


@dataclass(frozen=True)
class Lowered:
    """A program as sweeps.

    Attributes:
        terms: The normalised terms.
        weights: The pair's final weight, from the terms' holes.
        clean_weights: The same before dropout.
        seen: Whether any term sees the pair.
        values: The channel expression that is summed.
        finish: The row expression of the Hole "summed", or None.
        rows: Row expressions observed of softmaxes, by name ("lse:a").
        statistics: What else is observed: sums over keys or queries.
        single: Whether the weights are linear in one term alone, so that the summed row gives the
            term's adjoint without a sweep.
        choices: The keys to be chosen before anything else, in order.
    """

    terms: tuple[LoweredTerm, ...]
    weights: n.Node
    clean_weights: n.Node
    seen: n.Node
    values: n.Node
    finish: n.Node | None
    rows: dict[str, n.Node] = field(default_factory=dict)
    statistics: tuple[Statistic, ...] = ()
    single: bool = False
    choices: tuple[Choice, ...] = ()

    @property
    def shifted(self) -> dict[str, bool]:
        """Whether each term's exponentials are shifted by the row's maximum, by name."""
        return {term.name: bool(term.exponents) for term in self.terms}


def hole(letter: str, term: str) -> n.Hole:
    """Return the hole of a term's row value or of its "seen"."""
    axes, kind = {"n": ("bhi", "int"), "seen": ("bhij", "bool")}.get(letter, ("bhi", "float"))
    return n.Hole(f"{letter}:{term}", axes, kind)


def lower(root: n.Output, observe: tuple[str, ...] = (), seeded: bool = False) -> Lowered:
    """Lower a program.

    Args:
        root: The program.
        observe: What is asked for beside the output and the dense weights, as in `ir/observed`.
        seeded: Whether random booleans are drawn; otherwise they are all true.

    Returns:
        The program as sweeps.
    """
    root, choices = choose_keys(root if seeded else _without_draws(root))
    entropies = {one.of for one in map(parse, observe) if one.kind == "entropy"}
    surface = [node for node in n.walk(root.weights) if isinstance(node, n.Term)]
    softmaxes = {node.name for node in surface if isinstance(node, n.Softmax)}
    terms = tuple(_lower_term(term, term.name in entropies) for term in surface)
    by_node: dict[n.Node, LoweredTerm] = dict(zip(surface, terms, strict=True))
    weights, seen = _expand(root.weights, by_node)
    clean, _ = _expand(_without_dropout(root.weights), by_node)
    by_name = {term.name: term for term in terms}
    of_rows = [name for name in observe if is_row_value(name) and parse(name).of in softmaxes]
    others = {
        node.name: _expand(node, by_node)[0] for node in surface if node.name not in softmaxes
    }
    return Lowered(
        terms, weights, clean, seen, root.values, root.finish,
        {name: _observed_row(name, by_name) for name in of_rows},
        make_statistics(observe, clean, seen, others), _single(root.weights), choices,
    )  # fmt: skip


def _without_draws(root: n.Output) -> n.Output:
    def change(node: n.Node) -> n.Node | None:
        if isinstance(node, n.Dropout):
            return node.weights
        if isinstance(node, n.Keep):
            return n.Const(True)
        if isinstance(node, n.Call) and node.op == "and" and n.Const(True) in node.args:
            return node.args[1] if node.args[0] is n.Const(True) else node.args[0]
        return None

    rewritten = n.rewrite(root, change)
    assert isinstance(rewritten, n.Output)
    return rewritten


def _without_dropout(weights: n.Node) -> n.Node:
    return n.rewrite(weights, lambda node: node.weights if isinstance(node, n.Dropout) else None)


def _lower_term(term: n.Term, entropy: bool) -> LoweredTerm:
    visible = n.Visible() in n.walk(term)
    match substitute(term, {n.Visible(): hole("n", term.name)}):
        case n.Softmax() as softmax:
            return _lower_softmax(softmax, entropy, visible)
        case n.Weigh() as weigh:
            return LoweredTerm(
                weigh.name, weigh.where, None, (), False, None, weigh.weight, {}, None, visible
            )
        case n.Ratio() as ratio:
            return _lower_ratio(ratio, visible)
        case other:
            assert isinstance(other, n.Entmax), other
            return _lower_entmax(other, visible)


def _lower_softmax(term: n.Softmax, entropy: bool, visible: bool) -> LoweredTerm:
    score = term.score
    m, seen = hole("m", term.name), hole("seen", term.name)
    num = call("exp", call("sub", score, m))
    sums = {f"s:{term.name}": select(seen, num)}
    if entropy:
        # Of score - m and not of score, whose size would cancel in the entropy.
        sums[f"x:{term.name}"] = select(seen, mul(num, call("sub", score, m)))
    total = hole("s", term.name)
    if term.sink is not None:
        total = call("add", total, call("exp", call("sub", term.sink, m)))
    return LoweredTerm(
        term.name, term.where, score, (score,), False, term.sink,
        num, sums, total, visible,
    )  # fmt: skip


def _lower_ratio(term: n.Ratio, visible: bool) -> LoweredTerm:
    num, den = term.num, term.den
    m, seen = hole("m", term.name), hole("seen", term.name)
    exponents: tuple[n.Node, ...] = ()
    floor_zero, scale = False, ONE
    if has_exponentials(num) or has_exponentials(den):
        top, bottom = shift_exponents(num, m), shift_exponents(den, m)
        if top is not None and bottom is not None:
            num, den = top.body, bottom.body
            found = dict.fromkeys(top.exponents + bottom.exponents)
            offsets = not (is_zero(term.add) and is_zero(term.at_least)) and not term.scaled
            floor_zero = ZERO in found or offsets
            exponents = tuple(exponent for exponent in found if exponent is not ZERO)
            scale = ONE if term.scaled else call("exp", call("neg", m))
    total = add(hole("s", term.name), mul(term.add, scale))
    # Even at 0: a row whose sum is negative gives nothing, as one whose sum is 0.
    total = call("max", total, mul(term.at_least, scale))
    sums = {f"s:{term.name}": select(seen, den)}
    return LoweredTerm(
        term.name, term.where, None, exponents, floor_zero, None,
        num, sums, total, visible,
    )  # fmt: skip


def _lower_entmax(term: n.Entmax, visible: bool) -> LoweredTerm:
    gain = call("sub", term.alpha, 1)
    if isinstance(term.alpha, n.Const):
        gain = n.Const(float(term.alpha.value) - 1)
    seen, top = hole("seen", term.name), hole("z", term.name)
    # The largest score shifts a row's scores and its threshold alike, and keeps both near 0.
    above = call("sub", mul(call("sub", term.score, top), gain), hole("t", term.name))
    match gain:
        case n.Const(value=1.0):
            grown = above
        case n.Const(value=0.5):
            grown = mul(above, above)
        case _:
            grown = call("pow", above, call("div", 1.0, gain))
    num = call("where", call("gt", above, 0), grown, 0.0)
    # The row sum is 1; backward alone reads it, to carry what the threshold receives on.
    sums = {f"s:{term.name}": select(seen, num)}
    return LoweredTerm(
        term.name, term.where, term.score, (), False, None, num, sums, None, visible, gain
    )


def _expand(weights: n.Node, terms: Mapping[n.Node, LoweredTerm]) -> tuple[n.Node, n.Node]:
    """Return the pair expression of weights and the condition under which it is not nothing."""
    done: dict[n.Node, tuple[n.Node, n.Node]] = {}
    for node in n.walk(weights):
        if node in terms:
            term = terms[node]
            value = select(term.hole("seen"), term.num)
            done[node] = (
                value if term.total is None else mul(value, term.hole("r")),
                term.hole("seen"),
            )
        elif type_of(node).weights:
            done[node] = _expand_algebra(node, done)
    return done[weights]


def _expand_algebra(
    node: n.Node, done: dict[n.Node, tuple[n.Node, n.Node]]
) -> tuple[n.Node, n.Node]:
    if isinstance(node, n.Map):
        value, seen = done[node.weights]
        return select(seen, substitute(node.body, {n.MAPPED: value})), seen
    if isinstance(node, n.Dropout):
        value, seen = done[node.weights]
        kept = call("div", value, call("sub", 1.0, node.p))
        return select(n.Keep(node.p, "bhij", node.place), kept), seen
    assert isinstance(node, n.Call)
    values = [done[arg][0] if arg in done else arg for arg in node.args]
    sides = [done[arg][1] for arg in node.args if arg in done]
    if len(sides) == 1:
        return (
            call(node.op, *values) if node.op == "neg" else select(sides[0], call(node.op, *values))
        ), sides[0]
    join = both if node.op == "mul" else either
    seen = join(sides[0], sides[1])
    assert seen is not None
    return call(node.op, *values), seen


def _single(weights: n.Node) -> bool:
    """Tell whether weights are one term times factors, and linear in a normaliser's inverse."""
    while not isinstance(weights, n.Term):
        if isinstance(weights, n.Dropout):
            weights = weights.weights
            continue
        parts = (
            [arg for arg in weights.args if type_of(arg).weights]
            if isinstance(weights, n.Call)
            else []
        )
        if len(parts) != 1:
            return False
        weights = parts[0]
    return not isinstance(weights, n.Entmax)


def _observed_row(name: str, terms: dict[str, LoweredTerm]) -> n.Node:
    what, _, term_name = name.partition(":")
    term = terms[term_name]
    m, total, sunk = term.hole("m"), term.total, ZERO
    assert total is not None, "only a softmax is observed"
    if term.sink is not None:
        sunk = call("exp", call("sub", term.sink, m))
    match what:
        case "max":
            return m
        case "sink":
            return mul(sunk, term.hole("r"))
        case "entropy":
            spent = term.hole("x")
            if term.sink is not None:
                # A sink of -inf has no weight, and 0 · -inf would be NaN.
                below = call("where", call("eq", sunk, 0), 0.0, call("sub", term.sink, m))
                spent = call("add", spent, mul(sunk, below))
            full = call("sub", call("log", total), mul(spent, term.hole("r")))
            return call("where", call("eq", total, 0), 0.0, full)
        case _:
            return call("add", m, call("log", total))
