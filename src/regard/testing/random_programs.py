"""The parts of random well-typed programs: numbers, conditions and rows, drawn by hypothesis.

Magnitudes are kept tame by a bound that every part carries, so that float64 results can be
compared closely. Data are multiples of a quarter: sums and products of them are exact, ties are
common and fall alike everywhere; what is not exact is moved off the kinks before it meets one.
Leaves to others: weights, values and what becomes of the summed row (`random_weights`), calls
(`random_calls`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from regard.lang import functions as f
from regard.lang import pair as leaves
from regard.lang import weights as w
from regard.lang.pair import Pair
from regard.lang.trace import Expr, lift
from regard.testing.inputs import Sizes

Draw = Callable[[st.SearchStrategy], Any]
# A number added before a kink to what is not exact, so that rounding decides no comparison.
OFF_THE_KINK = 0.1371
LARGEST = 6.0
INDEX_ROWS = 5


@dataclass(frozen=True)
class Part:
    """A number of a program.

    Attributes:
        expr: What is traced.
        bound: What its magnitude does not exceed.
        exact: Whether every float64 computation of it gives the same bits.
    """

    expr: Any
    bound: float
    exact: bool


class Maker:
    """Draws the parts of one program.

    Args:
        draw: Hypothesis's draw.
        pair: The pair of the program that is traced.
        sizes: The lengths of the call.
    """

    def __init__(self, draw: Draw, pair: Pair, sizes: Sizes) -> None:
        self.draw, self.pair, self.sizes = draw, pair, sizes
        self.in_score = False

    def pick(self, *choices: Any) -> Any:
        """Draw one of some choices; the first is the simplest."""
        return self.draw(st.sampled_from(choices))

    def chance(self, one_in: int) -> bool:
        """Draw true once in so many times."""
        return self.draw(st.integers(0, one_in - 1)) == one_in - 1

    # ── Integers and conditions ───────────────────────────────────────────────────────────────
    def integer(self, sides: str, depth: int) -> Expr:
        """Draw an integer that varies along "i", "j", both or neither."""
        if depth == 0 or self.chance(3):
            return self._integer_leaf(sides)
        a, b = self.integer(sides, depth - 1), self.integer(sides, depth - 1)
        n = self.pick(2, 3, 5)
        made = self.pick("sub", "add", "div", "mod", "clip", "where", "floor", "by", "abs")
        match made:
            case "add":
                return a + b
            case "sub":
                return a - b
            case "div":
                return f.floor(a) // n
            case "mod":
                return f.floor(a) % n
            case "clip":
                return f.clip(a, -n, n)
            case "where":
                return f.where(self.condition(sides, depth - 1), a, b)
            case "floor":
                return f.floor(self.off_kink(self.number(sides, depth - 1)))
            case "by":
                # A divisor that may be zero has a meaning too.
                return f.floor(a) // b if self.chance(2) else f.floor(a) % b
        return f.max(abs(f.floor(a)), 1)

    def _integer_leaf(self, sides: str) -> Expr:
        pair = self.pair
        choices: list[Any] = [pair.head, pair.heads, pair.batch, pair.keys]
        choices += [pair.i, pair.queries] if "i" in sides else []
        choices += [pair.j] if "j" in sides else []
        choices += [pair.i - pair.j] * 3 if sides == "ij" else []
        return self.pick(*choices)

    def index(self, sides: str) -> Expr:
        """Draw a place in a table, often beyond its end: what is computed, or data."""
        choices: list[Callable[[], Expr]] = [lambda: self.integer(sides, 1)] * 3
        choices += [lambda: leaves.query_feature("group")] if "i" in sides else []
        choices += [lambda: leaves.key_feature("kind")] if "j" in sides else []
        choices += [lambda: leaves.pair_input("edges")] if sides == "ij" else []
        return self.pick(*choices)()

    def condition(self, sides: str, depth: int) -> Expr:
        """Draw a condition."""
        made = self.pick("compare", "leaf", "and", "or", "not", "number", "keep")
        if sides == "ij" and self.chance(2):
            reach = self.pick(3, 1, 5)
            return self.pick(self.pair.j <= self.pair.i, abs(self.pair.i - self.pair.j) < reach)
        if depth == 0 and made in ("and", "or", "not", "number"):
            made = "compare"
        match made:
            case "and":
                return self.condition(sides, depth - 1) & self.condition(sides, depth - 1)
            case "or":
                return self.condition(sides, depth - 1) | self.condition(sides, depth - 1)
            case "not":
                return ~self.condition(sides, depth - 1)
            case "number":
                return self.number(sides, depth - 1, exact=True).expr > self.pick(0.0, 0.25, -1.0)
            case "keep":
                axes = self.pick(*(a for a in ("bh", "bhij", "ij", "j", "h") if fits(a, sides)))
                return w.keep(self.pick(0.3, leaves.scalar("drop")), axes)
            case "leaf" if sides:
                return self._condition_leaf(sides)
        a, b = self.integer(sides, 0), self.integer(sides, 0)
        order = self.pick("le", "lt", "ge", "ne", "eq")
        a = f.floor(a) + self.pick(0, 1, 2)
        return {"le": a >= b, "lt": a > b, "ge": a <= b, "ne": a != b, "eq": a == b}[order]

    def _condition_leaf(self, sides: str) -> Expr:
        choices = [leaves.table("open", per=INDEX_ROWS)[self.integer(sides, 0)]]
        choices += [leaves.query_feature("on")] if "i" in sides else []
        choices += [leaves.key_feature("real")] if "j" in sides else []
        if sides == "ij":
            choices += [leaves.pair_input("allowed")]
            choices += [leaves.query_feature("group") == leaves.key_feature("kind")]
        return self.pick(*choices)

    # ── Real numbers ──────────────────────────────────────────────────────────────────────────
    def number(self, sides: str, depth: int, exact: bool = False) -> Part:
        """Draw a real number, of moderate size."""
        if depth == 0:
            return self._number_leaf(sides)
        made = self.pick("sum", "add", "mul", "smooth", "kink", "where", "leaf", "safe", "running")
        if (
            made == "leaf"
            or (exact and made in ("smooth", "safe"))
            or (made == "sum" and not sides)
        ):
            return self._number_leaf(sides)
        if made == "sum":
            part = self.channels(sides, depth - 1)
            width = max(self.sizes.D, 2)
            part = Part(f.sum(part.expr), part.bound * width, part.exact)
            if exact and not part.exact:
                return self._number_leaf(sides)
            return self.tame(part, keep_exact=exact)
        a = self.number(sides, depth - 1, exact)
        if made == "smooth":
            return self._smooth(a)
        if made == "running":
            return self._running(a, sides, depth, exact)
        b = self.number(sides, depth - 1, exact)
        return self.tame(self._combine(made, a, b, sides, depth), keep_exact=exact)

    def _combine(self, made: str, a: Part, b: Part, sides: str, depth: int) -> Part:
        exact = a.exact and b.exact
        match made:
            case "add":
                if self.chance(2):
                    return Part(a.expr - b.expr, a.bound + b.bound, exact)
                return Part(a.expr + b.expr, a.bound + b.bound, exact)
            case "mul":
                return Part(a.expr * b.expr, a.bound * b.bound, exact)
            case "where":
                chosen = f.where(self.condition(sides, depth - 1), a.expr, b.expr)
                return Part(chosen, max(a.bound, b.bound), exact)
            case "kink":
                return self._kink(a, b)
        below = self.pick(b.expr * b.expr + 0.5, 1 + abs(self.off_kink(b)))
        made = self.pick("div", "log", "pow", "mod", "power")
        match made:
            case "div":
                return Part(a.expr / below, 2 * a.bound, False)
            case "log":
                return Part(f.log(below) + a.expr * 0, math.log(1 + b.bound * b.bound) + 1, False)
            case "pow":
                power = self.pick(2, 0.5, -1, 1.5)
                return Part((0.5 + a.expr * a.expr) ** power, (0.5 + a.bound**2) ** 2 + 2, False)
            case "power":
                return Part((0.5 + f.sigmoid(a.expr)) ** self.tame(b).expr, 1.5**LARGEST, False)
        return Part(self.off_kink(a) % 1.5, 1.5, False)

    def _running(self, a: Part, sides: str, depth: int, exact: bool) -> Part:
        """Add up a number over keys; what does not vary over them is left as it is."""
        if sides != "ij":
            return a
        where = self.condition(sides, depth - 1) if self.chance(2) else None
        total = f.running_sum(a.expr, where, reverse=self.chance(2), exclusive=self.chance(2))
        made = Part(total, a.bound * self.sizes.M, a.exact)
        return self.tame(made, keep_exact=exact)

    def _kink(self, a: Part, b: Part) -> Part:
        x, y = self.off_kink(a), b.expr
        bound = max(a.bound, b.bound) + 1
        made = self.pick("relu", "abs", "max", "min", "clip", "sign")
        if made in ("max", "min") and not (a.exact and b.exact):
            made = "relu"
        match made:
            case "abs":
                return Part(abs(x), bound, a.exact)
            case "max":
                return Part(f.max(x, y), bound, True)
            case "min":
                return Part(f.min(x, y), bound, True)
            case "clip":
                return Part(f.clip(x, -0.75, 1.0), 1.0, a.exact)
            case "sign":
                return Part(f.sign(x), 1.0, a.exact)
        return Part(f.relu(x), bound, a.exact)

    def off_kink(self, part: Part) -> Any:
        """Return a number that no rounding moves across a kink."""
        return part.expr if part.exact else part.expr + OFF_THE_KINK

    def _smooth(self, a: Part) -> Part:
        name = self.pick("tanh", "sigmoid", "erf", "sin", "cos", "softplus", "exp", "sqrt")
        if name == "exp":
            return Part(f.exp(0.5 * self.tame(a).expr), math.exp(LARGEST / 2), False)
        if name == "sqrt":
            return Part(f.sqrt(a.expr * a.expr + 0.25), a.bound + 1, False)
        bound = a.bound + 1 if name == "softplus" else 1.0
        return Part(getattr(f, name)(a.expr), bound, False)

    def tame(self, part: Part, keep_exact: bool = False) -> Part:
        """Squash a number that may be large."""
        if part.bound <= LARGEST:
            return part
        if keep_exact or self.chance(3):
            return Part(f.clip(self.off_kink(part), -4, 4), 4.0, part.exact)
        return Part(3 * f.tanh(part.expr / 4), 3.0, False)

    def _number_leaf(self, sides: str) -> Part:
        pair = self.pair
        choices: list[tuple[Any, float]] = [
            # Traced at once: ~ and comparisons of plain numbers would be Python's own.
            (Expr(lift(self.pick(0.5, -1.0, 2))), 2.0),
            (leaves.parameter("p_one"), 2.0),
            (leaves.parameter("p_head", per="head"), 2.0),
            (leaves.scalar("heat"), 2.0),
            ((pair.head - pair.heads) * 0.25, 2.0),
            (leaves.table("t", per="rows")[self.index(sides)], 2.0),
            (leaves.parameter("p_table", per=("head", INDEX_ROWS))[self.index(sides)], 2.0),
            (
                leaves.table("classes", per=(INDEX_ROWS, 3))[self.index(sides), self.index(sides)],
                2.0,
            ),
            (pair.width * 0.25, 2.0),
        ]
        if "i" in sides:
            choices += [(leaves.query_feature("fq"), 2.0), (f.clip(pair.i, -8, 8) * 0.25, 2.0)]
            choices += [(f.min(pair.visible, 8) * 0.25, 2.0)] if self.in_score else []
        if "j" in sides:
            choices += [(leaves.key_feature("fkey"), 2.0), (f.clip(pair.j, -8, 8) * 0.25, 2.0)]
        if sides == "ij":
            choices += [(leaves.pair_input("pairs"), 2.0)]
            choices += [(f.clip(pair.i - pair.j, -8, 8) * 0.25, 2.0)]
        expr, bound = self.pick(*choices)
        return Part(expr, bound, True)

    # ── Rows of channels ──────────────────────────────────────────────────────────────────────
    def channels(self, sides: str, depth: int) -> Part:
        """Draw a channel expression D wide, over the rows that the sides allow."""
        if sides != "ij":
            return self.row(sides, depth)
        a, b = self.row("i", depth), self.row("j", depth)
        made = self.pick("mul", "add", "square", "table", "scaled", "relative", "slice")
        match made:
            case "add":
                added = Part(a.expr + b.expr, a.bound + b.bound, a.exact and b.exact)
                return self._elementwise(added)
            case "square":
                less = a.expr - b.expr
                return Part(less * less, (a.bound + b.bound) ** 2, a.exact and b.exact)
            case "table":
                rows = leaves.table("rows", per=(INDEX_ROWS, "channel"))
                moved = b.expr + rows[self.index(sides)]
                return Part(a.expr * moved, a.bound * (b.bound + 2), a.exact and b.exact)
            case "relative":
                near, far = (
                    leaves.parameter(name, per=("head", INDEX_ROWS, "channel"))[self.index(sides)]
                    for name in ("near", "far")
                )
                both = a.expr * near + b.expr * far
                return Part(both, 2 * (a.bound + b.bound), a.exact and b.exact)
            case "slice":
                start = self.pick(0, 1)
                sliced = a.expr[start : start + 1] * b.expr[:1]
                return Part(sliced, a.bound * b.bound, a.exact and b.exact)
            case "scaled":
                number = self.number(sides, 1)
                product = a.expr * b.expr * number.expr
                exact = a.exact and b.exact and number.exact
                return Part(product, a.bound * b.bound * number.bound, exact)
        return Part(a.expr * b.expr, a.bound * b.bound, a.exact and b.exact)

    def row(self, side: str, depth: int) -> Part:
        """Draw a row D wide of the query's or the key's side."""
        if depth == 0 or self.chance(2):
            return Part(self._row_leaf(side), 2.0, True)
        a = self.row(side, depth - 1)
        made = self.pick(
            "rotate", "project", "norm", "scaled", "elementwise", "channel", "two", "top"
        )
        match made:
            case "scaled":
                number = self.number(side, 1)
                exact = a.exact and number.exact
                return self.tame(Part(a.expr * number.expr, a.bound * number.bound, exact))
            case "norm":
                return Part(a.expr / f.sqrt(f.sum(a.expr * a.expr) + 0.5), 1.0, False)
            case "rotate":
                pairs = self.pick("halves", "interleaved")
                return Part(f.rotate(a.expr, self._angle(side), pairs), 2 * a.bound, False)
            case "project":
                heads = ("head",) if self.chance(2) else ()
                matrix = leaves.parameter(f"m_{len(heads)}", per=(*heads, "channel", "channel"))
                bound = 2 * a.bound * self.sizes.D
                return self.tame(Part(f.project(a.expr, matrix), bound, a.exact))
            case "channel":
                weight = f.cos(leaves.channel * 0.7) + leaves.channel % 2
                return Part(a.expr * weight, 2 * a.bound, False)
            case "top" if side == "j":
                less = a.expr - f.max_over_keys(a.expr)
                return self.tame(Part(less, 2 * a.bound, a.exact))
            case "two":
                b = self.row(side, depth - 1)
                return self.tame(Part(a.expr - b.expr, a.bound + b.bound, a.exact and b.exact))
        return self._elementwise(a)

    def _row_leaf(self, side: str) -> Expr:
        weight = leaves.parameter("p_channel", per="channel")
        both = leaves.parameter("p_both", per=("head", "channel"))
        extra = {"i": leaves.query_vector("u"), "j": leaves.key_vector("x")}
        own = {"i": self.pair.q, "j": self.pair.k}
        # u and x have a width of their own, so they are brought to D.
        wide = extra[side][: self.sizes.D]
        return self.pick(own[side], own[side] * weight, own[side] + both, wide)

    def _angle(self, side: str) -> Any:
        position = {"i": self.pair.i, "j": self.pair.j}[side]
        feature = {"i": leaves.query_feature("fq"), "j": leaves.key_feature("fkey")}[side]
        speed = leaves.parameter("speed", per="channel")
        return self.pick(f.rotary(position), feature * speed, position * 0.3, feature)

    def _elementwise(self, a: Part) -> Part:
        name = self.pick("tanh", "relu", "abs", "sin", "sigmoid", "square")
        match name:
            case "relu" | "abs":
                x = self.off_kink(a)
                return Part(f.relu(x) if name == "relu" else abs(x), a.bound + 1, a.exact)
            case "square":
                return self.tame(Part(a.expr * a.expr, a.bound**2, a.exact))
        return Part(getattr(f, name)(a.expr), 1.0, False)


def fits(axes: str, sides: str) -> bool:
    """Tell whether a draw's axes are among those allowed."""
    return all(axis in "bh" + sides for axis in axes)
