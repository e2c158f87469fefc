"""What an expression says once sums are multiplied out: equal forms, equal values.

Before: abs((i + s) - (j + s)) and abs(i - j); q and k turned by (i + s) · θ and (j + s) · θ.
After: the same form for both; the turned rows meet in a product that reads the difference alone.
Arithmetic is exact here, so a form speaks of programs up to rounding. Leaves to others: what is
compared (`prove`).
"""

import math
from collections.abc import Hashable
from fractions import Fraction

from regard.ir import nodes as n
from regard.ir.types import axes_of

# From each product of factors, as (number of the factor, power) pairs, to its coefficient.
Polynomial = dict[tuple[tuple[int, int], ...], Fraction]
# A sum of more products is kept as it is written.
_MOST_PRODUCTS = 100
_LARGEST_POWER = 4


class NormalForms:
    """Finds forms of expressions; those that one object found can be compared."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._found: dict[tuple[n.Node, bool], Polynomial] = {}

    def key(self, node: n.Node, raised: bool = False) -> Hashable:
        """Return what is equal for expressions of equal form.

        Args:
            node: Any expression.
            raised: Whether every position is larger by one unknown number than it is written.

        Returns:
            Something to compare.
        """
        for part in n.walk(node):
            if (part, raised) not in self._found:
                self._found[part, raised] = self._form(part, raised)
        return _key(self._found[node, raised])

    def _form(self, node: n.Node, raised: bool) -> Polynomial:
        match node:
            case n.Const():
                finite = math.isfinite(node.value)
                return _constant(Fraction(node.value)) if finite else self._factor(node)
            case n.Index(name="i" | "j"):
                own = self._factor(node)
                return _add(own, self._factor("raised by")) if raised else own
            case n.Call():
                return self._call(node, raised)
            case n.Reduce():
                turned = self._turned(node, raised)
                return self._other(node, raised) if turned is None else turned
        return self._other(node, raised)

    def _factor(self, what: Hashable) -> Polynomial:
        return {((self._numbers.setdefault(what, len(self._numbers)), 1),): Fraction(1)}

    def _other(self, node: n.Node, raised: bool) -> Polynomial:
        """Return a node of which only its parts are looked into."""

        def described(value) -> Hashable:
            if isinstance(value, n.Node):
                return "form", _key(self._found[value, raised])
            if isinstance(value, tuple):
                return tuple(described(item) for item in value)
            return type(value), repr(value)

        return self._factor((type(node), *(described(value) for value in node.fields())))

    def _call(self, node: n.Call, raised: bool) -> Polynomial:
        parts = [self._found[arg, raised] for arg in node.args]
        match node.op, parts:
            case "add", (a, b):
                return _add(a, b)
            case "sub", (a, b):
                return _add(a, b, -1)
            case "neg", (a,):
                return _add({}, a, -1)
            case "mul", (a, b) if len(a) * len(b) <= _MOST_PRODUCTS:
                return _multiply(a, b)
            case "div", (a, b) if list(b) == [()]:
                return _add({}, a, 1 / b[()])
            case "pow", (a, b) if _small_power(b) is not None and len(a) <= 4:
                return _power(a, _small_power(b) or 0)
            case (("lt" | "le" | "gt" | "ge" | "eq" | "ne"), (a, b)):
                return self._compared(node, a, b, raised)
        return self._other(node, raised)

    def _compared(self, node: n.Call, a: Polynomial, b: Polynomial, raised: bool) -> Polynomial:
        """Return a comparison as one of a difference with 0."""
        if node.op in ("gt", "ge"):
            a, b = b, a
        difference = _add(a, b, -1)
        if node.op in ("eq", "ne"):
            inner = [part.args[0] for part in node.args if isinstance(part, n.Call)]
            period = _shared_period(*node.args)
            if period is not None:
                # x % m == y % m says that m divides x - y, which is all that is kept.
                x, y = (self._found[part, raised] for part in inner)
                return self._factor((node.op, period, _unsigned(_add(x, y, -1))))
            return self._factor((node.op, _unsigned(difference)))
        strict = node.op in ("lt", "gt")
        return self._factor(("lt" if strict else "le", _key(difference)))

    def _turned(self, node: n.Reduce, raised: bool) -> Polynomial | None:
        """Return a product of two turned rows: R(α)u · R(β)w = R(α - β)u · w."""
        factors = _factors(node.body)
        turned = [x for x in factors if isinstance(x, n.Rotate)]
        rest = [x for x in factors if not isinstance(x, n.Rotate)]
        if len(turned) != 2 or any("c" in axes_of(x) for x in rest):
            return None
        first, second = sorted(turned, key=lambda x: "i" not in axes_of(x))
        if first.pairs != second.pairs:
            return None
        angle = _add(self._found[first.angle, raised], self._found[second.angle, raised], -1)
        rows = tuple(_key(self._found[part.rows, raised]) for part in (first, second))
        made = self._factor(("turned", first.pairs, rows, _key(angle)))
        for part in rest:
            made = _multiply(made, self._found[part, raised])
        return made


def _factors(node: n.Node) -> list[n.Node]:
    pending, found = [node], []
    while pending:
        part = pending.pop()
        if isinstance(part, n.Call) and part.op == "mul":
            pending.extend(part.args)
        else:
            found.append(part)
    return found


def _shared_period(*sides: n.Node) -> int | None:
    """Return m for x % m and y % m."""
    periods = [
        part.args[1].value
        for part in sides
        if isinstance(part, n.Call) and part.op == "mod" and isinstance(part.args[1], n.Const)
    ]
    same = len(periods) == 2 and periods[0] == periods[1]
    return periods[0] if same and type(periods[0]) is int and periods[0] > 0 else None


def _key(form: Polynomial) -> Hashable:
    return frozenset(form.items())


def _unsigned(form: Polynomial) -> Hashable:
    """Return what is equal for a form and its negative."""
    return frozenset((_key(form), _key(_add({}, form, -1))))


def _constant(value: Fraction) -> Polynomial:
    return {(): value} if value else {}


def _add(a: Polynomial, b: Polynomial, times: Fraction | int = 1) -> Polynomial:
    made = dict(a)
    for product, factor in b.items():
        made[product] = made.get(product, Fraction(0)) + times * factor
    return {product: factor for product, factor in made.items() if factor}


def _multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    made: Polynomial = {}
    for first, x in a.items():
        for second, y in b.items():
            powers = dict(first)
            for factor, power in second:
                powers[factor] = powers.get(factor, 0) + power
            made = _add(made, {tuple(sorted(powers.items())): x * y})
    return made


def _small_power(exponent: Polynomial) -> int | None:
    value = exponent.get((), Fraction(0))
    whole = value.denominator == 1 and 0 <= value <= _LARGEST_POWER
    return int(value) if whole and set(exponent) <= {()} else None


def _power(base: Polynomial, exponent: int) -> Polynomial:
    made = _constant(Fraction(1))
    for _ in range(exponent):
        made = _multiply(made, base)
    return made
