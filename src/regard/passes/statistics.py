"""What is observed of the weights, as sums over keys or queries of a weight times a factor.

Before: observe moment:1 and classes:8:kind of a program whose clean weights are w.
After: Σ_j w · |i - j|, a number of the query row, and Σ_j w · columns, where the columns of a key,
told by the Hole "columns:classes:8:kind", are 1 at its class.
Leaves to others: values of softmax rows (`lower`), adding up (the backends), names (`ir/observed`).
"""

from dataclasses import dataclass, replace

from regard.ir import nodes as n
from regard.ir.observed import parse
from regard.passes.build import ONE, ZERO, call, mul, select

_SUMMED = ("mass", "moment", "classes", "received", "top")


@dataclass(frozen=True)
class Statistic:
    """A sum of weight · factor.

    Attributes:
        name: As it is asked for.
        weight: A pair expression, 0 where the pair is not seen.
        factor: A number of the pair, or, along "c", the columns of a key.
        axes: What the sum varies along; for "top" it is no sum, but weights of chosen pairs.
        seen: When a pair takes part.
        linear: Whether `weight` is the final weight before dropout.
    """

    name: str
    weight: n.Node
    factor: n.Node
    axes: str
    seen: n.Node
    linear: bool = True

    @property
    def body(self) -> n.Node:
        """What a pair adds; a factor may be NaN where the pair is not seen."""
        if self.factor is ONE:
            return self.weight
        return select(self.seen, mul(self.weight, self.factor))

    @property
    def reads_others(self) -> bool:
        """Whether the factor reads other sums, which must be known first."""
        return any(isinstance(x, n.Hole) and x.name.startswith("o:") for x in n.walk(self.factor))

    @property
    def hole(self) -> n.Hole:
        """The sum, where it varies along query rows."""
        return n.Hole(f"o:{self.name}", self.axes)

    @property
    def received(self) -> n.Node:
        """What the weight receives when the sum receives the Hole "g:" and its name."""
        if "c" in self.axes:
            return n.Reduce(mul(self.adjoint, self.factor), "c")
        return mul(self.adjoint, self.factor)

    @property
    def adjoint(self) -> n.Hole:
        """What the sum receives; of the largest weights, what the pair's does."""
        return n.Hole(f"g:{self.name}", "bhij" if self.axes == "bhik" else self.axes)

    def changed(self, change) -> "Statistic":
        """Return the same with its expressions rewritten by a function."""
        return replace(self, weight=change(self.weight), factor=change(self.factor))


def make_statistics(
    observe: tuple[str, ...], clean: n.Node, seen: n.Node, terms: dict[str, n.Node]
) -> tuple[Statistic, ...]:
    """Return the sums that what is observed takes.

    Args:
        observe: Names of `ir/observed`.
        clean: The final weight before dropout.
        seen: Whether any term sees the pair.
        terms: The weight of each term whose entropy is such a sum, by name.

    Returns:
        The statistics, each after those that its factor reads.
    """
    found = []
    for name in dict.fromkeys(observe):
        asked = parse(name)
        if asked.kind == "entropy" and asked.of in terms:
            own = n.Hole(f"seen:{asked.of}", "bhij", "bool")
            found.append(Statistic(name, _spent(terms[asked.of]), ONE, "bhi", own, linear=False))
        elif asked.kind in _SUMMED:
            found.append(Statistic(name, clean, _factor(name), asked.axes, seen))
    return tuple(sorted(found, key=lambda one: one.reads_others))


def columns_hole(name: str) -> n.Hole:
    """Return the hole of the columns of a statistic along "c"."""
    return n.Hole(f"columns:{name}", "bhjc")


def _factor(name: str) -> n.Node:
    asked = parse(name)
    if asked.kind == "classes":
        return columns_hole(name)
    if asked.kind == "moment":
        distance = call("abs", call("sub", n.Index("i"), n.Index("j")))
        if asked.size == 1:
            return distance
        away = call("sub", distance, _mean())
        return mul(away, away)
    return asked.feature or ONE


def _mean() -> n.Node:
    """Return the mean distance of a row; no gradient passes it, for at the mean it is 0."""
    total = n.Hole("o:mass", "bhi")
    empty = call("eq", total, 0)
    quotient = call("div", n.Hole("o:moment:1", "bhi"), call("where", empty, 1.0, total))
    return call("where", empty, 0.0, quotient)


def _spent(weight: n.Node) -> n.Node:
    """Return -p · log p, 0 where p is."""
    empty = call("eq", weight, 0)
    logarithm = call("log", call("where", empty, 1.0, weight))
    return call("where", empty, ZERO, call("neg", call("mul", weight, logarithm)))
