"""Linear constraints over whole numbers, and when no numbers satisfy them all.

Before: 1 + i - j <= 0, j - i <= 0.
After: adding the two gives 1 <= 0, so no i and j satisfy both.
Fourier and Motzkin's elimination, with every constraint tightened to whole numbers. It may miss a
contradiction, never invent one. Leaves to others: where constraints come from (`conditions`).
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction

# Beyond this many constraints a contradiction is no longer looked for.
_MOST = 400


class Linear:
    """A sum of whole numbers times variables, and a constant; rational factors are allowed.

    Args:
        terms: The factor of each variable.
        constant: What is added.
    """

    __slots__ = ("constant", "terms")

    def __init__(
        self,
        terms: Mapping[Hashable, Fraction | int] | None = None,
        constant: Fraction | int = 0,
    ) -> None:
        self.terms = {name: factor for name, factor in (terms or {}).items() if factor}
        self.constant = constant

    def plus(self, other: "Linear", times: Fraction | int = 1) -> "Linear":
        """Return this + times · other."""
        terms = dict(self.terms)
        for name, factor in other.terms.items():
            terms[name] = terms.get(name, 0) + times * factor
        return Linear(terms, self.constant + times * other.constant)

    def times(self, factor: Fraction | int) -> "Linear":
        """Return factor · this."""
        return Linear().plus(self, factor)

    def key(self) -> Hashable:
        """Return what is equal for equal forms."""
        return frozenset(self.terms.items()), self.constant

    def whole(self) -> "Linear":
        """Return the same with whole factors, times some number above 0."""
        numbers = [Fraction(x) for x in (*self.terms.values(), self.constant)]
        return self.times(math.lcm(*(x.denominator for x in numbers)))


def variable(name: Hashable) -> Linear:
    """Return the form that is one variable."""
    return Linear({name: 1})


def at_most(a: Linear, b: Linear) -> Linear:
    """Return the constraint a <= b, as a form that is at most 0."""
    return a.plus(b, -1).whole()


def below(a: Linear, b: Linear) -> Linear:
    """Return the constraint a < b between whole numbers, as a form that is at most 0."""
    return a.plus(b, -1).whole().plus(Linear(constant=1))


def impossible(constraints: Iterable[Linear]) -> bool:
    """Tell whether it is certain that no whole numbers satisfy all constraints.

    Args:
        constraints: Forms that are to be at most 0, with whole factors.

    Returns:
        True only if there are none; False says nothing.
    """
    rows = {row.key(): row for row in map(_tight, constraints)}
    while len(rows) <= _MOST:
        if any(not row.terms and row.constant > 0 for row in rows.values()):
            return True
        names = {name for row in rows.values() for name in row.terms}
        if not names:
            return False
        rows = _eliminate(list(rows.values()), names)
    return False


def _eliminate(rows: list[Linear], names: set[Hashable]) -> dict[Hashable, Linear]:
    """Combine constraints until the variable that costs least is gone."""

    def cost(name: Hashable) -> int:
        signs = [row.terms[name] > 0 for row in rows if name in row.terms]
        return sum(signs) * (len(signs) - sum(signs))

    name = min(names, key=cost)
    kept = [row for row in rows if name not in row.terms]
    above = [row for row in rows if row.terms.get(name, 0) > 0]
    under = [row for row in rows if row.terms.get(name, 0) < 0]
    for a in above:
        for b in under:
            joined = a.times(-b.terms[name]).plus(b, a.terms[name])
            kept.append(_tight(joined))
    return {row.key(): row for row in kept}


def _tight(row: Linear) -> Linear:
    """Divide by what the factors share, and round the constant to what whole numbers can reach."""
    shared = math.gcd(*(int(factor) for factor in row.terms.values()))
    if shared <= 1:
        return row
    terms = {name: int(factor) // shared for name, factor in row.terms.items()}
    return Linear(terms, -((-int(row.constant)) // shared))
